//! The table, the JSON, and the diagrams.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;

use aion_market::diagram::{self, DiagramOptions, Series};

use crate::Failure;
use crate::tally::Scores;

/// The widest name in the table.
const MAX_NAME: usize = 40;
/// Lines in the picture of losses: the best ones.
const MAX_SERIES: usize = 7;

/// A table with the best forecaster first.
pub(crate) fn table(out: &mut impl Write, scores: &[Scores]) -> std::io::Result<()> {
    let names: Vec<String> = scores.iter().map(|row| name(&row.forecaster)).collect();
    let longest = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let width = longest.max("forecaster".len());
    writeln!(
        out,
        "{:width$}  {:>10}  {:>8}  {:>7}  {:>6}  {:>16}",
        "forecaster", "n", "log bits", "Brier", "ECE", "skill bits"
    )?;
    for (row, name) in scores.iter().zip(&names) {
        let ece = row.ece.map_or_else(|| "-".to_owned(), |ece| format!("{ece:.3}"));
        let gain = (row.skill_bits * 1e3).round() / 1e3 + 0.0;
        let skill = match row.skill_se_bits {
            // Both held impossible what happened: neither is better by any number.
            _ if gain.is_nan() => "-".to_owned(),
            Some(error) => format!("{gain:+.3} ± {error:.3}"),
            None => format!("{gain:+.3}"),
        };
        let (n, loss, brier) = (row.n, row.loss_bits, row.brier);
        writeln!(
            out,
            "{name:width$}  {n:>10}  {loss:>8.4}  {brier:>7.4}  {ece:>6}  {skill:>16}"
        )?;
    }
    Ok(())
}

/// A name in one line of bounded width.
pub(crate) fn name(text: &str) -> String {
    let shown = text.chars().take(MAX_NAME);
    shown.map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// An array of objects in the same order.
pub(crate) fn json(out: &mut impl Write, scores: &[Scores]) -> std::io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, scores)?;
    writeln!(out)
}

/// Writes `reliability-NAME.svg` of each forecaster of two outcomes, and `losses.svg` of all.
pub(crate) fn diagrams(folder: &Path, scores: &[Scores]) -> Result<(), Failure> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| Failure::Write { path, source }
    };
    std::fs::create_dir_all(folder).map_err(failed(folder))?;
    let mut names = FileNames::default();
    for row in scores {
        let Some(curve) = &row.curve else { continue };
        let file = format!("reliability-{}.svg", names.of(&row.forecaster));
        let options = DiagramOptions::new(format!("Calibration of {}", row.forecaster));
        let path = folder.join(file);
        std::fs::write(&path, diagram::reliability(curve, &options)).map_err(failed(&path))?;
    }
    let finite = scores.iter().filter(|row| row.loss_bits.is_finite());
    let series: Vec<Series> = finite
        .take(MAX_SERIES)
        .map(|row| Series::new(row.forecaster.clone(), row.path.clone()))
        .collect();
    if series.is_empty() {
        return Ok(());
    }
    let options = DiagramOptions::new("Mean log loss").with_note("over the rows so far; lower is better");
    let path = folder.join("losses.svg");
    let svg = diagram::learning(&series, "rows", "bits", &options)?;
    std::fs::write(&path, svg).map_err(failed(&path))
}

/// Names that every file system takes, that cannot leave their folder, each given once.
#[derive(Debug, Default)]
pub(crate) struct FileNames(BTreeSet<String>);

impl FileNames {
    /// The name for a forecaster's file.
    pub(crate) fn of(&mut self, forecaster: &str) -> String {
        let safe = |c: char| if c.is_alphanumeric() || c == '-' { c } else { '_' };
        let stem: String = forecaster.chars().take(50).map(safe).collect();
        let (mut name, mut number) = (stem.clone(), 1);
        while !self.0.insert(name.clone()) {
            number += 1;
            name = format!("{stem}_{number}");
        }
        name
    }
}
