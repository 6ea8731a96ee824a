//! `aion-market calibrate`: what a correction of the forecasts is worth, and the correction.

use std::io::Write;
use std::path::Path;

use aion_market::calibration::{Calibrator, Evaluation, Examples, Losses, Method, Recipe, out_of_fold};
use serde::Serialize;

use crate::args::{CalibrateArgs, Family};
use crate::paint::{file_name, name};
use crate::{Failure, print, read};

/// What a calibrator of one forecaster is worth.
#[derive(Debug, Serialize)]
struct Line {
    forecaster: String,
    #[serde(flatten)]
    worth: Evaluation,
}

pub(crate) fn run(args: &CalibrateArgs) -> Result<(), Failure> {
    let recipe = Recipe::new(args.method.into());
    let mut lines = Vec::new();
    for (forecaster, p, o) in read(&args.input, &args.input.columns(), 0.0)?.events() {
        let failed = |source| Failure::Calibrate {
            forecaster: forecaster.clone(),
            source,
        };
        let worth = worth(recipe, &p, &o, usize::from(args.folds)).map_err(failed)?;
        if let Some(folder) = &args.out_dir {
            let whole = Examples::new(&p, &o).and_then(|rows| Calibrator::fit(recipe, &rows));
            save(folder, &forecaster, &whole.map_err(failed)?)?;
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
    let (p, o) = shuffled(p, o);
    let rows = Examples::new(&p, &o)?;
    let corrected = out_of_fold(recipe, &rows, folds)?;
    Ok(Evaluation {
        rows: p.len() as u64,
        before: Losses::of(&rows)?,
        after: Losses::of(&Examples::new(&corrected, &o)?)?,
    })
}

/// The same rows in an order that has nothing to do with theirs, so that a pattern of the file is no
/// pattern of the folds. Always the same order (Fisher and Yates, over SplitMix64).
fn shuffled(p: &[f64], o: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let mut rows: Vec<(f64, f64)> = p.iter().copied().zip(o.iter().copied()).collect();
    let mut state = 0_u64;
    for last in (1..rows.len()).rev() {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let draw = (u128::from(z ^ (z >> 31)) * (last as u128 + 1)) >> 64;
        rows.swap(last, draw as usize);
    }
    rows.into_iter().unzip()
}

fn save(folder: &Path, forecaster: &str, calibrator: &Calibrator) -> Result<(), Failure> {
    let path = folder.join(format!("calibrator-{}.json", file_name(forecaster)));
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
