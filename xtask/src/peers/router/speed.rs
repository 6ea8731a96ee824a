//! How fast: search, words, the encoder, a whole ranking, a log replayed.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Plan, Sides, Timed, overlap};
use crate::peers::Effort;
use crate::peers::row::{Better, Row, median, ratio};
use crate::{Error, Result};

/// The share of the true ten nearest that a search must find.
const OVERLAP: f64 = 0.995;
/// How far scores of the same formula may be apart, relative to the best.
const SAME_SCORE: f32 = 1e-4;

/// Times of both sides in turns, in seconds, with what was found in a first turn that warms up.
struct Turns<A, B> {
    ours: f64,
    theirs: f64,
    label: String,
    found: (Vec<A>, Vec<B>),
}

fn turns<A, B>(sides: &mut Sides, plan: Plan, ours: &Value, theirs: &Value) -> Result<Turns<A, B>>
where
    A: serde::de::DeserializeOwned,
    B: serde::de::DeserializeOwned,
{
    let with = |request: &Value, reps: usize, found: bool| {
        let mut request = request.clone();
        (request["reps"], request["found"]) = (json!(reps), json!(found));
        request
    };
    let a: Timed<A> = sides.ours(&with(ours, 1, true))?;
    let b: Timed<B> = sides.theirs(&with(theirs, 1, true))?;
    let (mut our_s, mut their_s) = (Vec::new(), Vec::new());
    let (ours, theirs) = (with(ours, plan.reps, false), with(theirs, plan.reps, false));
    for round in 0..plan.rounds {
        let (a, b): (Timed<A>, Timed<B>) = if round % 2 == 0 {
            (sides.ours(&ours)?, sides.theirs(&theirs)?)
        } else {
            let b = sides.theirs(&theirs)?;
            (sides.ours(&ours)?, b)
        };
        our_s.push(a.cpu_s);
        their_s.push(b.cpu_s);
    }
    Ok(Turns {
        ours: median(&our_s).unwrap_or(f64::NAN),
        theirs: median(&their_s).unwrap_or(f64::NAN),
        label: b.label,
        found: (a.found.unwrap_or_default(), b.found.unwrap_or_default()),
    })
}

impl<A, B> Turns<A, B> {
    fn row(&self, work: String, plan: Plan) -> Row {
        let (ours, theirs) = (self.ours * 1e3, self.theirs * 1e3);
        Row {
            work,
            peer: self.label.clone(),
            theirs: Some(theirs),
            ratio: Some(ratio(Better::Lower, ours, theirs)),
            rounds: plan.rounds,
            ..Row::alone("ms", ours)
        }
    }
}

#[derive(Deserialize)]
struct Truth {
    found: Vec<Vec<usize>>,
}

#[derive(Deserialize)]
struct Made {
    real: usize,
}

#[derive(Deserialize)]
struct Probe {
    bytes_per_s: f64,
}

/// The ten nearest of many vectors.
pub(super) fn scans(sides: &mut Sides, plan: Plan) -> Result<Vec<Row>> {
    let (sizes, real): (&[(usize, f64)], usize) = match plan.effort {
        Effort::Quick => (&[(10_000, 0.06), (100_000, 1.4)], 2_000),
        Effort::Full => (&[(10_000, 0.06), (100_000, 1.4), (1_000_000, 16.0)], 10_000),
    };
    const QUERIES: usize = 64;
    let most = sizes.iter().map(|(rows, _)| *rows).max().unwrap_or(0);
    let made: Made = sides
        .ours(&json!({ "do": "make_vectors", "rows": most, "queries": QUERIES, "real": real + QUERIES }))?;
    let of = if made.real > 0 {
        "MiniLM vectors and mixtures of them"
    } else {
        "made-up vectors"
    };
    let mut rows = Vec::new();
    for (size, goal) in sizes {
        sides.both(&json!({ "do": "load_vectors", "rows": size }))?;
        let truth: Truth = sides.theirs(&json!({ "do": "truth" }))?;
        let probe: Probe = sides.ours(&json!({ "do": "probe", "bytes": size * 384 }))?;
        let reading = size.saturating_mul(384) as f64 / probe.bytes_per_s * 1e3;
        for peer in ["faiss_sq8", "usearch_i8"] {
            let turns: Turns<Vec<usize>, Vec<usize>> = turns(
                sides,
                plan,
                &json!({ "do": "scan", "scan": "i8" }),
                &json!({ "do": "scan", "peer": peer }),
            )?;
            let (found, theirs) = (
                overlap(&turns.found.0, &truth.found),
                overlap(&turns.found.1, &truth.found),
            );
            let row = turns.row(format!("ten nearest of {size} x 384, i8, {of}"), plan);
            rows.push(Row {
                kept: Some(row.ours <= *goal && found >= OVERLAP),
                limit: format!(
                    "at most {goal} ms, overlap at least {OVERLAP}; only reading the rows: {reading:.3} ms"
                ),
                agreement: format!("overlap with f32: ours {found:.4}, theirs {theirs:.4}"),
                ..row
            });
        }
        if Some(*size) == sizes.last().map(|(rows, _)| *rows) {
            rows.push(signs(sides, plan, *size, &truth)?);
        }
    }
    Ok(rows)
}

fn signs(sides: &mut Sides, plan: Plan, size: usize, truth: &Truth) -> Result<Row> {
    let exact = json!({ "do": "scan", "scan": "i8", "reps": plan.reps, "found": false });
    let coarse = json!({ "do": "scan", "scan": "signs", "reps": plan.reps, "found": true });
    let (mut ours, mut theirs, mut found) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..plan.rounds {
        let (a, b): (Timed<Vec<usize>>, Timed<Vec<usize>>) = (sides.ours(&coarse)?, sides.ours(&exact)?);
        ours.push(a.cpu_s * 1e3);
        theirs.push(b.cpu_s * 1e3);
        found = a.found.unwrap_or_default();
    }
    let goal = (plan.effort == Effort::Full).then_some(5.5);
    let (ours, theirs) = (
        median(&ours).unwrap_or(f64::NAN),
        median(&theirs).unwrap_or(f64::NAN),
    );
    Ok(Row {
        work: format!("ten nearest of {size} x 384, signs and the best of them again"),
        peer: "our exact scan".to_owned(),
        theirs: Some(theirs),
        ratio: Some(ratio(Better::Lower, ours, theirs)),
        kept: goal.map(|goal| ours <= goal),
        limit: goal.map_or_else(String::new, |goal| format!("at most {goal} ms")),
        agreement: format!("overlap with f32: {:.4}", overlap(&found, &truth.found)),
        rounds: plan.rounds,
        ..Row::alone("ms", ours)
    })
}

/// The documents that a question finds, with their scores.
type Found = Vec<(usize, f32)>;

/// The ten best documents by BM25.
pub(super) fn words(sides: &mut Sides, plan: Plan) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (docs, goal) in [(4_894, 0.02), (100_000, 0.31)] {
        let _: Value = sides.ours(&json!({ "do": "make_words", "docs": docs, "queries": 200 }))?;
        sides.both(&json!({ "do": "load_words" }))?;
        for peer in ["numpy", "numba"] {
            let turns: Turns<Found, Found> = turns(
                sides,
                plan,
                &json!({ "do": "search" }),
                &json!({ "do": "search", "peer": peer }),
            )?;
            let row = turns.row(
                format!("BM25, ten best of {docs} documents, questions in words"),
                plan,
            );
            rows.push(Row {
                kept: Some(row.ours <= goal),
                limit: format!("at most {goal} ms; theirs starts from terms"),
                agreement: same_documents(&turns.found.0, &turns.found.1)?,
                ..row
            });
        }
    }
    Ok(rows)
}

/// The same documents but for those of equal scores; ours are shares of the best possible score.
fn same_documents(ours: &[Found], theirs: &[Found]) -> Result<String> {
    let mut equal = 0;
    for (query, (a, b)) in ours.iter().zip(theirs).enumerate() {
        let scale = a.first().zip(b.first()).map_or(1.0, |(a, b)| b.1 / a.1);
        let apart = a
            .iter()
            .zip(b)
            .find(|(a, b)| (a.1 * scale - b.1).abs() > SAME_SCORE * b.1.abs());
        if a.len() != b.len() || apart.is_some() {
            return Err(Error::Disagree {
                peer: "bm25s".to_owned(),
                what: format!("question {query}: {a:?} beside {b:?}"),
            });
        }
        equal += usize::from(a.iter().zip(b).all(|(a, b)| a.0 == b.0));
    }
    Ok(format!(
        "the same scores; the same documents in the same order for {equal} of {}, the others differ in ties",
        ours.len()
    ))
}

/// One text of 32 tokens through the sentence encoder.
pub(super) fn encoder(sides: &mut Sides, plan: Plan) -> Result<Vec<Row>> {
    const TOKENS: usize = 32;
    let _: Value = sides.ours(&json!({ "do": "make_tokens", "texts": 64, "tokens": TOKENS }))?;
    let request = json!({ "do": "embed" });
    let turns: Turns<Vec<f32>, Vec<f32>> = turns(sides, plan, &request, &request)?;
    let pairs = turns.found.0.iter().flatten().zip(turns.found.1.iter().flatten());
    let apart = pairs.fold(0.0_f32, |most, (a, b)| most.max((a - b).abs()));
    if apart > 1e-4 || apart.is_nan() || turns.found.0.len() != turns.found.1.len() {
        return Err(Error::Disagree {
            peer: turns.label,
            what: format!("vectors differ by {apart:e}"),
        });
    }
    let row = turns.row(format!("MiniLM, one text of {TOKENS} tokens"), plan);
    Ok(vec![Row {
        kept: Some(row.ours <= 7.0),
        limit: "at most 7 ms".to_owned(),
        agreement: format!("{} vectors within {apart:.0e}", turns.found.0.len()),
        ..row
    }])
}

#[derive(Deserialize)]
struct Cached {
    cpu_s: f64,
}

/// A text whose vector is there already.
pub(super) fn cache(sides: &mut Sides, plan: Plan) -> Result<Vec<Row>> {
    let found: Cached = sides.ours(&json!({ "do": "cached", "texts": 1_000, "reps": 5 * plan.reps }))?;
    let us = found.cpu_s * 1e6;
    Ok(vec![Row {
        work: "a vector from the cache".to_owned(),
        kept: Some(us <= 5.0),
        limit: "at most 5 us".to_owned(),
        ..Row::alone("us", us)
    }])
}

#[derive(Deserialize)]
struct Ranked {
    p50_s: f64,
    p99_s: f64,
    p99_wall_s: f64,
}

/// A whole ranking over six surfaces.
pub(super) fn rank(sides: &mut Sides, plan: Plan) -> Result<Vec<Row>> {
    let (items, times) = match plan.effort {
        Effort::Quick => (10_000, 300),
        Effort::Full => (10_000, 3_000),
    };
    let request = json!({ "do": "rank", "surfaces": 6, "items": items, "learned": 300, "times": times });
    let ranked: Ranked = sides.ours(&request)?;
    let p99 = ranked.p99_s * 1e3;
    Ok(vec![Row {
        work: format!("rank six surfaces of {items} items, embedding at hand, p99 of {times}"),
        kept: Some(p99 <= 2.0),
        limit: format!(
            "at most 2 ms; p50 {:.2} ms, p99 from start to end {:.2} ms",
            ranked.p50_s * 1e3,
            ranked.p99_wall_s * 1e3
        ),
        ..Row::alone("ms", p99)
    }])
}

#[derive(Deserialize)]
struct Replayed {
    per_s: f64,
    same: bool,
}

/// A log applied to an engine that has the same items.
pub(super) fn replay(sides: &mut Sides, plan: Plan) -> Result<Vec<Row>> {
    let decisions = match plan.effort {
        Effort::Quick => 2_000,
        Effort::Full => 10_000,
    };
    let found: Replayed = sides.ours(&json!({ "do": "replay", "items": 1_000, "decisions": decisions }))?;
    if !found.same {
        return Err(Error::Disagree {
            peer: "the engine that made the log".to_owned(),
            what: "the replay learned something else".to_owned(),
        });
    }
    Ok(vec![Row {
        work: format!("replay {decisions} decisions with outcomes, 1,000 items, from memory"),
        kept: Some(found.per_s >= 50_000.0),
        limit: "at least 50,000 decisions/s".to_owned(),
        agreement: "the same history as live".to_owned(),
        ..Row::alone("decisions/s", found.per_s)
    }])
}
