//! Whole columns at once, where all rows are equally wide.

use aion_market::Result;
use aion_market::batch::{BatchOptions, Categorical, DistPairs, Ensembles, Locations, Rows, Unit};

use super::table::{Lists, MAX_WIDTH, Table};
use crate::wire::columns::Rule;

/// The losses of all rows by the vector kernels. `None` where rows differ in width, or one of them is not
/// valid, or its distances overflow: going through them one by one then says which, and why.
pub(super) fn losses(table: &Table, rule: Rule, rows: usize) -> Option<Vec<f64>> {
    let mut out = vec![0.0; rows];
    let options = BatchOptions::default().with_unit(Unit::Bits);
    match rule {
        Rule::Log | Rule::Brier | Rule::Spherical | Rule::Rps => {
            let q = matrix(table.probabilities.as_ref()?)?;
            let scores = Categorical::new(q, table.outcome.as_deref()?, options).ok()?;
            categorical(rule, &scores, &mut out).ok()?;
        }
        Rule::Kl | Rule::JensenShannon | Rule::CrossEntropy => {
            let (p, q) = (table.reference.as_ref()?, table.probabilities.as_ref()?);
            let pairs = DistPairs::new(matrix(p)?, matrix(q)?, options).ok()?;
            let done = match rule {
                Rule::Kl => pairs.kl_into(&mut out),
                Rule::CrossEntropy => pairs.cross_entropy_into(&mut out),
                _ => pairs.jensen_shannon_into(&mut out),
            };
            done.ok()?;
        }
        Rule::Crps => {
            let (members, value) = (matrix(table.members.as_ref()?)?, table.value.as_deref()?);
            Ensembles::new(members, value, options)
                .ok()?
                .crps_into(&mut out)
                .ok()?;
        }
        Rule::CrpsNormal | Rule::CrpsLogistic => {
            let (location, scale) = (table.location.as_deref()?, table.scale.as_deref()?);
            let numbers = Locations::new(location, scale, table.value.as_deref()?, options).ok()?;
            let done = match rule {
                Rule::CrpsNormal => numbers.normal_crps_into(&mut out),
                _ => numbers.logistic_crps_into(&mut out),
            };
            done.ok()?;
        }
    }
    let of_numbers = matches!(rule, Rule::Crps | Rule::CrpsNormal | Rule::CrpsLogistic);
    let overflows = of_numbers && out.iter().any(|loss| !loss.is_finite());
    (!overflows).then_some(out)
}

fn categorical(rule: Rule, scores: &Categorical<'_, f64, u32>, out: &mut [f64]) -> Result<()> {
    match rule {
        Rule::Log => scores.log_score_into(out)?,
        Rule::Brier => return scores.brier_into(out),
        Rule::Rps => return scores.rps_into(out),
        _ => {
            scores.spherical_into(out)?;
            out.iter_mut().for_each(|reward| *reward -= 1.0);
        }
    }
    // Rewards, of which the best is 0 by now.
    out.iter_mut().for_each(|reward| *reward = -*reward);
    Ok(())
}

fn matrix(lists: &Lists) -> Option<Rows<'_, f64>> {
    let width = lists.width().filter(|width| (1..=MAX_WIDTH).contains(width))?;
    Rows::new(&lists.values, width).ok()
}
