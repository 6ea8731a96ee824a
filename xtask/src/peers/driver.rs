//! Talking to a driver: one JSON object a line, in and out.
//!
//! A driver first says `{"name": .., "version": ..}`. Then it answers each request line with one line: the
//! fields that the suite asks for, or `{"error": ..}`. It ends when its standard input does.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Error, Result, command};

/// What threads of linear algebra and of compiled kernels are told.
const THREAD_VARIABLES: [&str; 4] = [
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "RAYON_NUM_THREADS",
];

/// An answer without anything in it.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Nothing {}

/// A running driver.
#[derive(Debug)]
pub struct Driver {
    hello: Hello,
    child: Child,
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

/// What a driver says about itself.
#[derive(Debug, Clone, Deserialize)]
struct Hello {
    name: String,
    version: String,
}

impl Driver {
    /// Starts a driver and waits for its greeting.
    ///
    /// # Errors
    /// When it cannot be started or does not greet.
    pub fn start(command: &mut Command) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command
            .spawn()
            .map_err(|source| command::not_started(command, source))?;
        let (Some(requests), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Error::Missing("the pipes of a driver".to_owned()));
        };
        let mut answers = BufReader::new(answers);
        let hello = read_line(&mut answers, &command::shown(command))?;
        Ok(Self {
            hello,
            child,
            requests: Some(requests),
            answers,
        })
    }

    /// The same for a program whose speed is measured on so many threads, with large blocks in large pages, as numpy asks
    /// for its own arrays: all sides see the same memory.
    ///
    /// # Errors
    /// As [`Driver::start`].
    pub fn measured(command: &mut Command, threads: usize) -> Result<Self> {
        for variable in THREAD_VARIABLES {
            command.env(variable, threads.to_string());
        }
        Self::start(command.env("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1"))
    }

    /// Its name and version.
    pub fn label(&self) -> String {
        format!("{} {}", self.hello.name, self.hello.version)
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// When the driver has ended, answers an error, or answers with something else than `T`.
    pub fn ask<T: DeserializeOwned>(&mut self, request: &impl Serialize) -> Result<T> {
        let name = self.hello.name.clone();
        let json = |source| Error::Json {
            command: name.clone(),
            source,
        };
        let mut line = serde_json::to_string(request).map_err(json)?;
        line.push('\n');
        let failed = |source| Error::File {
            path: PathBuf::from(&name),
            source,
        };
        let requests = self
            .requests
            .as_mut()
            .ok_or_else(|| Error::Missing(format!("{name} has ended")))?;
        requests
            .write_all(line.as_bytes())
            .and_then(|()| requests.flush())
            .map_err(failed)?;
        let answer: Value = read_line(&mut self.answers, &name)?;
        if let Some(error) = answer.get("error") {
            return Err(Error::Missing(format!("an answer of {name}: {error}")));
        }
        serde_json::from_value(answer).map_err(json)
    }
}

impl Drop for Driver {
    /// Closes its input, which ends it, and waits.
    fn drop(&mut self) {
        drop(self.requests.take());
        drop(self.child.wait());
    }
}

fn read_line<T: DeserializeOwned>(answers: &mut impl BufRead, name: &str) -> Result<T> {
    let mut line = String::new();
    let read = answers.read_line(&mut line);
    read.map_err(|source| Error::File {
        path: PathBuf::from(name),
        source,
    })?;
    if line.is_empty() {
        return Err(Error::Missing(format!("an answer of {name}: it ended")));
    }
    serde_json::from_str(&line).map_err(|source| Error::Json {
        command: name.to_owned(),
        source,
    })
}
