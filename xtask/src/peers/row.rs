//! One line of a comparison.

use serde::Serialize;

/// Whether more or less of a unit is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// Such as tokens per second.
    Higher,
    /// Such as microseconds per step.
    Lower,
}

/// One work, ours and the peer's.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// What was done.
    pub work: String,
    /// In what it is measured.
    pub unit: &'static str,
    /// Our median.
    pub ours: f64,
    /// The peer and its version; `none` where there is none.
    pub peer: String,
    /// The peer's median.
    pub theirs: Option<f64>,
    /// Above 1 means that ours is better.
    pub ratio: Option<f64>,
    /// What the ratio should become.
    pub goal_ratio: Option<f64>,
    /// Whether a goal is kept; `None` where there is none.
    pub kept: Option<bool>,
    /// What our number must keep to, or what the machine allows, in words.
    pub limit: String,
    /// How far both computed the same, in words.
    pub agreement: String,
    /// Threads that each side used.
    pub threads: usize,
    /// Rounds that each side ran.
    pub rounds: usize,
}

impl Row {
    /// A number of ours without a peer, in one thread and one round.
    pub fn alone(unit: &'static str, ours: f64) -> Self {
        Self {
            work: String::new(),
            unit,
            ours,
            peer: "none".to_owned(),
            theirs: None,
            ratio: None,
            goal_ratio: None,
            kept: None,
            limit: String::new(),
            agreement: "-".to_owned(),
            threads: 1,
            rounds: 1,
        }
    }

    /// The same, with `kept` said where the ratio has a goal.
    #[must_use]
    pub fn judged(self) -> Self {
        let by_ratio = self.ratio.zip(self.goal_ratio).map(|(ratio, goal)| ratio >= goal);
        Self {
            kept: self.kept.or(by_ratio),
            ..self
        }
    }
}

/// The ratio in which above 1 means that ours is better.
///
/// ```
/// use xtask::peers::row::{Better, ratio};
/// assert_eq!(ratio(Better::Higher, 50.0, 100.0), 0.5);
/// assert_eq!(ratio(Better::Lower, 50.0, 100.0), 2.0);
/// ```
pub fn ratio(better: Better, ours: f64, theirs: f64) -> f64 {
    match better {
        Better::Higher => ours / theirs,
        Better::Lower => theirs / ours,
    }
}

/// The median; the mean of the middle two for an even count. `None` for no values.
///
/// ```
/// assert_eq!(xtask::peers::row::median(&[3.0, 1.0, 2.0]), Some(2.0));
/// assert_eq!(xtask::peers::row::median(&[4.0, 1.0]), Some(2.5));
/// ```
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        count if count % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

/// The rows as a Markdown table.
pub fn table(rows: &[Row]) -> String {
    let mut text = String::from(
        "| work | unit | ours | peer | theirs | ratio | goal | kept | limit | agreement | threads | rounds |\n\
         |---|---|---:|---|---:|---:|---:|---|---|---|---:|---:|\n",
    );
    for row in rows {
        let Row {
            work,
            unit,
            ours,
            peer,
            limit,
            agreement,
            threads,
            rounds,
            ..
        } = row;
        let (theirs, ratio, goal) = (shown(row.theirs), shown(row.ratio), shown(row.goal_ratio));
        let kept = match row.kept {
            None => "-",
            Some(true) => "kept",
            Some(false) => "MISSED",
        };
        text.push_str(&format!(
            "| {work} | {unit} | {} | {peer} | {theirs} | {ratio} | {goal} | {kept} | {limit} | {agreement} | {threads} | {rounds} |\n",
            shown(Some(*ours)),
        ));
    }
    text
}

fn shown(value: Option<f64>) -> String {
    match value {
        Some(value) if value.is_finite() => figures(value),
        _ => "-".to_owned(),
    }
}

fn figures(value: f64) -> String {
    match value {
        value if value.abs() >= 100.0 => format!("{value:.0}"),
        value if value.abs() >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.3}"),
    }
}
