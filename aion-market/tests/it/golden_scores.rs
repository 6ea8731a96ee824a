//! Scores, fits and intervals against `tests/golden/scores.json`, made by `make_scores.py` with mpmath
//! and checked there against scipy, scikit-learn and scoringrules.

use aion_market::calibration::{Calibrator, Examples, Map, Method, Recipe, Targets};
use aion_market::compare::{Assumption, Comparison, Options};
use aion_market::divergence;
use aion_market::interval::{Interval, Z_95, interval_score, pinball};
use aion_market::reliability::{Binning, Reliability};
use aion_market::score::metaculus::{Period, Question, TimedForecast, baseline_over_time, peer_over_time};
use aion_market::score::skill::Skill;
use aion_market::score::{self, Brier, Log, Rps, ScoringRule, Spherical};
use serde_json::Value;

fn golden() -> Value {
    serde_json::from_str(include_str!("../golden/scores.json")).unwrap()
}

fn float(value: &Value) -> f64 {
    match value {
        Value::String(text) => text.parse().unwrap(),
        other => other.as_f64().unwrap(),
    }
}

fn floats(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(float).collect()
}

/// Equal but for `tolerance`, relative to the larger of 1 and the value.
#[track_caller]
fn near(got: f64, expected: &Value, tolerance: f64) {
    let expected = float(expected);
    let close = (got - expected).abs() <= tolerance * expected.abs().max(1.0);
    assert!(got == expected || close, "{got} is not {expected}");
}

#[test]
fn scores_of_outcomes_and_mixtures() {
    let rules: [&dyn ScoringRule; 4] = [&Log, &Brier, &Rps, &Spherical];
    for row in golden()["categorical"].as_array().unwrap() {
        let (q, f) = (floats(&row["q"]), floats(&row["f"]));
        let y = row["y"].as_u64().unwrap() as usize;
        for rule in rules {
            near(rule.score(&q, y).unwrap(), &row[rule.name()], 1e-14);
            let mixture = &row[format!("{}_mixture", rule.name())];
            near(rule.expected(&q, &f).unwrap(), mixture, 1e-14);
        }
    }
}

#[test]
fn divergences_keep_their_digits_where_distributions_are_close() {
    for row in golden()["divergences"].as_array().unwrap() {
        let (p, q) = (floats(&row["p"]), floats(&row["q"]));
        let kl = divergence::kl(&p, &q).unwrap();
        let expected = float(&row["kl"]);
        // Relative, however small: down to 1e-25 here. Distributions of 16 digits allow no more.
        assert!(
            kl == expected || (kl / expected - 1.0).abs() < 1e-9,
            "{kl} is not {expected}"
        );
        near(
            divergence::jensen_shannon(&p, &q).unwrap(),
            &row["jensen_shannon"],
            1e-14,
        );
        near(divergence::entropy(&p).unwrap(), &row["entropy"], 1e-14);
        near(
            divergence::cross_entropy(&p, &q).unwrap(),
            &row["cross_entropy"],
            1e-14,
        );
    }
}

#[test]
fn crps_of_ensembles_and_in_closed_form() {
    let golden = golden();
    for row in golden["crps"]["ensembles"].as_array().unwrap() {
        let (members, y) = (floats(&row["members"]), float(&row["y"]));
        near(
            score::crps_ensemble(&members, y).unwrap(),
            &row["standard"],
            1e-14,
        );
        match row.get("fair") {
            Some(fair) => near(score::crps_fair(&members, y).unwrap(), fair, 1e-14),
            None => assert!(score::crps_fair(&members, y).is_err()),
        }
    }
    for row in golden["crps"]["closed"].as_array().unwrap() {
        let (mean, scale, y) = (float(&row["mean"]), float(&row["scale"]), float(&row["y"]));
        near(score::crps_normal(mean, scale, y).unwrap(), &row["normal"], 1e-14);
        near(
            score::crps_logistic(mean, scale, y).unwrap(),
            &row["logistic"],
            1e-14,
        );
    }
}

#[test]
fn interval_scores_and_the_interval_of_wilson() {
    let golden = golden();
    for row in golden["intervals"]["scores"].as_array().unwrap() {
        let (lower, upper, y) = (float(&row["lower"]), float(&row["upper"]), float(&row["y"]));
        let interval = Interval::new(lower, upper).unwrap();
        let score = interval_score(interval, float(&row["miss"]), y).unwrap();
        near(score, &row["interval_score"], 1e-13);
        near(
            pinball(lower, float(&row["t"]), y).unwrap(),
            &row["pinball"],
            1e-14,
        );
    }
    for row in golden["intervals"]["wilson"].as_array().unwrap() {
        let interval = Interval::wilson(float(&row["hits"]), row["n"].as_u64().unwrap(), Z_95).unwrap();
        near(interval.lower, &row["lower"], 1e-14);
        near(interval.upper, &row["upper"], 1e-14);
    }
}

#[test]
fn metaculus_scores_equal_the_sum_over_every_millisecond() {
    let golden = golden();
    let of = &golden["metaculus"];
    let ms = |value: &Value| value.as_i64().unwrap();
    let period = Period::new(ms(&of["open"]), ms(&of["closed"]), ms(&of["planned"])).unwrap();
    let forecast = |row: &Value| {
        let forecast = TimedForecast::since(ms(&row["from"]), float(&row["p"]));
        match &row["until"] {
            Value::Null => forecast,
            until => forecast.until(ms(until)),
        }
    };
    let histories: Vec<Vec<TimedForecast>> = of["histories"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rows| rows.as_array().unwrap().iter().map(forecast).collect())
        .collect();
    let question = Question::discrete(2).unwrap();
    let peers = peer_over_time(question, &histories, period).unwrap();
    for (i, history) in histories.iter().enumerate() {
        let own = baseline_over_time(question, history, period).unwrap();
        near(own.score, &of["baseline"][i], 1e-13);
        near(own.coverage, &of["coverage"][i], 1e-13);
        near(peers[i].score, &of["peer"][i], 1e-12);
        near(peers[i].coverage, &of["coverage"][i], 1e-13);
    }
}

#[test]
fn skill_has_the_error_of_its_clusters() {
    let golden = golden();
    let of = &golden["skill"];
    let (a, b) = (floats(&of["a"]), floats(&of["b"]));
    let paired = Skill::paired(&a, &b).unwrap();
    near(paired.mean, &of["mean"], 1e-14);
    near(paired.standard_error.unwrap(), &of["paired"], 1e-14);
    let clusters: Vec<i64> = of["clusters"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c.as_i64().unwrap())
        .collect();
    let clustered = Skill::clustered(&a, &b, &clusters).unwrap();
    near(clustered.standard_error.unwrap(), &of["clustered"], 1e-14);
}

#[test]
fn curves_equal_those_of_scikit_learn() {
    let golden = golden();
    let of = &golden["reliability"];
    let (p, o) = (floats(&of["p"]), floats(&of["o"]));
    for (name, binning) in [
        ("equal_width", Binning::EqualWidth(10)),
        ("equal_mass", Binning::EqualMass(10)),
    ] {
        let (curve, expected) = (Reliability::binned(&p, &o, binning).unwrap(), &of[name]);
        let filled: Vec<_> = curve.bins.iter().filter(|bin| bin.n > 0).collect();
        assert_eq!(filled.len(), floats(&expected["mean_forecast"]).len());
        for (i, bin) in filled.iter().enumerate() {
            near(bin.mean_forecast, &expected["mean_forecast"][i], 1e-13);
            near(bin.mean_outcome, &expected["mean_outcome"][i], 1e-13);
        }
        near(curve.ece(), &expected["ece"], 1e-13);
        near(curve.mce(), &expected["mce"], 1e-13);
        near(curve.sharpness(), &of["sharpness"], 1e-13);
        let parts = curve.murphy();
        near(parts.brier(), &of["brier"], 1e-13);
        near(parts.reliability, &expected["reliability"], 1e-13);
        near(parts.resolution, &expected["resolution"], 1e-13);
        near(parts.uncertainty(), &expected["uncertainty"], 1e-13);
        near(parts.variance_within, &expected["variance_within"], 1e-13);
        near(parts.covariance_within, &expected["covariance_within"], 1e-13);
    }
}

fn fit(method: Method, targets: Targets, p: &[f64], o: &[f64]) -> Map {
    let recipe = Recipe::new(method).with_targets(targets);
    let examples = Examples::new(p, o).unwrap();
    Calibrator::fit(recipe, &examples).unwrap().map().clone()
}

#[test]
fn fits_equal_those_in_fifty_digits() {
    let golden = golden();
    let of = &golden["calibration"];
    let (p, o, bowl) = (floats(&of["p"]), floats(&of["o"]), floats(&of["bowl"]));
    for (targets, platt, beta) in [
        (Targets::Raw, "platt_raw", "beta_raw"),
        (Targets::Smoothed, "platt_smoothed", "beta_smoothed"),
    ] {
        let Map::Platt { a, c } = fit(Method::Platt, targets, &p, &o) else {
            panic!()
        };
        near(a, &of[platt][0], 1e-9);
        near(c, &of[platt][1], 1e-9);
        let Map::Beta { a, b, c } = fit(Method::Beta, targets, &p, &o) else {
            panic!()
        };
        near(a, &of[beta][0], 1e-8);
        near(b, &of[beta][1], 1e-8);
        near(c, &of[beta][2], 1e-8);
    }
    let Map::Temperature { a } = fit(Method::Temperature, Targets::Smoothed, &p, &o) else {
        panic!()
    };
    near(a, &of["temperature_smoothed"], 1e-9);
    // Where the likelihood wants a negative slope, the best of the rest holds it at 0.
    let Map::Beta { a, b, c } = fit(Method::Beta, Targets::Raw, &p, &bowl) else {
        panic!()
    };
    assert!(a == 0.0 || b == 0.0);
    near(a, &of["beta_bowl_raw"][0], 1e-8);
    near(b, &of["beta_bowl_raw"][1], 1e-8);
    near(c, &of["beta_bowl_raw"][2], 1e-8);
}

#[test]
fn isotonic_maps_equal_those_of_scikit_learn() {
    let golden = golden();
    let of = &golden["calibration"];
    let (p, o, weights) = (floats(&of["coarse"]), floats(&of["o"]), floats(&of["weights"]));
    let examples = Examples::new(&p, &o).unwrap().with_weights(&weights).unwrap();
    let recipe = Recipe::new(Method::Isotonic).with_targets(Targets::Raw);
    let fit = Calibrator::fit(recipe, &examples).unwrap();
    for (i, asked) in floats(&of["asked"]).iter().enumerate() {
        near(fit.apply(*asked).unwrap(), &of["isotonic"][i], 1e-12);
    }
}

#[test]
fn confidence_sequences_equal_their_definition() {
    let golden = golden();
    let of = &golden["comparison"];
    for (name, assumption) in [
        ("drifting", Assumption::Drifting),
        ("constant", Assumption::Constant),
    ] {
        let options = Options::new(-1.0, 1.0).unwrap().with_assumption(assumption);
        let mut comparison = Comparison::new(options);
        for difference in floats(&of["differences"]) {
            comparison.push(difference, 0.0).unwrap();
        }
        let (verdict, expected) = (comparison.verdict(), &of[name]);
        near(verdict.interval.lower, &expected["lower"], 1e-12);
        near(verdict.interval.upper, &expected["upper"], 1e-12);
        near(verdict.e_a_better, &expected["e_a"], 1e-12);
        near(verdict.e_b_better, &expected["e_b"], 1e-12);
    }
}
