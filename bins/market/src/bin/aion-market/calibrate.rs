//! `aion-market calibrate`: what a correction of the forecasts is worth, and the correction.

use std::io::Write;
use std::path::Path;

use aion_market::calibration::{
    Calibrator, Evaluation, Examples, Folds, Losses, Method, Recipe, out_of_fold,
};
use serde::Serialize;

use crate::args::{CalibrateArgs, Family};
use crate::paint::{FileNames, name};
use crate::{Failure, print, read};

/// Of the folds: the same rows give the same table.
const SEED: u64 = 0;

/// What a calibrator of one forecaster is worth.
#[derive(Debug, Serialize)]
struct Line {
    forecaster: String,
    #[serde(flatten)]
    worth: Evaluation,
}

pub(crate) fn run(args: &CalibrateArgs) -> Result<(), Failure> {
    let recipe = Recipe::new(args.method.into());
    let (mut lines, mut names) = (Vec::new(), FileNames::default());
    for (forecaster, p, o) in read(&args.input, &args.input.columns(), 0.0)?.events() {
        let failed = |source| Failure::Calibrate {
            forecaster: forecaster.clone(),
            source,
        };
        let worth = worth(recipe, &p, &o, usize::from(args.folds)).map_err(failed)?;
        if let Some(folder) = &args.out_dir {
            let whole = Examples::new(&p, &o).and_then(|rows| Calibrator::fit(recipe, &rows));
            save(folder, &names.of(&forecaster), &whole.map_err(failed)?)?;
        }
        lines.push(Line { forecaster, worth });
    }
    print(|out| {
        if args.input.json {
            json(out, &lines)
        } else {
            table(out, &lines)
        }
    })
}

impl From<Family> for Method {
    fn from(family: Family) -> Self {
        match family {
            Family::Temperature => Self::Temperature,
            Family::Platt => Self::Platt,
            Family::Beta => Self::Beta,
            Family::Isotonic => Self::Isotonic,
        }
    }
}

/// Losses before and after, each row corrected by a fit to the other folds.
fn worth(recipe: Recipe, p: &[f64], o: &[f64], folds: usize) -> aion_market::Result<Evaluation> {
    let rows = Examples::new(p, o)?;
    let corrected = out_of_fold(recipe, &rows, Folds::new(folds, SEED))?;
    Ok(Evaluation {
        rows: p.len() as u64,
        before: Losses::of(&rows)?,
        after: Losses::of(&Examples::new(&corrected, o)?)?,
    })
}

fn save(folder: &Path, name: &str, calibrator: &Calibrator) -> Result<(), Failure> {
    let path = folder.join(format!("calibrator-{name}.json"));
    let written = std::fs::create_dir_all(folder).and_then(|()| {
        let text = serde_json::to_string_pretty(calibrator)?;
        std::fs::write(&path, text + "\n")
    });
    written.map_err(|source| Failure::Write { path, source })
}

fn json(out: &mut impl Write, lines: &[Line]) -> std::io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, lines)?;
    writeln!(out)
}

fn table(out: &mut impl Write, lines: &[Line]) -> std::io::Result<()> {
    let names: Vec<String> = lines.iter().map(|line| name(&line.forecaster)).collect();
    let longest = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let width = longest.max("forecaster".len());
    writeln!(
        out,
        "{:width$}  {:>10}  {:>20}  {:>18}  {:>16}",
        "forecaster", "n", "log bits", "Brier", "ECE"
    )?;
    for (line, name) in lines.iter().zip(&names) {
        let (n, before, after) = (line.worth.rows, &line.worth.before, &line.worth.after);
        let loss = format!("{:.4} -> {:.4}", before.log_bits, after.log_bits);
        let brier = format!("{:.4} -> {:.4}", before.brier, after.brier);
        let ece = format!("{:.3} -> {:.3}", before.ece, after.ece);
        writeln!(out, "{name:width$}  {n:>10}  {loss:>20}  {brier:>18}  {ece:>16}")?;
    }
    Ok(())
}
