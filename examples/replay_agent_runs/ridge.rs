//! Which rule for the ridge of the regressions the history speaks for.
//!
//! The history is replayed once for each rule, its own last trial in the place of the scored one. What is
//! scored afterwards takes no part in the choice.

use std::path::Path;
use std::sync::Arc;

use aion_market::evaluate::losses_bits;
use aion_market::predict::logistic::Ridge;
use aion_processor::Processor;
use aion_types::ForecasterId;

use crate::predictors::SHARES;
use crate::runs::Run;
use crate::{Failure, Feed, observe, record};

/// Chosen anew at every fit by what forecast later rows from earlier ones, or always the same.
const RULES: [(&str, Ridge); 6] = [
    ("chosen at every fit", Ridge::Chosen),
    ("1", Ridge::Fixed(1.0)),
    ("10", Ridge::Fixed(10.0)),
    ("30", Ridge::Fixed(30.0)),
    ("100", Ridge::Fixed(100.0)),
    ("1000", Ridge::Fixed(1_000.0)),
];

/// The rule that lost least on the last trial of `history`; the first one where there are no two trials.
pub(crate) async fn choose(dir: &Path, history: &[Run]) -> Result<Ridge, Failure> {
    let trials = history.iter().map(|run| run.trial);
    let (Some(first), Some(last)) = (trials.clone().min(), trials.max()) else {
        return Ok(Ridge::Chosen);
    };
    if first == last {
        return Ok(Ridge::Chosen);
    }
    let (processor, tasks) = record::record(&dir.join("history.db"), history).await?;
    println!("ridge, by the last trial of the history: bits after a quarter, half and all of the messages");
    let mut best: Option<(Ridge, f64)> = None;
    for (n, (name, rule)) in RULES.into_iter().enumerate() {
        let feed = Arc::new(Feed(Processor::over(processor.clone())));
        let database = dir.join(format!("history-market-{n}.db"));
        let reports = observe(feed, &database, &tasks, history, rule).await?;
        let inner = reports.iter().zip(history).filter(|(_, run)| run.trial == last);
        let inner: Vec<_> = inner.map(|(report, _)| report.clone()).collect();
        let mut bits = Vec::new();
        for percent in SHARES {
            let losses = losses_bits(&ForecasterId::new(format!("logistic_{percent}"))?, &inner);
            let losses: Option<Vec<f64>> = losses.into_iter().collect();
            let losses = losses.ok_or("a regression was silent")?;
            bits.push(losses.iter().sum::<f64>() / losses.len() as f64);
        }
        println!("  {name:<20} {:.3}  {:.3}  {:.3}", bits[0], bits[1], bits[2]);
        let sum = bits.iter().sum();
        if best.is_none_or(|(_, least)| sum < least) {
            best = Some((rule, sum));
        }
    }
    processor.close().await;
    let (rule, _) = best.ok_or("there is no rule")?;
    println!("the least sum has {rule:?}\n");
    Ok(rule)
}
