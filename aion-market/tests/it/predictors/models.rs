//! Models: what they refuse, what a file keeps, updates against refits, the order of time.

use aion_market::features::Features;
use aion_market::predict::logistic::{
    LogisticModel, LogisticOptions, ModelError, RowId, TrainingRow, choose_ridge,
};
use aion_market::{Error, evaluate};
use proptest::prelude::*;

fn row(n: u32, depth: f64, success: bool) -> TrainingRow {
    let features = Features::default().with("task.depth", Some(depth)).unwrap();
    let features = features
        .with("persistence.harm", n.is_multiple_of(3).then_some(depth / 2.0))
        .unwrap();
    TrainingRow::new(
        RowId::of(format!("row {n}")),
        features,
        f64::from(u8::from(success)),
    )
}

/// Deep tasks fail more often than not.
fn rows(n: u32) -> Vec<TrainingRow> {
    (0..n)
        .map(|i| row(i, f64::from(i % 5), (i * 7 + i / 5) % 11 > 2 * (i % 5)))
        .collect()
}

fn model() -> LogisticModel {
    LogisticModel::fit(&rows(40), &LogisticOptions::default()).unwrap()
}

fn refusal(error: Error) -> ModelError {
    match error {
        Error::Model(refusal) => refusal,
        other => panic!("{other}"),
    }
}

#[test]
fn a_model_never_scores_its_training_rows() {
    let mut model = model();
    for row in rows(40) {
        let refused = refusal(model.predict(row.id, &row.features).unwrap_err());
        assert!(matches!(refused, ModelError::TrainedOn(id) if id == row.id));
    }
    let new = row(77, 1.0, true);
    model.predict(new.id, &new.features).unwrap();
    model.update(&new).unwrap();
    assert!(model.predict(new.id, &new.features).is_err());
    assert!(matches!(
        refusal(model.update(&new).unwrap_err()),
        ModelError::TrainedOn(_)
    ));
    assert_eq!(model.training_rows(), 41);
    let empty = LogisticModel::fit(&[], &LogisticOptions::default()).unwrap_err();
    assert!(matches!(refusal(empty), ModelError::NoRows));
}

#[test]
fn a_file_gives_the_model_back_and_refuses_every_other() {
    let model = model();
    let bytes = model.to_bytes().unwrap();
    assert_eq!(LogisticModel::from_bytes(&bytes).unwrap(), model);
    assert_eq!(
        LogisticModel::from_bytes(&bytes).unwrap().training_digest(),
        model.training_digest()
    );
    let text = String::from_utf8(bytes).unwrap();
    let refused = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        LogisticModel::from_bytes(text.replacen(from, to, 1).as_bytes()).unwrap_err()
    };
    assert!(matches!(
        refused("\"version\":1", "\"version\":2"),
        ModelError::WrongFormat { version: 2, .. }
    ));
    assert!(matches!(
        refused("aion.logistic", "other"),
        ModelError::WrongFormat { .. }
    ));
    assert!(matches!(
        refused("aion.transcript/1", "aion.transcript/0"),
        ModelError::WrongSchema { .. }
    ));
    assert!(matches!(
        refused("\"model\"", "\"mod\""),
        ModelError::Unreadable(_)
    ));
    // One digit of one number.
    let at = text.find("coefficients\":\"").unwrap() + "coefficients\":\"".len() + 5;
    let mut other = text.clone().into_bytes();
    other[at] = if other[at] == b'1' { b'2' } else { b'1' };
    assert!(matches!(
        LogisticModel::from_bytes(&other).unwrap_err(),
        ModelError::WrongDigest { .. }
    ));
    // Infinite, or of another width.
    let all = &text[text.find("coefficients\":\"").unwrap()..];
    let first = &all["coefficients\":\"".len()..][..16];
    assert!(matches!(
        refused(first, "7ff0000000000000"),
        ModelError::Unsound("coefficients")
    ));
    assert!(matches!(refused(first, ""), ModelError::Unsound("coefficients")));
}

/// Updates stay near the refit over all rows, and nearer than no update.
#[test]
fn an_update_goes_where_a_refit_goes() {
    let (all, options) = (rows(400), LogisticOptions::default());
    let before = LogisticModel::fit(&all[..200], &options).unwrap();
    let mut updated = before.clone();
    for row in &all[200..] {
        updated.update(row).unwrap();
    }
    let refit = LogisticModel::fit(&all, &options).unwrap();
    let probe = |model: &LogisticModel, depth: f64| {
        let new = row(1_001, depth, true);
        model.predict(new.id, &new.features).unwrap().get()
    };
    let off = |model: &LogisticModel| {
        let depths = [0.0, 1.0, 2.0, 3.0, 4.0];
        depths
            .map(|d| (probe(model, d) - probe(&refit, d)).abs())
            .iter()
            .sum::<f64>()
    };
    assert!(off(&updated) < 0.02, "{}", off(&updated));
    assert!(off(&updated) < off(&before));
}

proptest! {
    /// A success raises the probability of the same features, and a failure lowers it.
    #[test]
    fn an_update_moves_towards_what_happened(depth in 0.0..5.0, success: bool, weight in 0.1..3.0) {
        let mut model = model();
        let (new, probe) = (row(100, depth, success).with_weight(weight), row(101, depth, success));
        let features = new.features.clone();
        let before = model.predict(probe.id, &features).unwrap().get();
        model.update(&new).unwrap();
        let after = model.predict(probe.id, &features).unwrap().get();
        prop_assert!(if success { after > before } else { after < before }, "{} {}", before, after);
    }

    /// No bytes make it panic.
    #[test]
    fn any_bytes_are_a_model_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(LogisticModel::from_bytes(&bytes).is_err());
    }
}

/// The forecast of a row rests on the rows before it: changing a later one changes nothing.
#[test]
fn prequential_forecasts_know_no_future() {
    let (mut rows, options) = (rows(60), LogisticOptions::default());
    let before = evaluate::prequential(&rows, 30, &options).unwrap();
    assert_eq!(before.len(), 30);
    rows[45].success = 1.0 - rows[45].success;
    let after = evaluate::prequential(&rows, 30, &options).unwrap();
    assert_eq!(before[..16], after[..16]);
    assert_ne!(before[16], after[16]);
    assert!(evaluate::prequential(&rows, 0, &options).is_err());
    // Another view of a task that is among the earlier ones.
    rows[50].id = rows[10].id;
    assert!(evaluate::prequential(&rows, 30, &options).is_err());
}

#[test]
fn noise_is_given_the_strongest_ridge() {
    // Outcomes that the depth says nothing about, by the parity of a well mixed number.
    let noise: Vec<TrainingRow> = (0..200_u32)
        .map(|i| {
            let mixed = i.wrapping_mul(2_654_435_761) ^ (i.wrapping_mul(40_503) >> 3);
            row(i, f64::from(i % 5), (mixed >> 13).is_multiple_of(2))
        })
        .collect();
    let options = LogisticOptions::default();
    assert!(choose_ridge(&noise, &options).unwrap() >= 100.0);
    let clear: Vec<TrainingRow> = (0..200).map(|i| row(i, f64::from(i % 5), i % 5 < 2)).collect();
    assert!(choose_ridge(&clear, &options).unwrap() <= 1.0);
    assert_eq!(choose_ridge(&clear[..5], &options).unwrap(), 30.0);
}

#[test]
fn a_bootstrap_refuses_what_is_no_pair() {
    let a = [1.0, 2.0];
    assert!(evaluate::paired_bootstrap(&a, &a[..1], 10, 1).is_err());
    assert!(evaluate::paired_bootstrap(&[], &[], 10, 1).is_err());
    assert!(evaluate::paired_bootstrap(&a, &[f64::NAN, 1.0], 10, 1).is_err());
    assert!(evaluate::paired_bootstrap(&a, &a, 0, 1).is_err());
    let same = evaluate::paired_bootstrap(&a, &a, 100, 1).unwrap();
    assert_eq!((same.mean, same.lower, same.upper), (0.0, 0.0, 0.0));
}
