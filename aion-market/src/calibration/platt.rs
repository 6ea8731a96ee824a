//! Platt scaling, and temperature scaling as the same without a constant.

use super::examples::Examples;
use super::map::{Map, logit};
use super::newton::Logistic;
use super::recipe::Recipe;

/// `logit q = a logit p + c`, by maximum likelihood.
///
/// # Sources
/// J. C. Platt, Probabilistic outputs for support vector machines, 1999; H.-T. Lin, C.-J. Lin and
/// R. C. Weng, A note on Platt's probabilistic outputs, 2007, for Newton's method with halved steps.
pub(super) fn platt(recipe: &Recipe, examples: &Examples<'_>, targets: &[f64]) -> Map {
    let rows: Vec<[f64; 2]> = examples.p.iter().map(|p| [logit(*p, recipe.eps), 1.0]).collect();
    let identity = [1.0, 0.0];
    let problem = Logistic {
        rows: &rows,
        targets,
        weights: examples.weights,
        ridge: recipe.ridge,
        centre: identity,
        free: [true; 2],
    };
    let ([a, c], _) = problem.solve(identity, recipe.max_steps);
    Map::Platt { a, c }
}

/// `logit q = a logit p` with `a = 1/T >= 0`, by maximum likelihood.
///
/// # Sources
/// C. Guo et al., On calibration of modern neural networks, 2017, for two outcomes.
pub(super) fn temperature(recipe: &Recipe, examples: &Examples<'_>, targets: &[f64]) -> Map {
    let rows: Vec<[f64; 1]> = examples.p.iter().map(|p| [logit(*p, recipe.eps)]).collect();
    let problem = Logistic {
        rows: &rows,
        targets,
        weights: examples.weights,
        ridge: recipe.ridge,
        centre: [1.0],
        free: [true],
    };
    let ([a], _) = problem.solve([1.0], recipe.max_steps);
    // The objective is convex: where its minimum is below 0, the best of the rest is 0.
    Map::Temperature { a: a.max(0.0) }
}
