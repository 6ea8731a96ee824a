//! How much memory there is, and whether a model fits into it before it is loaded.

use std::path::Path;

use crate::error::{Error, Result};
use crate::options::ModelSource;

/// Bytes that this process can still take: what the system has available, or less where its control group says so.
/// None where neither is known.
pub(crate) fn available() -> Option<usize> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let system = read("/proc/meminfo").and_then(|text| mem_available(&text));
    let group = || {
        let limit = read("/sys/fs/cgroup/memory.max")?.trim().parse::<usize>().ok()?;
        let used = read("/sys/fs/cgroup/memory.current")?
            .trim()
            .parse::<usize>()
            .ok()?;
        let cached = read("/sys/fs/cgroup/memory.stat").map_or(0, |text| inactive_file(&text));
        Some(limit.saturating_sub(used.saturating_sub(cached)))
    };
    [system, group()].into_iter().flatten().min()
}

fn mem_available(meminfo: &str) -> Option<usize> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// Returns to the system what loading has freed. A tokenizer is put together from many small pieces, tens of megabytes
/// that the allocator would keep.
#[allow(unsafe_code, reason = "a function of the allocator")]
pub(crate) fn give_back() {
    // SAFETY: it may be called at any time, from any thread.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// File pages that the kernel drops when memory is short.
fn inactive_file(stat: &str) -> usize {
    let line = stat.lines().find_map(|line| line.strip_prefix("inactive_file "));
    line.and_then(|bytes| bytes.trim().parse().ok()).unwrap_or(0)
}

/// Bytes of the stored weights.
pub(crate) fn stored_bytes(source: &ModelSource) -> usize {
    let size = |path: &Path| std::fs::metadata(path).map_or(0, |meta| meta.len() as usize);
    match source {
        ModelSource::Gguf(path) => size(path),
        ModelSource::GgufBytes(bytes) => bytes.len(),
        ModelSource::HubDir(dir) => {
            let files = std::fs::read_dir(dir)
                .into_iter()
                .flatten()
                .flatten()
                .map(|file| file.path());
            files
                .filter(|path| path.extension().is_some_and(|ext| ext == "safetensors"))
                .map(|path| size(&path))
                .sum()
        }
    }
}

/// Bytes for keys and values: what was asked for, or half of what the weights leave, but no more than `most`.
///
/// # Errors
/// [`Error::OutOfMemory`] when weights and cache do not fit, before anything is loaded.
pub(crate) fn cache_budget(
    weights: usize,
    asked: Option<usize>,
    most: usize,
    available: Option<usize>,
) -> Result<usize> {
    let Some(available) = available else {
        return Ok(asked.unwrap_or(most));
    };
    let left = available.saturating_sub(weights);
    let cache = asked.unwrap_or_else(|| most.min(left / 2));
    if weights >= available || cache > left {
        return Err(Error::OutOfMemory {
            weights,
            cache,
            available,
        });
    }
    Ok(cache)
}

/// A number of bytes for people.
pub(crate) fn mib(bytes: usize) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_tables_are_read() {
        let text = "MemTotal:       24000000 kB\nMemFree: 1 kB\nMemAvailable:   1234567 kB\n";
        assert_eq!(mem_available(text), Some(1_234_567 * 1024));
        assert_eq!(mem_available("MemTotal: 1 kB"), None);
        assert_eq!(mem_available("MemAvailable: 99999999999999999999 kB"), None);
        assert_eq!(inactive_file("anon 5\ninactive_file 4096\nactive_file 7\n"), 4096);
        #[cfg(target_os = "linux")]
        assert!(available().unwrap() > 1 << 20);
    }

    #[test]
    fn what_does_not_fit_is_said_with_sizes() {
        assert_eq!(cache_budget(100, None, 1000, Some(500)).unwrap(), 200);
        assert_eq!(cache_budget(100, None, 50, Some(500)).unwrap(), 50);
        assert_eq!(cache_budget(100, Some(400), 50, Some(500)).unwrap(), 400);
        assert_eq!(cache_budget(100, None, 50, None).unwrap(), 50);
        assert!(cache_budget(500, None, 50, Some(500)).is_err());
        let error = cache_budget(3 << 20, Some(9 << 20), 0, Some(8 << 20)).unwrap_err();
        let text = error.to_string();
        assert!(
            ["3.0 MiB", "9.0 MiB", "8.0 MiB"]
                .iter()
                .all(|size| text.contains(size)),
            "{text}"
        );
    }
}
