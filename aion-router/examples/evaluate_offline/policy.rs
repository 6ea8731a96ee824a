//! What another policy would have been worth, from a log in which one ranking in five was left to chance.

use std::error::Error;

use aion_router::embed::embed_one;
use aion_router::ope::{OpeOptions, PolicyLog, evaluate};
use aion_router::quality::Question;
use aion_router::{
    Engine, EngineOptions, Exploration, HashingEmbedder, Item, LogEntry, Outcome, Query, Surface,
    SurfaceBudget,
};

/// Times that the set is asked.
const ROUNDS: u64 = 20;

pub(crate) fn judge(items: &[Item], questions: &[Question]) -> Result<(), Box<dyn Error>> {
    let exploration = Exploration::default().with_holdout(0.2);
    let mut engine = Engine::new(EngineOptions::default().with_exploration(exploration))?;
    for item in items {
        engine.upsert(item.clone())?;
        engine.set_vector(item.id(), &embed_one(&HashingEmbedder, &item.embedded_text())?)?;
    }
    // The policy in question never serves the order without learning.
    let (mut log, mut served) = (PolicyLog::new(None, usize::MAX), 0.0);
    for round in 0..ROUNDS {
        for question in questions {
            let query = Query::new(&question.text, 4)
                .with_surface(SurfaceBudget::new(Surface::Tool))
                .with_seed(round);
            let (shortlist, decision) =
                engine.rank(&query, Some(&embed_one(&HashingEmbedder, &question.text)?))?;
            let found = shortlist
                .picks
                .iter()
                .any(|pick| question.relevant.contains(&pick.item));
            let reward = f64::from(u8::from(found));
            served += reward;
            engine.remember(decision.clone());
            let outcome = Outcome::used(question.relevant.clone());
            engine.record(shortlist.decision, &outcome)?;
            log.read(LogEntry::Decided(Box::new(decision)));
            log.read(LogEntry::Recorded {
                decision: shortlist.decision,
                outcome,
            });
        }
    }
    let log = log.into_decisions();
    let estimate = evaluate(&log, &OpeOptions::default())?;
    println!(
        "\n{} decisions, one in five without learning: {:.3} found what was needed",
        log.len(),
        served / log.len() as f64
    );
    println!(
        "without the holdout it would have been {:.3} +- {:.3} (IPS {:.3}, as much as {:.0} decisions)",
        estimate.snips, estimate.half_width, estimate.ips, estimate.effective
    );
    Ok(())
}
