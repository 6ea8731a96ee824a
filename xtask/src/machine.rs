//! What a number was measured on: cores, SIMD level, load, and what a durable write costs.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::{Error, Result};

/// The machine, as far as numbers depend on it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Machine {
    /// The processor's name.
    pub cpu: String,
    /// Hardware threads that this process may use.
    pub cores: usize,
    /// The best vector instructions that the processor has.
    pub simd: &'static str,
    /// Load average of the last minute when the run began.
    pub load_1min: f64,
    /// Operating system and architecture.
    pub platform: String,
}

impl Machine {
    /// Looks at this machine.
    pub fn probe() -> Self {
        Self {
            cpu: cpu_name().unwrap_or_else(|| "unknown".to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            simd: simd_level(),
            load_1min: load_1min().unwrap_or(f64::NAN),
            platform: format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH),
        }
    }

    /// One line for the head of a table.
    pub fn line(&self) -> String {
        let Self {
            cpu,
            cores,
            simd,
            load_1min,
            platform,
        } = self;
        format!("{cpu}, {cores} cores, {simd}, load {load_1min:.2}, {platform}")
    }
}

fn cpu_name() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn load_1min() -> Option<f64> {
    std::fs::read_to_string("/proc/loadavg")
        .ok()?
        .split(' ')
        .next()?
        .parse()
        .ok()
}

#[cfg(target_arch = "x86_64")]
fn simd_level() -> &'static str {
    if std::arch::is_x86_feature_detected!("avx512vnni") {
        "avx512-vnni"
    } else if std::arch::is_x86_feature_detected!("avx512f") {
        "avx512"
    } else if std::arch::is_x86_feature_detected!("avx2") {
        "avx2"
    } else {
        "sse2"
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn simd_level() -> &'static str {
    if cfg!(target_arch = "aarch64") {
        "neon"
    } else {
        "none"
    }
}

/// The median time of a 4 KiB append with `fdatasync` under `dir`: what durability costs here at least.
///
/// # Errors
/// When the file cannot be written.
pub fn fsync_p50(dir: &Path) -> Result<Duration> {
    const ROUNDS: usize = 31;
    let path = dir.join(format!("fsync-probe-{}", std::process::id()));
    let failed = |source| Error::File {
        path: path.clone(),
        source,
    };
    let mut file = std::fs::File::create(&path).map_err(failed)?;
    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let started = Instant::now();
        file.write_all(&[7u8; 4096])
            .and_then(|()| file.sync_data())
            .map_err(failed)?;
        times.push(started.elapsed());
    }
    std::fs::remove_file(&path).map_err(failed)?;
    times.sort_unstable();
    Ok(times[ROUNDS / 2])
}
