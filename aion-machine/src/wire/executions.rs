//! Executions: what is started, what a stream tells, how it ends.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Content;
use crate::{
    Captured, Ending, Enforcement, Error, ExecLimits, ExecOutput, ExecRequest, NetworkDecision,
    NetworkRequest, RelPath, Result, Tier,
};

/// `POST /v1/executions`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Start {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// The directory to start in, from the workspace root.
    #[serde(default = "RelPath::root")]
    pub cwd: RelPath,
    /// Variables to set.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// What the program reads on its standard input.
    #[serde(default)]
    pub stdin: Content,
    /// What it may use.
    #[serde(default)]
    pub limits: ExecLimits,
    /// How much of what it wrote last is kept for those who follow it; the server's choice if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay_bytes: Option<usize>,
    /// What it wants of the network that the operator allows.
    #[serde(default)]
    pub network: NetworkRequest,
}

impl From<ExecRequest> for Start {
    fn from(request: ExecRequest) -> Self {
        Self {
            argv: request.argv,
            cwd: request.cwd,
            env: request.env,
            stdin: Content::of(&request.stdin),
            limits: request.limits,
            replay_bytes: Some(request.replay_bytes),
            network: request.network,
        }
    }
}

impl Start {
    /// As the trait has it.
    ///
    /// # Errors
    /// If the input is not base64.
    pub fn into_request(self) -> Result<ExecRequest> {
        let request = ExecRequest::new(self.argv)
            .with_cwd(self.cwd)
            .with_stdin(self.stdin.into_bytes()?)
            .with_limits(self.limits)
            .with_network(self.network);
        let request = match self.replay_bytes {
            Some(bytes) => request.with_replay_bytes(bytes),
            None => request,
        };
        let env = self.env.into_iter();
        Ok(env.fold(request, |request, (name, value)| request.with_env(name, value)))
    }
}

/// The answer to `POST /v1/executions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Started {
    /// By which it is followed and killed.
    pub id: String,
}

/// An event `stdout` or `stderr` of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Wrote {
    /// How many bytes of that stream came before.
    pub offset: u64,
    /// What.
    #[serde(flatten)]
    pub content: Content,
}

/// An event `omitted` of a stream: these bytes cannot be had any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Omitted {
    /// Where to they were written.
    pub stream: crate::OutputStream,
    /// How many bytes of that stream came before.
    pub offset: u64,
    /// How many are missing.
    pub bytes: u64,
}

/// The ends of an output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Ends {
    /// The first bytes.
    pub head: Content,
    /// The last bytes, as far as they are not in `head`.
    #[serde(default)]
    pub tail: Content,
    /// How many bytes there were in all.
    pub total_bytes: u64,
}

impl From<&Captured> for Ends {
    fn from(captured: &Captured) -> Self {
        Self {
            head: Content::of(&captured.head),
            tail: Content::of(&captured.tail),
            total_bytes: captured.total_bytes,
        }
    }
}

impl Ends {
    fn into_captured(self) -> Result<Captured> {
        let (head, tail) = (self.head.into_bytes()?, self.tail.into_bytes()?);
        if ((head.len() + tail.len()) as u64) > self.total_bytes {
            return Err(Error::invalid("an output has less bytes than its ends"));
        }
        Ok(Captured {
            head,
            tail,
            total_bytes: self.total_bytes,
        })
    }
}

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Ended {
    /// The exit code, unless a signal ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// Who or what ended it.
    pub ending: Ending,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// Standard output.
    pub stdout: Ends,
    /// Standard error.
    pub stderr: Ends,
    /// The tier that held.
    pub tier: Tier,
    /// What held it in.
    pub enforcement: Enforcement,
    /// What it asked of the network.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub network: Vec<NetworkDecision>,
}

impl From<&ExecOutput> for Ended {
    fn from(output: &ExecOutput) -> Self {
        Self {
            exit_code: output.exit_code,
            signal: output.signal,
            ending: output.ending,
            duration_ms: output.duration_ms,
            stdout: (&output.stdout).into(),
            stderr: (&output.stderr).into(),
            tier: output.enforcement.tier(),
            enforcement: output.enforcement.clone(),
            network: output.network.clone(),
        }
    }
}

impl Ended {
    /// As the trait has it.
    ///
    /// # Errors
    /// If an output is not as it can be.
    pub fn into_output(self) -> Result<ExecOutput> {
        Ok(ExecOutput {
            exit_code: self.exit_code,
            signal: self.signal,
            ending: self.ending,
            stdout: self.stdout.into_captured()?,
            stderr: self.stderr.into_captured()?,
            duration_ms: self.duration_ms,
            enforcement: self.enforcement,
            network: self.network,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_and_captures_are_checked() {
        assert!(Content::Base64("?".into()).into_bytes().is_err());
        assert_eq!(Content::of(b"\xFFa").into_bytes().unwrap(), b"\xFFa");
        let ends = Ends {
            head: Content::of(b"abc"),
            tail: Content::default(),
            total_bytes: 2,
        };
        assert!(ends.into_captured().is_err());
    }
}
