//! How good: recall, NDCG and bits on questions with known answers, items without history, strangers, budgets.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Plan, Sides};
use crate::Result;
use crate::peers::Effort;
use crate::peers::row::{Better, Row, ratio};

/// Questions that are learned from, and others that are asked.
fn counts(plan: Plan) -> (usize, usize) {
    match plan.effort {
        Effort::Quick => (500, 500),
        Effort::Full => (2_500, 2_577),
    }
}

#[derive(Deserialize)]
struct Figures {
    questions: u64,
    recall_5: f64,
    ndcg_10: f64,
    bits: f64,
}

#[derive(Deserialize)]
struct Report {
    items: usize,
    uniform_bits: f64,
    content: Figures,
    learning: Figures,
    learned: Figures,
}

#[derive(Deserialize)]
struct Theirs {
    r5: f64,
    ndcg10: f64,
}

#[derive(Deserialize)]
struct Peers {
    bm25: Theirs,
    minilm: Theirs,
    rrf: Theirs,
}

impl Peers {
    fn each(&self) -> [(&'static str, &Theirs); 3] {
        [
            ("BM25, Porter stems", &self.bm25),
            ("MiniLM", &self.minilm),
            ("reciprocal rank fusion of both, k = 60", &self.rrf),
        ]
    }
}

/// Ours and the peers on the same questions.
fn asked(sides: &mut Sides, set: &str, training: usize, asked: usize) -> Result<(Report, Peers)> {
    let request = |what: &str| json!({ "do": what, "set": set, "training": training, "asked": asked });
    let _: Value = sides.ours(&request("make_set"))?;
    let report = sides.ours(&request("quality"))?;
    let peers = sides.theirs(&json!({ "do": "quality", "set": set }))?;
    Ok((report, peers))
}

/// Rows of a figure in percent beside each peer, to be at least `goal`.
fn beside(
    work: &str,
    ours: f64,
    goal: Option<f64>,
    peers: &Peers,
    questions: u64,
    of: impl Fn(&Theirs) -> f64,
) -> Vec<Row> {
    let row = |(name, theirs): (&str, &Theirs)| Row {
        work: work.to_owned(),
        peer: name.to_owned(),
        theirs: Some(of(theirs)),
        ratio: Some(ratio(Better::Higher, ours, of(theirs))),
        kept: goal.map(|goal| ours >= goal),
        limit: goal.map_or_else(String::new, |goal| format!("at least {goal}")),
        agreement: format!("{questions} questions, the same"),
        ..Row::alone("%", ours)
    };
    peers.each().into_iter().map(row).collect()
}

fn percent(share: f64) -> f64 {
    100.0 * share
}

/// 199 tools; goals are those of the full run.
pub(super) fn metatool(sides: &mut Sides, plan: Plan) -> Result<Vec<Row>> {
    let (training, questions) = counts(plan);
    let (report, peers) = asked(sides, "metatool", training, questions)?;
    let full = |goal: f64| (plan.effort == Effort::Full).then_some(goal);
    let n = report.content.questions;
    let content = &report.content;
    let mut rows = beside(
        "MetaTool, content only, R@5",
        percent(content.recall_5),
        full(78.0),
        &peers,
        n,
        |t| t.r5,
    );
    rows.extend(beside(
        "MetaTool, content only, NDCG@10",
        percent(content.ndcg_10),
        full(70.0),
        &peers,
        n,
        |t| t.ndcg10,
    ));
    let learned = percent(report.learned.ndcg_10);
    rows.push(Row {
        work: format!(
            "MetaTool, NDCG@10 after {} interactions",
            report.learning.questions
        ),
        peer: "ours before them".to_owned(),
        theirs: Some(percent(content.ndcg_10)),
        ratio: Some(ratio(Better::Higher, learned, percent(content.ndcg_10))),
        kept: full(88.0).map(|goal| learned >= goal),
        limit: "at least 88".to_owned(),
        agreement: format!(
            "{n} questions; R@5 {:.1}, {:.3} bits",
            percent(report.learned.recall_5),
            report.learned.bits
        ),
        ..Row::alone("%", learned)
    });
    let prequential: Report = match plan.effort {
        Effort::Quick => report,
        Effort::Full => {
            sides.ours(&json!({ "do": "quality", "set": "metatool", "training": 2_577, "asked": 2_577 }))?
        }
    };
    let bits = prequential.learning.bits;
    rows.push(Row {
        work: format!(
            "MetaTool, {} items, bits a decision, each asked before it is learned from",
            prequential.items
        ),
        peer: "somebody who knows nothing".to_owned(),
        theirs: Some(prequential.uniform_bits),
        ratio: Some(ratio(Better::Lower, bits, prequential.uniform_bits)),
        kept: full(1.75).map(|goal| bits <= goal),
        limit: "at most 1.75".to_owned(),
        agreement: format!("{} decisions", prequential.learning.questions),
        ..Row::alone("bits", bits)
    });
    Ok(rows)
}

/// 1,951 functions, many nearly alike.
pub(super) fn bfcl(sides: &mut Sides, plan: Plan) -> Result<Vec<Row>> {
    let questions = match plan.effort {
        Effort::Quick => 500,
        Effort::Full => 2_351,
    };
    let (report, peers) = asked(sides, "bfcl", 1, questions)?;
    let (content, n) = (&report.content, report.content.questions);
    let goal = (plan.effort == Effort::Full).then_some(66.0);
    let mut rows = beside(
        "BFCL pooled, content only, NDCG@10",
        percent(content.ndcg_10),
        goal,
        &peers,
        n,
        |t| t.ndcg10,
    );
    rows.extend(beside(
        "BFCL pooled, content only, R@5",
        percent(content.recall_5),
        None,
        &peers,
        n,
        |t| t.r5,
    ));
    Ok(rows)
}

#[derive(Deserialize)]
struct Cold {
    learned_r5: f64,
    content_r5: f64,
    warm_r5: f64,
    questions: u64,
}

/// Every fifth tool has no history.
pub(super) fn cold(sides: &mut Sides, plan: Plan) -> Result<Vec<Row>> {
    let (training, asked) = counts(plan);
    let cold: Cold =
        sides.ours(&json!({ "do": "cold", "set": "metatool", "training": training, "asked": asked }))?;
    Ok(vec![Row {
        work: format!(
            "MetaTool, R@5 of a fifth of the items without history, {training} interactions with the others"
        ),
        peer: "ours before them".to_owned(),
        theirs: Some(cold.content_r5),
        ratio: Some(ratio(Better::Higher, cold.learned_r5, cold.content_r5)),
        kept: Some(cold.learned_r5 >= cold.content_r5),
        limit: "at least content only".to_owned(),
        agreement: format!(
            "{} questions; items with history: R@5 {:.1}",
            cold.questions, cold.warm_r5
        ),
        ..Row::alone("%", cold.learned_r5)
    }])
}

#[derive(Deserialize)]
struct Taken {
    slots: f64,
    questions: f64,
}

#[derive(Deserialize)]
struct Attack {
    encoder: Taken,
    cold: Taken,
    learned: Taken,
    strangers: usize,
}

/// One hostile description for every hundred items.
pub(super) fn poisoned(sides: &mut Sides, plan: Plan) -> Result<Vec<Row>> {
    let (_, asked) = counts(plan);
    let (learned, draws) = (1_000.min(asked * 2), 5);
    let request =
        json!({ "do": "attack", "set": "metatool", "training": learned, "asked": asked, "draws": draws });
    let found: Attack = sides.ours(&request)?;
    let row = |what: &str, ours: f64, theirs: f64, goal: f64| Row {
        work: format!("MetaTool, {} hostile descriptions: {what}", found.strangers),
        peer: "MiniLM".to_owned(),
        theirs: Some(theirs),
        ratio: Some(ratio(Better::Lower, ours, theirs)),
        kept: Some(ours <= goal),
        limit: format!("at most {goal}"),
        agreement: format!("mean of {draws} attacks on {asked} questions"),
        ..Row::alone("%", ours)
    };
    let (encoder, cold, after) = (&found.encoder, &found.cold, &found.learned);
    Ok(vec![
        row(
            "of the first five places, no history",
            cold.slots,
            encoder.slots,
            10.0,
        ),
        row(
            "questions hit, no history",
            cold.questions,
            encoder.questions,
            50.0,
        ),
        row(
            &format!("of the first five places, {learned} interactions"),
            after.slots,
            encoder.slots,
            2.0,
        ),
        row(
            &format!("questions hit, {learned} interactions"),
            after.questions,
            encoder.questions,
            10.0,
        ),
    ])
}

#[derive(Deserialize)]
struct Fitting {
    greedy: f64,
    exact: f64,
    value: f64,
}

/// What 1,200 tokens show of it.
pub(super) fn budget(sides: &mut Sides, plan: Plan) -> Result<Vec<Row>> {
    let asked = match plan.effort {
        Effort::Quick => 200,
        Effort::Full => 2_351,
    };
    let found: Fitting = sides
        .ours(&json!({ "do": "fitting", "set": "bfcl", "training": 1, "asked": asked, "budget": 1_200 }))?;
    Ok(vec![Row {
        work: "BFCL pooled, recall within 1,200 tokens".to_owned(),
        peer: "exact knapsack, same probabilities".to_owned(),
        theirs: Some(found.exact),
        ratio: Some(ratio(Better::Higher, found.greedy, found.exact)),
        kept: Some(found.greedy >= found.exact - 0.5),
        limit: "at least theirs less 0.5".to_owned(),
        agreement: format!("{:.2}% of the best possible probability", found.value),
        ..Row::alone("%", found.greedy)
    }])
}
