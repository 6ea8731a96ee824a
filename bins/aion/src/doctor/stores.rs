//! The databases: each is opened as a copy, by its own store, so that looking changes nothing.

use std::fs;
use std::path::{Path, PathBuf};

use aion_loop::store::SqliteLoopStore;
use aion_market::SqliteMarketStore;
use aion_processor::Processor;
use aion_router::SqliteRouterStore;
use aion_trust::SqliteLedgerStore;

use super::Finding;

/// Larger files are not copied to be looked at.
const MAX_BYTES: u64 = 256 << 20;

/// One finding for each database that is there.
pub(super) async fn databases(data: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, file) in [
        ("tasks", "processor.db"),
        ("market", "market.db"),
        ("trust", "trust.db"),
        ("runs", "loop.db"),
        ("catalog", "router.db"),
    ] {
        let path = data.join(file);
        if path.exists() {
            findings.push(look(name, &path).await);
        }
    }
    findings
}

async fn look(name: &'static str, path: &Path) -> Finding {
    let bytes = fs::metadata(path).map_or(0, |meta| meta.len());
    if bytes > MAX_BYTES {
        return Finding::ok(name, format!("{bytes} bytes, too many to look into"));
    }
    let copy = match Copy::of(path) {
        Ok(copy) => copy,
        Err(error) => {
            return Finding::fail(
                name,
                format!("{}: {error}", path.display()),
                "check who may read it",
            );
        }
    };
    match open(name, &copy.file).await {
        Ok(()) => Finding::ok(name, format!("{bytes} bytes, schema {}", version(path))),
        Err(reason) => Finding::fail(
            name,
            format!("{}: {reason}", path.display()),
            "use the program that wrote it, or move the file away",
        ),
    }
}

async fn open(name: &str, path: &Path) -> Result<(), String> {
    let said = |error: &dyn std::error::Error| aion_service::chain(error);
    match name {
        "tasks" => Processor::open(path).await.map(drop).map_err(|e| said(&e)),
        "market" => SqliteMarketStore::open(path)
            .await
            .map(drop)
            .map_err(|e| said(&e)),
        "trust" => SqliteLedgerStore::open(path)
            .await
            .map(drop)
            .map_err(|e| said(&e)),
        "catalog" => SqliteRouterStore::open(path)
            .await
            .map(drop)
            .map_err(|e| said(&e)),
        _ => SqliteLoopStore::open(path).await.map(drop).map_err(|e| said(&e)),
    }
}

/// `user_version`, from the file's header (SQLite file format, section 1.3).
fn version(path: &Path) -> String {
    let head = fs::read(path).unwrap_or_default();
    match head.get(60..64).and_then(|bytes| bytes.try_into().ok()) {
        Some(bytes) => u32::from_be_bytes(bytes).to_string(),
        None => "unknown".to_owned(),
    }
}

/// A database and its log, copied; gone with this value.
struct Copy {
    dir: PathBuf,
    file: PathBuf,
}

impl Copy {
    fn of(path: &Path) -> std::io::Result<Self> {
        let name = path.file_name().unwrap_or_default();
        let dir = std::env::temp_dir().join(format!(
            "aion-doctor-{}-{}",
            std::process::id(),
            name.to_string_lossy()
        ));
        fs::create_dir_all(&dir)?;
        let copy = Self {
            file: dir.join(name),
            dir,
        };
        fs::copy(path, &copy.file)?;
        let log = with_suffix(path, "-wal");
        if log.exists() {
            fs::copy(log, with_suffix(&copy.file, "-wal"))?;
        }
        Ok(copy)
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.dir);
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    #[tokio::test]
    async fn a_sound_database_passes_and_a_foreign_file_fails() {
        let dir = tempfile::tempdir().unwrap();
        assert!(databases(dir.path()).await.is_empty());
        drop(
            SqliteLedgerStore::open(dir.path().join("trust.db"))
                .await
                .unwrap(),
        );
        fs::write(
            dir.path().join("market.db"),
            "this is no database, whatever its name says",
        )
        .unwrap();
        let found = databases(dir.path()).await;
        let verdicts: Vec<_> = found
            .iter()
            .map(|finding| (finding.name, finding.verdict))
            .collect();
        assert_eq!(verdicts, [("market", Verdict::Fail), ("trust", Verdict::Ok)]);
    }

    #[tokio::test]
    async fn a_database_of_a_newer_program_fails() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trust.db");
        SqliteLedgerStore::open(&path).await.unwrap().close().await;
        let mut bytes = fs::read(&path).unwrap();
        bytes[60..64].copy_from_slice(&9_999u32.to_be_bytes());
        fs::write(&path, bytes).unwrap();
        let found = databases(dir.path()).await;
        assert_eq!(found[0].verdict, Verdict::Fail, "{:?}", found[0]);
    }
}
