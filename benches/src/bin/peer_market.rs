//! Our market as a driver of `cargo xtask peers market`.
//!
//! One JSON object a line. `{"make": dir, "seed", ..}` writes the arrays and `{"load": dir}` reads them;
//! `{"work", "simd", "threads", "reps", "out"}` is answered with the smallest `cpu_s` and `wall_s` of that many passes, and the
//! results go to the file `out` where there is one; `{"only_move": work, "threads", "reps"}` with the times of passes that
//! read and write the same bytes and compute nothing; `{"probe_threads", "bytes"}` with what the memory can do;
//! `{"quote_outcomes"}` with the `ns` of a quote; `{"replay", "bets"}` with the `seconds` of a recorded market.

use std::error::Error;
use std::hint::black_box;
use std::path::PathBuf;

use aion_benches::arrays::{Arrays, Sizes, write_floats};
use aion_benches::bets::{self, Bets};
use aion_benches::driver;
use aion_benches::kernels::{Kernels, Times, Work};
use aion_benches::memory::{copy_bytes_per_s, fastest, read_bytes_per_s};
use aion_market::batch::SimdLevel;
use aion_market::maker::Lmsr;
use aion_types::PpmDist;
use serde::Deserialize;
use serde_json::{Value, json};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[derive(Deserialize)]
#[serde(untagged)]
enum Request {
    Make {
        make: PathBuf,
        seed: u64,
        pairs: usize,
        fours: usize,
        ensembles: usize,
        examples: usize,
    },
    Load {
        load: PathBuf,
    },
    Pass {
        work: Work,
        simd: Option<Simd>,
        threads: usize,
        reps: usize,
        out: Option<PathBuf>,
    },
    Move {
        only_move: Work,
        threads: usize,
        reps: usize,
    },
    Probe {
        probe_threads: usize,
        bytes: usize,
    },
    Quote {
        quote_outcomes: usize,
    },
    Replay {
        replay: Medium,
        bets: usize,
    },
}

/// Instructions other than the best.
#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Simd {
    Avx2,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Medium {
    Memory,
    Sqlite,
}

fn main() -> Result<()> {
    let mut kernels = None;
    driver::serve("aion-market", env!("CARGO_PKG_VERSION"), |request| {
        answer(&mut kernels, request)
    })
}

fn answer(kernels: &mut Option<Kernels>, request: Request) -> Result<Value> {
    match request {
        Request::Make {
            make,
            seed,
            pairs,
            fours,
            ensembles,
            examples,
        } => {
            let sizes = Sizes {
                pairs,
                fours,
                ensembles,
                examples,
            };
            Arrays::make(seed, &sizes).write(&make)?;
            Ok(json!({}))
        }
        Request::Load { load } => {
            *kernels = Some(Kernels::new(Arrays::read(&load)?));
            Ok(json!({}))
        }
        Request::Pass {
            work,
            simd,
            threads,
            reps,
            out,
        } => {
            let kernels = loaded(kernels)?;
            let level = simd.map_or_else(SimdLevel::detect, |Simd::Avx2| SimdLevel::Avx2);
            let times = kernels.measure(work, level, threads, reps)?;
            told(kernels, times, out)
        }
        Request::Move {
            only_move,
            threads,
            reps,
        } => {
            let kernels = loaded(kernels)?;
            let times = kernels.only_move(only_move, threads, reps)?;
            told(kernels, times, None)
        }
        Request::Probe { probe_threads, bytes } => Ok(json!({
            "read_bytes_per_s": read_bytes_per_s(probe_threads, bytes),
            "copy_bytes_per_s": copy_bytes_per_s(probe_threads, bytes),
        })),
        Request::Quote { quote_outcomes } => Ok(json!({ "ns": quote_ns(quote_outcomes)? })),
        Request::Replay { replay, bets } => replayed(replay, bets),
    }
}

fn loaded(kernels: &mut Option<Kernels>) -> Result<&mut Kernels> {
    kernels.as_mut().ok_or_else(|| "no arrays are loaded".into())
}

fn told(kernels: &Kernels, times: Times, out: Option<PathBuf>) -> Result<Value> {
    if let Some(path) = out {
        write_floats(&path, kernels.results())?;
    }
    let label = format!("aion-market {}", env!("CARGO_PKG_VERSION"));
    Ok(json!({ "label": label, "cpu_s": times.cpu_s, "wall_s": times.wall_s }))
}

/// A purchase of one outcome, quoted from the shares that are out: every outcome has its exponential.
fn quote_ns(outcomes: usize) -> Result<f64> {
    const QUOTES: u32 = 200_000;
    let prior: Vec<f64> = (0..outcomes).map(|at| 1.0 + (at * 7_919 % 101) as f64).collect();
    let maker = Lmsr::open(&PpmDist::from_weights(&prior)?, 100_000_000)?;
    let mut order = vec![0; outcomes];
    order[outcomes / 2] = 10_000_000;
    let mut cost_micro = 0;
    let (cpu, _) = fastest(3, || {
        for _ in 0..QUOTES {
            cost_micro = black_box(&maker).quote(black_box(&order)).unwrap_or(0);
        }
    });
    if cost_micro <= 0 {
        return Err("a purchase costs something".into());
    }
    Ok(cpu.as_secs_f64() * 1e9 / f64::from(QUOTES))
}

fn replayed(medium: Medium, count: usize) -> Result<Value> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let bets = Bets::new(count)?;
    let took = match medium {
        Medium::Memory => bets.fold(&runtime.block_on(bets.events())?)?,
        Medium::Sqlite => {
            let dir = tempfile::tempdir()?;
            runtime.block_on(async { bets.make(&bets::sqlite_market(dir.path()).await?).await })?
        }
    };
    Ok(json!({ "seconds": took.as_secs_f64(), "bets": count, "batch": bets::BATCH }))
}
