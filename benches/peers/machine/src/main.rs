//! diffy as a driver of `cargo xtask peers machine`.
//!
//! `{"old": file, "new": file, "reps"}` is answered with the smallest `s` of processor time of that many diffs, and
//! the unified `text`.

use std::hint::black_box;
use std::io::{BufRead, Write};
use std::path::PathBuf;

use rustix::time::{ClockId, clock_gettime};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Request {
    old: PathBuf,
    new: PathBuf,
    reps: usize,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", json!({ "name": "diffy", "version": "0.5.2" }))?;
    out.flush()?;
    for line in std::io::stdin().lock().lines() {
        let answer = answer(&line?).unwrap_or_else(|error| json!({ "error": error.to_string() }));
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    Ok(())
}

fn answer(line: &str) -> Result<Value, Box<dyn std::error::Error>> {
    let request: Request = serde_json::from_str(line)?;
    let (old, new) = (
        std::fs::read_to_string(request.old)?,
        std::fs::read_to_string(request.new)?,
    );
    let mut best = f64::INFINITY;
    let mut text = String::new();
    for _ in 0..request.reps.max(1) {
        let started = cpu_s();
        text = diffy::create_patch(black_box(&old), black_box(&new)).to_string();
        best = best.min(cpu_s() - started);
    }
    Ok(json!({ "s": best, "text": text }))
}

fn cpu_s() -> f64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec as f64 + now.tv_nsec as f64 * 1e-9
}
