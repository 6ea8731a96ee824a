//! `aion doctor`: what is there, what is missing, and what to do about it.

mod host;
mod stores;

use std::fmt;
use std::path::PathBuf;

use aion_machine::RunAs;
use serde::Serialize;

use crate::model::ModelCache;

/// How one check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// All is well.
    Ok,
    /// It works, with less than it could have.
    Warn,
    /// Something that `aion demo` needs is missing.
    Fail,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
        })
    }
}

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub name: &'static str,
    /// How it came out.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What to do, unless all is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

impl Finding {
    pub(crate) fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self {
            name,
            verdict: Verdict::Ok,
            found: found.into(),
            advice: None,
        }
    }

    pub(crate) fn warn(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            name,
            verdict: Verdict::Warn,
            found: found.into(),
            advice: Some(advice.into()),
        }
    }

    pub(crate) fn fail(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Fail,
            ..Self::warn(name, found, advice)
        }
    }
}

/// The whole report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether nothing failed.
    pub healthy: bool,
    /// Version of this program.
    pub version: &'static str,
    /// Every check.
    pub findings: Vec<Finding>,
}

impl Report {
    fn new(findings: Vec<Finding>) -> Self {
        Self {
            healthy: findings.iter().all(|f| f.verdict != Verdict::Fail),
            version: env!("CARGO_PKG_VERSION"),
            findings,
        }
    }
}

/// What to look at.
#[derive(Debug, Clone)]
pub struct DoctorOptions {
    /// The data directory.
    pub data: PathBuf,
    /// Who the programs of tasks are.
    pub run_as: RunAs,
    /// The model cache.
    pub cache: ModelCache,
    /// The address that `aion up` will listen on.
    pub listen: std::net::SocketAddr,
}

/// Looks at everything; leaves nothing behind.
pub async fn examine(options: &DoctorOptions) -> Report {
    let mut findings = vec![
        host::processor(),
        host::memory(),
        host::model(&options.cache),
        host::python(&options.cache),
        host::data_directory(&options.data),
        host::port(options.listen),
        host::git(),
        host::sandbox(options.run_as).await,
    ];
    findings.extend(stores::databases(&options.data).await);
    Report::new(findings)
}

/// The report for people.
pub fn as_text(report: &Report) -> String {
    let mut text = String::new();
    for finding in &report.findings {
        text.push_str(&format!(
            "{:>4}  {:<9} {}\n",
            finding.verdict.to_string(),
            finding.name,
            finding.found
        ));
        if let Some(advice) = &finding.advice {
            text.push_str(&format!("                -> {advice}\n"));
        }
    }
    text.push_str(match report.healthy {
        true => "everything that `aion demo` needs is here",
        false => "something is missing: see the lines with FAIL",
    });
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failure_makes_the_report_unhealthy_and_a_warning_does_not() {
        let warn = Finding::warn("a", "b", "c");
        assert!(Report::new(vec![warn.clone()]).healthy);
        assert!(!Report::new(vec![warn, Finding::fail("a", "b", "c")]).healthy);
    }
}
