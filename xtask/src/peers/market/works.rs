//! The works of the suite: what is computed, beside whom, and what the ratio should be.

/// Rows of a pair of a probability and an outcome.
pub const PAIRS: usize = 1 << 22;
/// Rows with four outcomes.
pub const FOURS: usize = 1 << 21;
/// Rows with an ensemble of sixteen members.
pub const ENSEMBLES: usize = 1 << 19;
/// Rows of the logistic regression, with sixteen features.
pub const EXAMPLES: usize = 100_000;

/// The largest relative difference of two results of the same formula.
const SAME: f64 = 1e-12;

/// Who answers for a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// `benches/peers/market/market.py`.
    Python,
    /// `benches/peers/market/src/main.rs`.
    Rust,
}

/// A peer of a work.
#[derive(Debug, Clone, Copy)]
pub struct Contest {
    /// Who answers.
    pub side: Side,
    /// Its name there.
    pub peer: &'static str,
    /// The goal for the ratio with AVX-512, and with AVX2.
    pub goals: Option<(f64, f64)>,
    /// The largest difference that is still the same answer.
    pub tolerance: f64,
}

/// A work.
#[derive(Debug, Clone, Copy)]
pub struct Work {
    /// Its name in the protocol.
    pub name: &'static str,
    /// Its name in the table.
    pub title: &'static str,
    /// How many rows it has.
    pub rows: usize,
    /// Bytes that a row moves, and whether a share of the memory's speed is a goal.
    pub traffic: Option<(usize, f64)>,
    /// How its speed is told.
    pub unit: Unit,
    /// Beside whom.
    pub contests: &'static [Contest],
}

/// How a speed is told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Unit {
    /// Millions of rows in a second.
    MegaRows,
    /// Milliseconds for all rows, of which at most this many should be used.
    Millis(f64),
}

const fn python(peer: &'static str, goals: Option<(f64, f64)>, tolerance: f64) -> Contest {
    Contest {
        side: Side::Python,
        peer,
        goals,
        tolerance,
    }
}

const fn rust(peer: &'static str, goals: Option<(f64, f64)>, tolerance: f64) -> Contest {
    Contest {
        side: Side::Rust,
        ..python(peer, goals, tolerance)
    }
}

/// Both goals alike.
const fn both(goal: f64) -> Option<(f64, f64)> {
    Some((goal, goal))
}

const fn work(name: &'static str, title: &'static str, rows: usize, contests: &'static [Contest]) -> Work {
    Work {
        name,
        title,
        rows,
        traffic: None,
        unit: Unit::MegaRows,
        contests,
    }
}

/// The same with a share of the memory's speed as a goal, at so many bytes a row.
const fn at_memory_speed(work: Work, bytes: usize) -> Work {
    Work {
        traffic: Some((bytes, 0.7)),
        ..work
    }
}

/// Every work that has a peer, in the order of the table. Where a peer checks its input, ours does so too.
pub const WORKS: [Work; 11] = [
    at_memory_speed(
        work(
            "log_score",
            "log score of a pair",
            PAIRS,
            &[
                python("numpy", Some((6.0, 3.0)), SAME),
                python("numpy in place", None, SAME),
            ],
        ),
        17,
    ),
    work(
        "checked_log_score",
        "log score of a pair, checked",
        PAIRS,
        &[python("scoringrules", None, SAME)],
    ),
    work(
        "mean_log_score",
        "mean log score of pairs, checked",
        PAIRS,
        &[python("scikit-learn", both(40.0), SAME)],
    ),
    work(
        "kl",
        "KL, K=4",
        FOURS,
        &[
            python("numpy", Some((3.0, 1.5)), SAME),
            python("numpy in blocks", None, SAME),
            python("scipy", both(8.0), SAME),
        ],
    ),
    work(
        "checked_kl",
        "KL, K=4, ours checked",
        FOURS,
        &[python("numpy", None, SAME)],
    ),
    at_memory_speed(
        work(
            "brier",
            "Brier, K=4",
            FOURS,
            &[
                python("numpy", both(8.0), SAME),
                python("numpy in blocks", None, SAME),
            ],
        ),
        41,
    ),
    at_memory_speed(
        work(
            "rps",
            "RPS, K=4, theirs checked",
            FOURS,
            &[python("scoringrules", both(30.0), SAME)],
        ),
        41,
    ),
    work(
        "checked_rps",
        "RPS, K=4, checked",
        FOURS,
        &[python("scoringrules", both(30.0), SAME)],
    ),
    work(
        "crps",
        "CRPS, 16 members",
        ENSEMBLES,
        &[python("scoringrules", Some((8.0, 6.0)), SAME)],
    ),
    work(
        "checked_crps",
        "CRPS, 16 members, ours checked",
        ENSEMBLES,
        &[python("scoringrules", None, SAME)],
    ),
    Work {
        unit: Unit::Millis(25.0),
        ..work(
            "logistic",
            "logistic fit, 100,000 x 16, L2 of 1",
            EXAMPLES,
            &[
                python("scikit-learn exact", None, 1e-6),
                python("scikit-learn", both(1.0), 1e-2),
                rust("linfa", None, 1e-6),
                rust("smartcore", None, 1e-6),
            ],
        )
    },
];
