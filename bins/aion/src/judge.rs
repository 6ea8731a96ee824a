//! The check that decides a task: a command in the sandbox, in the task's own directory.

use std::sync::{Arc, Mutex, PoisonError};

use aion_loop::{Error, Judge, Outcome, Verdict};
use aion_machine::{ExecLimits, ExecRequest, LocalMachine, Machine, RelPath, Tier, WorkspaceSpec};
use aion_types::{Json, TaskRecord};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

/// How long a check may take, in milliseconds.
const CHECK_MS: u64 = 60_000;
/// How much of its output is kept, in bytes.
const OUTPUT_BYTES: usize = 4 << 10;

/// How a check ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckReport {
    /// The command.
    pub command: String,
    /// Whether it ended with 0.
    pub passed: bool,
    /// Its exit code, unless a signal or the time ended it.
    pub exit_code: Option<i32>,
    /// What it printed, cut.
    pub output: String,
    /// How long it took.
    pub duration_ms: u64,
    /// What held it in.
    pub confinement: Tier,
}

impl CheckReport {
    /// Why it failed, in one line.
    fn reason(&self) -> String {
        let end = match self.exit_code {
            Some(code) => format!("the check ended with {code}"),
            None => "the check was ended".to_owned(),
        };
        let last = self.output.lines().rev().find(|line| !line.trim().is_empty());
        last.map_or(end.clone(), |line| format!("{end}: {}", line.trim()))
    }
}

/// Runs the command `check` of a task's payload; exit code 0 is success.
#[derive(Debug, Clone)]
pub struct CheckJudge {
    machine: LocalMachine,
    last: Arc<Mutex<Option<CheckReport>>>,
}

impl CheckJudge {
    /// Checks directories of this machine.
    pub fn new(machine: LocalMachine) -> Self {
        Self {
            machine,
            last: Arc::default(),
        }
    }

    /// How the last check ended.
    pub fn last(&self) -> Option<CheckReport> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn check(&self, cwd: &str, command: &str) -> aion_machine::Result<CheckReport> {
        let work = self
            .machine
            .open(&WorkspaceSpec::new(RelPath::parse(cwd)?))
            .await?;
        let limits = ExecLimits::default()
            .with_wall_ms(CHECK_MS)
            .with_output_bytes(OUTPUT_BYTES, OUTPUT_BYTES);
        let ran = work.exec(ExecRequest::shell(command).with_limits(limits)).await?;
        Ok(CheckReport {
            command: command.to_owned(),
            passed: ran.success(),
            exit_code: ran.exit_code,
            output: format!("{}{}", ran.stdout.text(), ran.stderr.text()),
            duration_ms: ran.duration_ms,
            confinement: ran.enforcement.tier(),
        })
    }
}

#[async_trait]
impl Judge for CheckJudge {
    async fn judge(&self, task: &TaskRecord, _outcome: Option<&Outcome>) -> Result<Verdict, Error> {
        let text = |key: &str| task.payload.get(key).and_then(Json::as_str);
        let (Some(cwd), Some(command)) = (text("cwd"), text("check")) else {
            return Err(Error::Judge("the task has no check".to_owned()));
        };
        let report = self
            .check(cwd, command)
            .await
            .map_err(|error| Error::Judge(aion_service::chain(&error)))?;
        let verdict = if report.passed {
            Verdict::Success {
                result: Json::object([("check", Json::from(command)), ("exit_code", Json::from(0))]),
            }
        } else {
            Verdict::Failure {
                reason: report.reason(),
            }
        };
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(report);
        Ok(verdict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(exit_code: Option<i32>, output: &str) -> CheckReport {
        CheckReport {
            command: "test".into(),
            passed: exit_code == Some(0),
            exit_code,
            output: output.into(),
            duration_ms: 1,
            confinement: Tier::Namespaces,
        }
    }

    #[test]
    fn a_failure_says_what_the_check_printed_last() {
        assert_eq!(
            report(Some(2), "a\nwrong sum\n\n").reason(),
            "the check ended with 2: wrong sum"
        );
        assert_eq!(report(None, "").reason(), "the check was ended");
    }
}
