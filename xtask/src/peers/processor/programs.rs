//! The drivers, started when they are first needed, and the directories of turns.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tempfile::TempDir;

use crate::peers::driver::Driver;
use crate::peers::{python, rust_peer};
use crate::{Error, Result};

const PEER_PACKAGES: [&str; 3] = ["honker==0.2.4", "procrastinate==3.10.0", "psycopg[binary]==3.3.9"];

/// Whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Program {
    Ours,
    /// Ours behind HTTP.
    Served,
    /// apalis-sqlite, graphile_worker, SKIP LOCKED.
    Queues,
    Effectum,
    /// honker, procrastinate.
    Python,
}

/// The drivers of a run.
pub(super) struct Programs {
    root: PathBuf,
    ours: Driver,
    others: [(Program, Option<Driver>); 4],
}

#[derive(Serialize)]
struct Database {
    database: &'static str,
}

#[derive(Deserialize)]
struct Made {
    url: Option<String>,
}

impl Programs {
    /// Builds and starts ours.
    pub(super) fn prepare(root: &Path) -> Result<Self> {
        let ours = crate::peers::release_binary(
            root,
            "peer-processor",
            &["--no-default-features", "--features", "processor"],
        )?;
        Ok(Self {
            root: root.to_owned(),
            ours: Driver::start(&mut Command::new(ours))?,
            others: [
                Program::Served,
                Program::Queues,
                Program::Effectum,
                Program::Python,
            ]
            .map(|program| (program, None)),
        })
    }

    /// Asks one of them, which is built and started if it was not yet.
    pub(super) fn ask<T: DeserializeOwned>(&mut self, program: Program, request: &Value) -> Result<T> {
        let place = self.others.iter_mut().find(|(other, _)| *other == program);
        let Some((_, driver)) = place else {
            return self.ours.ask(request);
        };
        match driver {
            Some(driver) => driver.ask(request),
            None => driver.insert(start(&self.root, program)?).ask(request),
        }
    }

    /// An empty Postgres database; none where no server was named.
    pub(super) fn make_database(&mut self) -> Result<Option<String>> {
        let made: Made = self.ours.ask(&Database { database: "make" })?;
        Ok(made.url)
    }

    pub(super) fn drop_database(&mut self) -> Result<()> {
        let _: Made = self.ours.ask(&Database { database: "drop" })?;
        Ok(())
    }
}

fn start(root: &Path, program: Program) -> Result<Driver> {
    let peers = root.join("benches/peers/processor");
    let mut command = match program {
        Program::Served => {
            let features = ["--no-default-features", "--features", "served"];
            Command::new(crate::peers::release_binary(root, "peer-served", &features)?)
        }
        Program::Queues => Command::new(rust_peer(root, "processor/queues")?),
        Program::Effectum => Command::new(rust_peer(root, "processor/effectum")?),
        Program::Python | Program::Ours => {
            let mut python = Command::new(python::interpreter("processor", &PEER_PACKAGES)?);
            python.arg(peers.join("queues.py"));
            python
        }
    };
    Driver::start(&mut command)
}

/// An empty directory in another one, for as long as a turn lasts.
pub(super) fn turn(scratch: &TempDir) -> Result<TempDir> {
    tempfile::tempdir_in(scratch.path()).map_err(|source| Error::File {
        path: scratch.path().to_owned(),
        source,
    })
}
