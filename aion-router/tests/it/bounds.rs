//! What is remembered has its limits, and a replay keeps to the same ones.

use aion_router::{
    Engine, EngineOptions, Error, HistoryOptions, ItemId, LogEntry, Outcome, Query, Surface, SurfaceBudget,
    Weights,
};

use crate::fixture::{query, tools};

fn engine(options: &EngineOptions) -> Engine {
    let mut engine = Engine::new(options.clone()).unwrap();
    for item in tools() {
        engine.upsert(item).unwrap();
    }
    engine
}

fn id(name: &str) -> ItemId {
    ItemId::new(format!("tool:{name}")).unwrap()
}

/// Ids that nobody has heard of make room for each other, and not for what is used again and again.
#[test]
fn invented_ids_do_not_pile_up() {
    let history = HistoryOptions::default().with_items(32);
    let options = EngineOptions::default().with_history(history);
    let (mut live, mut replayed) = (engine(&options), engine(&options));
    for n in 0..400 {
        let asked = query("read a file", 50)
            .with_seed(n)
            .with_recent(vec![id(&format!("before_{n}"))]);
        let (shortlist, decision) = live.rank(&asked, None).unwrap();
        let entry = LogEntry::Decided(Box::new(decision));
        let used = [id("read_file"), id(&format!("invented_{n}"))];
        let outcome = Outcome::used(used);
        live.apply(entry.clone());
        live.record(shortlist.decision, &outcome).unwrap();
        replayed.apply(entry);
        replayed.apply(LogEntry::Recorded {
            decision: shortlist.decision,
            outcome,
        });
        if n == 200 {
            let learned = replayed.history().to_bytes().unwrap();
            replayed.restore(&learned).unwrap();
        }
    }
    assert_eq!(live.history(), replayed.history());
    assert_eq!(live.history().uses(&id("read_file")), 400);
    let known = (0..400).filter(|n| live.history().uses(&id(&format!("invented_{n}"))) > 0);
    let known: Vec<i32> = known.collect();
    assert!(known.len() < 34 && known.contains(&399), "{known:?}");
}

/// Few large decisions wait where many small ones would.
#[test]
fn large_decisions_wait_in_smaller_numbers() {
    let options = EngineOptions::default().with_candidates(100);
    let mut engine = engine(&options);
    let mut decisions = Vec::new();
    for seed in 0..10 {
        let (shortlist, decision) = engine
            .rank(&query("read a file", 50).with_seed(seed), None)
            .unwrap();
        assert_eq!(decision.surfaces[0].candidates.len(), 24);
        engine.remember(decision);
        decisions.push(shortlist.decision);
    }
    let outcome = Outcome::used([id("read_file")]);
    let told = |engine: &mut Engine, decision| engine.record(decision, &outcome).map(drop);
    for decision in &decisions[..6] {
        assert_eq!(
            told(&mut engine, *decision),
            Err(Error::UnknownDecision(*decision))
        );
    }
    for decision in &decisions[6..] {
        assert_eq!(told(&mut engine, *decision), Ok(()));
    }
    // What was told makes room.
    let asked = Query::new("read a file", 50).with_surface(SurfaceBudget::new(Surface::Tool));
    let (_, decision) = engine.rank(&asked, None).unwrap();
    let first = decision.id;
    engine.remember(decision);
    assert!(engine.explain(first).is_some());
    assert_eq!(engine.history().start(), &Weights::default());
}
