//! Laws of scoring rules, batches, skill and Metaculus scores.

use aion_market::clip::Clamped;
use aion_market::interval::{Coverage, Interval, interval_score, pinball};
use aion_market::score::metaculus::{
    Period, Question, TimedForecast, baseline_over_time, peer_over_time, spot_baseline, spot_peer,
};
use aion_market::score::skill::{Skill, skill_score};
use aion_market::score::{self, Brier, Log, Orientation, Rps, ScoringRule, Spherical};
use aion_market::{Error, Target, divergence};
use proptest::collection::vec;
use proptest::prelude::*;

const RULES: [&dyn ScoringRule; 4] = [&Log, &Brier, &Rps, &Spherical];

fn normalised(weights: &[f64]) -> Vec<f64> {
    weights.iter().map(|w| w / weights.iter().sum::<f64>()).collect()
}

fn dist(n: usize) -> impl Strategy<Value = Vec<f64>> {
    vec(1e-3..1.0_f64, n).prop_map(|weights| normalised(&weights))
}

/// Larger is better.
fn reward(rule: &dyn ScoringRule, q: &[f64], belief: &[f64]) -> f64 {
    let expected = rule.expected(q, belief).unwrap();
    match rule.orientation() {
        Orientation::Reward => expected,
        Orientation::Loss => -expected,
    }
}

/// Every distribution over three outcomes in twentieths.
fn simplex() -> impl Iterator<Item = [f64; 3]> {
    (0..=20_u8).flat_map(|i| (0..=20 - i).map(move |j| [i, j, 20 - i - j].map(|part| f64::from(part) / 20.0)))
}

/// P15: every rule is strictly proper on a grid of three outcomes: whoever believes a point of it
/// expects the most by reporting that very point.
#[test]
fn every_rule_is_strictly_proper_on_a_grid() {
    let points: Vec<[f64; 3]> = simplex().collect();
    assert_eq!(points.len(), 231);
    for rule in RULES {
        for belief in &points {
            let honest = reward(rule, belief, belief);
            for report in points.iter().filter(|report| *report != belief) {
                let other = reward(rule, report, belief);
                assert!(honest > other, "{} of {report:?} for {belief:?}", rule.name());
            }
        }
    }
}

/// The linear score is not proper: the test above would notice.
#[test]
fn an_improper_rule_is_found_out() {
    let belief = [0.6, 0.3, 0.1];
    assert!(simplex().any(|q| reward(&Linear, &q, &belief) > reward(&Linear, &belief, &belief)));
}

/// Interval scores and pinball losses have their least expectation at the quantiles.
#[test]
fn quantile_losses_are_least_at_the_quantiles() {
    let atoms: Vec<f64> = (0..=100).map(f64::from).collect();
    let expected = |of: &dyn Fn(f64) -> f64| atoms.iter().map(|y| of(*y)).sum::<f64>();
    let best = |of: &dyn Fn(f64) -> f64| {
        (0..=100)
            .map(f64::from)
            .min_by(|a, b| of(*a).total_cmp(&of(*b)))
            .unwrap()
    };
    let decile = best(&|x| expected(&|y| pinball(x, 0.1, y).unwrap()));
    assert_eq!(decile, 10.0);
    let upper =
        best(&|u| expected(&|y| interval_score(Interval::new(10.0, 10.0 + u).unwrap(), 0.2, y).unwrap()));
    assert_eq!(10.0 + upper, 90.0);
}

#[test]
fn a_mixture_is_scored_as_the_market_resolved_it() {
    let target = Target::outcome(1, 3).unwrap();
    for rule in RULES {
        let q = [0.2, 0.5, 0.3];
        let against = rule.against(&q, &target).unwrap();
        assert!(
            (against - rule.score(&q, 1).unwrap()).abs() < 1e-15,
            "{}",
            rule.name()
        );
        assert!(rule.against(&[0.5, 0.5], &target).is_err());
    }
    // What has no share cannot cost infinitely much.
    assert_eq!(Log.expected(&[1.0, 0.0], &[1.0, 0.0]).unwrap(), 0.0);
    assert_eq!(Log.expected(&[1.0, 0.0], &[0.9, 0.1]).unwrap(), f64::NEG_INFINITY);
}

/// The linear score: not proper, and without a kernel.
#[derive(Debug)]
struct Linear;

impl ScoringRule for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn orientation(&self) -> Orientation {
        Orientation::Reward
    }

    fn of_outcome(&self, q: &[f64], y: usize) -> f64 {
        q[y]
    }
}

#[test]
fn a_batch_names_its_first_bad_row_and_writes_nothing() {
    let mut out = [7.0; 3];
    let good = [0.5, 0.5, 0.2, 0.8, 1.0, 0.0];
    let rules = RULES.into_iter().chain([&Linear as &dyn ScoringRule]);
    for rule in rules.clone() {
        rule.score_into(&good, 2, &[0, 1, 0], &mut out).unwrap();
        for (row, score) in out.iter().enumerate() {
            let alone = rule.score(&good[2 * row..2 * row + 2], [0, 1, 0][row]).unwrap();
            assert!((score - alone).abs() < 1e-15, "{}", rule.name());
        }
    }
    let untouched = out;
    for rule in rules {
        for (forecasts, happened, bad) in [
            ([0.5, 0.5, 0.2, 0.7, 1.0, 0.0], [0, 1, 9], 1),
            ([0.5, 0.5, 0.2, f64::NAN, 1.0, 0.0], [0, 1, 0], 1),
            ([0.5, 0.5, 0.2, 0.8, 1.5, -0.5], [0, 1, 0], 2),
            ([0.5, 0.5, 0.2, 0.8, f64::INFINITY, 0.0], [0, 1, 0], 2),
            (good, [2, 0, 0], 0),
            (good, [0, 0, u32::MAX], 2),
        ] {
            let error = rule.score_into(&forecasts, 2, &happened, &mut out).unwrap_err();
            let row = match error {
                Error::BadCell { row, .. } | Error::BadRow { row, .. } | Error::BadLabel { row, .. } => row,
                other => panic!("{other:?}"),
            };
            assert_eq!((row, out), (bad, untouched));
        }
        for (outcomes, rows) in [(3, 3), (2, 4), (1, 6), (0, 3), (usize::MAX, 2)] {
            let happened = vec![0; rows];
            let error = rule.score_into(&good, outcomes, &happened, &mut out).unwrap_err();
            assert!(matches!(error, Error::Shape { .. }), "{error:?}");
        }
        assert!(rule.score_into(&good, 2, &[0, 1, 0], &mut [0.0; 2]).is_err());
        assert!(rule.score_into(&[], 2, &[], &mut []).is_ok());
    }
}

#[test]
fn numbers_out_of_range_are_named() {
    let nan = f64::NAN;
    assert!(score::crps_normal(nan, 1.0, 0.0).is_err());
    assert!(score::crps_normal(0.0, 0.0, 0.0).is_err());
    assert!(score::crps_logistic(0.0, -1.0, 0.0).is_err());
    assert!(score::crps_logistic(0.0, 1.0, f64::INFINITY).is_err());
    assert!(score::crps_ensemble(&[1e308, -1e308], 1e308).is_err());
    assert!(score::crps_fair(&[1.0], 0.0).is_err());
    assert!(Interval::new(nan, 1.0).is_err());
    assert!(Interval::new(2.0, 1.0).is_err());
    assert!(Interval::wilson(1.0, 0, 1.0).is_err());
    assert!(Interval::wilson(3.0, 2, 1.0).is_err());
    assert!(Interval::wilson(1.0, 2, nan).is_err());
    assert!(Coverage::of(&[], &[]).is_err());
    assert!(Skill::paired(&[], &[]).is_err());
    assert!(Skill::paired(&[1.0], &[nan]).is_err());
    assert!(Skill::paired(&[1.0], &[1.0, 2.0]).is_err());
    assert!(Skill::paired(&[1.0], &[0.5]).unwrap().standard_error.is_none());
    assert!(skill_score(0.1, 0.0).is_err());
    assert!(Clamped::new(&[1.0, 0.0], 0.6).is_err());
    assert!(Question::discrete(1).is_err());
    assert!(Question::within_range(0, 0).is_err());
    assert!(Question::within_range(10, 3).is_err());
    assert!(Question::beyond_range().baseline(0.0).is_err());
}

#[test]
fn periods_and_standing_forecasts_are_checked() {
    for (open, closed, planned) in [(0, 0, 0), (5, 3, 9), (0, 9, 5), (i64::MIN, 0, i64::MAX)] {
        assert!(Period::new(open, closed, planned).is_err());
    }
    let (question, period) = (Question::discrete(2).unwrap(), Period::new(0, 10, 10).unwrap());
    let overlapping = [TimedForecast::since(0, 0.5), TimedForecast::since(5, 0.6)];
    let error = baseline_over_time(question, &overlapping, period).unwrap_err();
    assert!(matches!(error, Error::Row { row: 1, .. }));
    for bad in [0.0, 1.1, f64::NAN] {
        assert!(spot_baseline(question, &[TimedForecast::since(0, bad)], 1).is_err());
    }
    let outside = [
        TimedForecast::since(-9, 0.9).until(-3),
        TimedForecast::since(20, 0.9),
    ];
    let none = baseline_over_time(question, &outside, period).unwrap();
    assert_eq!((none.score, none.coverage), (0.0, 0.0));
    let alone = peer_over_time(question, &[vec![TimedForecast::since(0, 0.9)], vec![]], period).unwrap();
    assert_eq!((alone[0].score, alone[0].coverage), (0.0, 1.0));
    // A number is worth half of what an outcome is.
    let said = [
        vec![TimedForecast::since(0, 0.8)],
        vec![TimedForecast::since(0, 0.2)],
    ];
    let outcome = spot_peer(question, &said, 5).unwrap()[0].score;
    let number = spot_peer(Question::beyond_range(), &said, 5).unwrap()[0].score;
    assert!((outcome - 2.0 * number).abs() < 1e-12);
    assert_eq!(spot_baseline(question, &said[0], -1).unwrap().coverage, 0.0);
}

/// Forecasts of one forecaster, in order, some withdrawn.
fn history() -> impl Strategy<Value = Vec<TimedForecast>> {
    vec((1_i64..40, 0_i64..40, 0.01..1.0_f64), 0..6).prop_map(|steps| {
        let mut at = -10;
        let rows = steps.into_iter().map(|(gap, stays, p)| {
            let from = at + gap;
            at = from + stays;
            TimedForecast::since(from, p).until(at)
        });
        rows.collect()
    })
}

proptest! {
    /// The expectation over a mixture is the sum over its outcomes.
    #[test]
    fn a_mixture_counts_every_outcome_by_its_share((q, f) in (2_usize..7).prop_flat_map(|n| (dist(n), dist(n)))) {
        for rule in RULES {
            let parts = f.iter().enumerate().map(|(k, share)| share * rule.score(&q, k).unwrap());
            let sum: f64 = parts.sum();
            prop_assert!((rule.expected(&q, &f).unwrap() - sum).abs() < 1e-12, "{}", rule.name());
        }
    }

    /// P15: no report has a better expectation than the belief, for any number of outcomes; for the
    /// log score the difference is the divergence.
    #[test]
    fn no_report_beats_the_belief((q, f) in (2_usize..7).prop_flat_map(|n| (dist(n), dist(n)))) {
        for rule in RULES {
            prop_assert!(reward(rule, &f, &f) >= reward(rule, &q, &f) - 1e-12, "{}", rule.name());
        }
        let lost = reward(&Log, &f, &f) - reward(&Log, &q, &f);
        prop_assert!((lost - divergence::kl(&f, &q).unwrap()).abs() < 1e-12);
    }

    /// Peer scores sum to 0, at every moment and over time.
    #[test]
    fn peer_scores_sum_to_zero(histories in vec(history(), 2..6), closed in 20_i64..100) {
        let (question, period) = (Question::discrete(3).unwrap(), Period::new(0, closed, 100).unwrap());
        let over_time = peer_over_time(question, &histories, period).unwrap();
        let sum: f64 = over_time.iter().map(|covered| covered.score).sum();
        prop_assert!(sum.abs() < 1e-9, "{sum}");
        let spot = spot_peer(question, &histories, closed / 2).unwrap();
        let sum: f64 = spot.iter().map(|covered| covered.score).sum();
        prop_assert!(sum.abs() < 1e-9, "{sum}");
    }

    /// Over time is the mean of every moment.
    #[test]
    fn scores_over_time_are_the_mean_of_the_moments(histories in vec(history(), 1..5), closed in 20_i64..100) {
        let (question, period) = (Question::discrete(2).unwrap(), Period::new(0, closed, 100).unwrap());
        let over_time = peer_over_time(question, &histories, period).unwrap();
        for (i, history) in histories.iter().enumerate() {
            let baseline = baseline_over_time(question, history, period).unwrap();
            let (mut own, mut peer) = (0.0, 0.0);
            for at in 0..closed {
                own += spot_baseline(question, history, at).unwrap().score / 100.0;
                peer += spot_peer(question, &histories, at).unwrap()[i].score / 100.0;
            }
            prop_assert!((baseline.score - own).abs() < 1e-9);
            prop_assert!((over_time[i].score - peer).abs() < 1e-9, "{} {peer}", over_time[i].score);
            prop_assert!((over_time[i].coverage - baseline.coverage).abs() < 1e-12);
        }
    }

    /// The fair score is the standard one without the part that a small ensemble pays for its size.
    #[test]
    fn the_fair_crps_is_never_above_the_standard_one(members in vec(-1e3..1e3_f64, 2..12), y in -1e3..1e3_f64) {
        let (fair, standard) = (score::crps_fair(&members, y).unwrap(), score::crps_ensemble(&members, y).unwrap());
        prop_assert!(fair <= standard + 1e-9);
        let doubled: Vec<f64> = members.iter().chain(&members).copied().collect();
        prop_assert!((score::crps_ensemble(&doubled, y).unwrap() - standard).abs() < 1e-9);
    }

    /// Closed forms: CRPS scales with the unit, ignores a shift, and is least at the centre.
    #[test]
    fn closed_forms_are_equivariant(at in -10.0..10.0_f64, scale in 0.1..10.0_f64, y in -30.0..30.0_f64, k in 0.1..9.0_f64) {
        for crps in [score::crps_normal, score::crps_logistic] {
            let here = crps(at, scale, y).unwrap();
            prop_assert!((crps(k * at, k * scale, k * y).unwrap() - k * here).abs() < 1e-9 * (1.0 + k * here));
            prop_assert!((crps(at + 5.0, scale, y + 5.0).unwrap() - here).abs() < 1e-9);
            prop_assert!(here >= crps(at, scale, at).unwrap() && here > 0.0);
        }
    }

    /// A floor changes nothing above it, and everything sums to 1.
    #[test]
    fn a_floor_keeps_a_distribution(q in (2_usize..8).prop_flat_map(dist), floor in 1e-6..0.12_f64) {
        let clamped = Clamped::new(&q, floor).unwrap();
        prop_assert!((clamped.as_slice().iter().sum::<f64>() - 1.0).abs() < 1e-12);
        prop_assert!(clamped.as_slice().iter().all(|p| *p >= floor - 1e-15));
        if q.iter().all(|p| *p >= floor) {
            prop_assert_eq!(clamped.as_slice(), q.as_slice());
        }
    }
}
