//! Beta calibration.

use super::examples::Examples;
use super::map::{Map, logs};
use super::newton::Logistic;
use super::recipe::Recipe;

/// The faces of `a, b >= 0`: what may move, and what is held at 0.
const FACES: [[bool; 3]; 4] = [
    [true, true, true],
    [true, false, true],
    [false, true, true],
    [false, false, true],
];

/// `logit q = a ln p - b ln(1 - p) + c` with `a, b >= 0`, by maximum likelihood.
///
/// The objective is convex, so its constrained minimum is the free minimum of one of the four faces
/// of `a, b >= 0`: the lowest of those that lie inside their face.
///
/// # Sources
/// M. Kull, T. M. Silva Filho and P. Flach, Beta calibration: a well-founded and easily implemented
/// improvement on logistic calibration for binary classifiers, 2017. The paper drops a parameter that
/// comes out negative; trying every face finds the constrained optimum itself.
pub(super) fn beta(recipe: &Recipe, examples: &Examples<'_>, targets: &[f64]) -> Map {
    let rows: Vec<[f64; 3]> = examples
        .p
        .iter()
        .map(|p| {
            let (ln_p, ln_rest) = logs(*p, recipe.eps);
            [ln_p, -ln_rest, 1.0]
        })
        .collect();
    let mut best = ([0.0; 3], f64::INFINITY);
    for free in FACES {
        let start = [f64::from(u8::from(free[0])), f64::from(u8::from(free[1])), 0.0];
        let face = Logistic {
            rows: &rows,
            targets,
            weights: examples.weights,
            ridge: recipe.ridge,
            centre: [1.0, 1.0, 0.0],
            free,
        };
        let (at, _) = face.solve(start, recipe.max_steps);
        let height = face.objective(&at);
        if at[0] >= 0.0 && at[1] >= 0.0 && height < best.1 {
            best = (at, height);
        }
        // Nothing is lower than the minimum of all.
        if free == FACES[0] && height == best.1 {
            break;
        }
    }
    let [a, b, c] = best.0;
    Map::Beta { a, b, c }
}
