//! What a forecaster means when he says 0.9: `cargo run -p aion-examples --example calibrate [FOLDER]`
//!
//! Expect: every method takes bits off the loss on tasks that it has not seen, the one of two
//! parameters as much as any; asked to grade its own homework, a calibrator refuses; read back from
//! JSON it has the same digest. Two diagrams are written to the folder, or beside temporary files.
#![allow(clippy::print_stdout)]

use std::path::PathBuf;

use aion_market::calibration::{Calibrator, Examples, Losses, Method, Recipe};
use aion_market::diagram::{self, DiagramOptions};
use aion_market::reliability::{Binning, Reliability};

const METHODS: [Method; 4] = [Method::Temperature, Method::Platt, Method::Beta, Method::Isotonic];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let tasks: Vec<Task> = (0..1_200).map(Task::new).collect();
    let (past, future) = tasks.split_at(800);
    let [past, future] = [past, future].map(Rows::of);
    let (train, test) = (past.examples()?, future.examples()?);

    let before = Losses::of(&test)?;
    println!("method         bits   Brier  calibration error");
    print_row("as said", before);
    let mut best: Option<(Calibrator, f64)> = None;
    for method in METHODS {
        let fit = Calibrator::fit(Recipe::new(method), &train)?;
        let after = fit.evaluate(&test)?.after;
        print_row(&format!("{method:?}").to_lowercase(), after);
        if best.as_ref().is_none_or(|(_, bits)| after.log_bits < *bits) {
            best = Some((fit, after.log_bits));
        }
    }
    let Some((best, _)) = best else {
        return Ok(());
    };
    println!(
        "\na forecast of 0.90 stands for {:.2}, one of 0.10 for {:.2}",
        best.apply(0.9)?,
        best.apply(0.1)?
    );
    if let Err(refused) = best.evaluate(&train) {
        println!("asked about its own rows: {refused}");
    }
    let saved = serde_json::to_string(&best)?;
    let read: Calibrator = serde_json::from_str(&saved)?;
    println!(
        "saved and read back: the same, {}",
        read.digest()? == best.digest()?
    );

    let mut calibrated = vec![0.0; future.said.len()];
    best.apply_into(&future.said, &mut calibrated)?;
    write("before.svg", "As said", &future.said, &future.happened)?;
    write("after.svg", "Calibrated", &calibrated, &future.happened)
}

/// A task of an agent: how sure he was, and whether it succeeded.
struct Task {
    name: String,
    said: f64,
    happened: f64,
}

impl Task {
    /// He says twice the log-odds that he should, and is a little too hopeful; golden ratios in place
    /// of dice.
    fn new(i: u32) -> Self {
        let dice = |step: f64| (f64::from(i) * step).fract();
        let said = 0.02 + 0.96 * dice(0.618_033_988_75);
        let truth = 1.0 / (1.0 + (-0.5 * (said / (1.0 - said)).ln() + 0.3).exp());
        Self {
            name: format!("task-{i}"),
            said,
            happened: f64::from(u8::from(dice(0.754_877_666_25) < truth)),
        }
    }
}

/// The same, column by column.
struct Rows {
    names: Vec<String>,
    said: Vec<f64>,
    happened: Vec<f64>,
}

impl Rows {
    fn of(tasks: &[Task]) -> Self {
        Self {
            names: tasks.iter().map(|task| task.name.clone()).collect(),
            said: tasks.iter().map(|task| task.said).collect(),
            happened: tasks.iter().map(|task| task.happened).collect(),
        }
    }

    fn examples(&self) -> aion_market::Result<Examples<'_>> {
        Examples::new(&self.said, &self.happened)?.with_keys(&self.names)
    }
}

fn print_row(name: &str, losses: Losses) {
    let Losses {
        log_bits, brier, ece, ..
    } = losses;
    println!("{name:<12} {log_bits:>6.3}  {brier:>6.4}  {ece:>6.3}");
}

fn write(name: &str, title: &str, p: &[f64], o: &[f64]) -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args()
        .nth(1)
        .map_or_else(std::env::temp_dir, PathBuf::from);
    let curve = Reliability::binned(p, o, Binning::EqualMass(10))?;
    std::fs::create_dir_all(&folder)?;
    let path = folder.join(format!("aion-calibrate-{name}"));
    std::fs::write(&path, diagram::reliability(&curve, &DiagramOptions::new(title)))?;
    println!("wrote {}", path.display());
    Ok(())
}
