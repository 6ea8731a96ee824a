//! linfa and smartcore as a driver of `cargo xtask peers market`.
//!
//! One JSON object a line: greets, then answers `{"load": dir}` after reading the arrays, and
//! `{"work": "logistic", "peer", "reps", "out"}` with `{"label", "cpu_s", "wall_s"}`: the smallest times of `reps`
//! fits of the same rows with an L2 penalty of 1 on the weights. Where `out` is given, the weights and the intercept
//! go there as 64-bit floats.

use std::error::Error;
use std::io::{BufRead, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use linfa::DatasetBase;
use linfa::traits::Fit;
use ndarray::{Array1, Array2};
use serde::Deserialize;
use serde_json::{Value, json};
use smartcore::linalg::basic::arrays::Array as _;
use smartcore::linalg::basic::matrix::DenseMatrix;
use smartcore::linear::logistic_regression::{LogisticRegression as Smart, LogisticRegressionParameters};

const FEATURES: usize = 16;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[derive(Deserialize)]
#[serde(untagged)]
enum Request {
    Load { load: String },
    Fit { peer: String, reps: usize, out: Option<String> },
}

/// The rows in the form that each library wants; making it is in no measured time.
struct Arrays {
    linfa: DatasetBase<Array2<f64>, Array1<u8>>,
    smart_x: DenseMatrix<f64>,
    smart_y: Vec<u8>,
}

fn main() -> Result<()> {
    let mut arrays = None;
    say(&json!({ "name": "Rust crates", "version": "release" }))?;
    for line in std::io::stdin().lock().lines() {
        let answered = serde_json::from_str(&line?)
            .map_err(Into::into)
            .and_then(|request| answer(&mut arrays, request));
        say(&answered.unwrap_or_else(|error| json!({ "error": error.to_string() })))?;
    }
    Ok(())
}

fn say(document: &Value) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{document}")?;
    Ok(out.flush()?)
}

fn answer(arrays: &mut Option<Arrays>, request: Request) -> Result<Value> {
    match request {
        Request::Load { load } => {
            *arrays = Some(Arrays::read(Path::new(&load))?);
            Ok(json!({}))
        }
        Request::Fit { peer, reps, out } => {
            let arrays = arrays.as_ref().ok_or("no arrays are loaded")?;
            let (label, fit): (_, fn(&Arrays) -> Result<Vec<f64>>) = match peer.as_str() {
                "linfa" => ("linfa-logistic 0.8.1", linfa_fit),
                "smartcore" => ("smartcore 0.7.0", smartcore_fit),
                _ => return Err(format!("no peer is named {peer}").into()),
            };
            measure(arrays, label, fit, reps, out.as_deref())
        }
    }
}

fn measure(
    arrays: &Arrays,
    label: &str,
    fit: fn(&Arrays) -> Result<Vec<f64>>,
    reps: usize,
    out: Option<&str>,
) -> Result<Value> {
    let (mut cpu, mut wall) = (Duration::MAX, Duration::MAX);
    for rep in 0..reps {
        let (cpu_start, wall_start) = (cpu_time(), Instant::now());
        let coefficients = fit(arrays)?;
        (cpu, wall) = (cpu.min(cpu_time() - cpu_start), wall.min(wall_start.elapsed()));
        if let (0, Some(path)) = (rep, out) {
            let bytes: Vec<u8> = coefficients.iter().flat_map(|value| value.to_le_bytes()).collect();
            std::fs::write(path, bytes)?;
        }
    }
    Ok(json!({ "label": label, "cpu_s": cpu.as_secs_f64(), "wall_s": wall.as_secs_f64() }))
}

/// The processor time of this process.
fn cpu_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec as u32)
}

impl Arrays {
    fn read(dir: &Path) -> Result<Self> {
        let x: Vec<f64> = std::fs::read(dir.join("x.f64"))?
            .as_chunks()
            .0
            .iter()
            .map(|bytes| f64::from_le_bytes(*bytes))
            .collect();
        let y = std::fs::read(dir.join("t.u8"))?;
        let records = Array2::from_shape_vec((y.len(), FEATURES), x.clone())?;
        Ok(Self {
            linfa: DatasetBase::new(records, Array1::from_vec(y.clone())),
            smart_x: DenseMatrix::new(y.len(), FEATURES, x, false)?,
            smart_y: y,
        })
    }
}

/// linfa calls the more frequent class the positive one; the signs are for class 1 here.
fn linfa_fit(arrays: &Arrays) -> Result<Vec<f64>> {
    let fitted = linfa_logistic::LogisticRegression::default()
        .alpha(1.0)
        .max_iterations(1000)
        .gradient_tolerance(1e-4)
        .fit(&arrays.linfa)?;
    let sign = if fitted.labels().pos.class == 1 { 1.0 } else { -1.0 };
    let weights = fitted.params().iter().copied();
    Ok(weights
        .chain([fitted.intercept()])
        .map(|value| sign * value)
        .collect())
}

fn smartcore_fit(arrays: &Arrays) -> Result<Vec<f64>> {
    let options = LogisticRegressionParameters::default().with_alpha(1.0);
    let fitted = Smart::fit(&arrays.smart_x, &arrays.smart_y, options)?;
    let weights = fitted.coefficients().iterator(0);
    Ok(weights.chain(fitted.intercept().iterator(0)).copied().collect())
}
