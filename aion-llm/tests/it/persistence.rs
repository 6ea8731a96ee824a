//! The four references, end to end: what `R_t` is measured against, and the laws that hold whatever it is.

use std::ops::ControlFlow;

use aion_llm::testkit::TinyModel;
use aion_llm::{
    Engine, EngineOptions, Error, FittedCalibration, GenerateRequest, ModelSource, Prediction, Prompt,
    StreamEvent, TokenScore, UnigramCounts,
};
use aion_types::{Calibration, Reference};
use proptest::prelude::*;

use crate::tiny;

const TEXT: &str = "the other inn, near the river 1234; then the end.";

fn load(source: &ModelSource, options: EngineOptions) -> Engine {
    Engine::load(source, options.with_threads(1)).unwrap()
}

/// Every score is `(1 + h) / (1 + s)`.
fn holds(engine: &Engine, code_length: impl Fn(&TokenScore) -> f64) {
    let scores = engine.score_text(TEXT).unwrap();
    assert!(!scores.is_empty());
    for score in scores {
        let expected = (1.0 + code_length(&score)) / (1.0 + score.surprise_nats);
        // A teacher reads one token at a time, so its sums are formed in another order.
        assert!((score.persistence - expected).abs() < 1e-5, "{score:?}");
    }
}

#[test]
fn each_reference_is_its_code_length() {
    let source = TinyModel::random(1).source();
    let with = |reference| load(&source, EngineOptions::default().with_reference(reference));
    holds(&with(Reference::Uniform), |_| 265f64.ln());
    holds(&with(Reference::Entropy), |score| score.entropy_nats);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    std::fs::write(&path, TinyModel::random(1).gguf().bytes()).unwrap();
    let counted = ModelSource::Gguf(path);
    let mut counts = UnigramCounts::new(265);
    counts.add(&[104, 104, 260, 32]);
    counts.write(&counted.unigram_file().unwrap()).unwrap();
    let nats = counts.code_lengths();
    holds(
        &load(
            &counted,
            EngineOptions::default().with_reference(Reference::Unigram),
        ),
        |score| nats[score.token as usize],
    );
}

/// Against itself a model gains nothing: `R = 1` at every token, written or scored.
#[test]
fn a_model_that_is_its_own_teacher_has_a_ratio_of_one() {
    let source = TinyModel::random(2).endless().source();
    let engine = load(&source, EngineOptions::default().with_teacher(source.clone()));
    assert_eq!(engine.info().reference, Reference::Teacher);
    holds(&engine, |score| score.surprise_nats);
    let request = GenerateRequest::new(Prompt::Text(TEXT.into())).with_max_tokens(12);
    let mut streamed = Vec::new();
    let completion = engine
        .generate(&request, &mut |event| {
            if let StreamEvent::Token(token) = event {
                streamed.push(token.persistence);
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    assert!(
        streamed.len() == 12 && streamed.iter().all(|r| (r - 1.0).abs() < 1e-4),
        "{streamed:?}"
    );
    let summary = completion.persistence.unwrap();
    assert_eq!(summary.reference, Reference::Teacher);
    assert!((summary.r_harm - 1.0).abs() < 1e-4);
}

/// The ratio against another model is formed of the two models' own surprises.
#[test]
fn a_teacher_reads_the_same_tokens() {
    let (source, other) = (
        TinyModel::random(3).endless().source(),
        TinyModel::random(4).endless().source(),
    );
    let engine = load(&source, EngineOptions::default().with_teacher(other.clone()));
    let teacher = load(&other, EngineOptions::default()).score_text(TEXT).unwrap();
    for (score, teacher) in engine.score_text(TEXT).unwrap().iter().zip(teacher) {
        let expected = (1.0 + teacher.surprise_nats) / (1.0 + score.surprise_nats);
        assert!((score.persistence - expected).abs() < 1e-3, "{score:?}");
    }
    let stranger = TinyModel::random(4);
    let config = aion_llm::ModelConfig {
        vocab_size: 300,
        ..stranger.config().clone()
    };
    let options = EngineOptions::default().with_teacher(TinyModel::with_config(4, config).source());
    let error = Engine::load(&source, options).unwrap_err();
    assert!(
        matches!(&error, Error::Config(text) if text.contains("300")),
        "{error}"
    );
    let lacking = EngineOptions::default().with_reference(Reference::Teacher);
    assert!(matches!(
        Engine::load(&source, lacking),
        Err(Error::Unsupported(_))
    ));
}

/// The sampling temperature changes which tokens come, never what is said of one.
#[test]
fn the_ratio_is_of_the_raw_logits() {
    let engine = tiny(5);
    let hot = aion_llm::Sampling::greedy()
        .with_temperature(2.0)
        .unwrap()
        .with_seed(3);
    let request = GenerateRequest::new(Prompt::Text(TEXT.into())).with_max_tokens(10);
    let mut written = Vec::new();
    let completion = engine
        .generate(&request.with_sampling(hot), &mut |event| {
            if let StreamEvent::Token(token) = event {
                written.push(token.persistence);
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    let mut all = engine.prompt_tokens(&Prompt::Text(TEXT.into())).unwrap();
    let prompt = all.len();
    all.extend(&completion.tokens);
    let scored = engine.score(&all, 0).unwrap();
    for (written, scored) in written.iter().zip(&scored[prompt - 1..]) {
        assert!((written - scored.persistence).abs() < 1e-3);
    }
}

/// A completion says how probable it is by the calibration beside the model, where that was fitted for the reference;
/// else by the odds link.
#[test]
fn a_calibration_beside_the_model_gives_the_probability() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    std::fs::write(&path, TinyModel::random(1).endless().gguf().bytes()).unwrap();
    let source = ModelSource::Gguf(path);
    let request = GenerateRequest::new(Prompt::Text(TEXT.into())).with_max_tokens(9);
    let told = |options: EngineOptions| {
        let engine = load(&source, options);
        let whole = engine.complete(&request).unwrap().persistence.unwrap();
        let cut = engine.generate(&request, &mut |event| match event {
            StreamEvent::Token(token) if token.index == 3 => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        });
        let cut = cut.unwrap().persistence.unwrap();
        for summary in [whole, cut] {
            assert_eq!(summary.calibration, Some(engine.info().calibration));
            let expected = engine.info().calibration.prob(summary.r_harm).unwrap();
            assert_eq!(summary.p, Some(expected));
        }
        assert_eq!((whole.n, cut.n), (9, 4));
        whole
    };
    let odds = told(EngineOptions::default());
    assert!((odds.p.unwrap().get() - odds.r_harm / (1.0 + odds.r_harm)).abs() < 1e-12);
    let pairs: Vec<(f64, f64)> = (0..40)
        .map(|i| (0.5 + f64::from(i) / 8.0, f64::from(i % 4 / 3)))
        .collect();
    let fitted = FittedCalibration::fit(&pairs, Reference::Uniform).unwrap();
    fitted.write(&source.calibration_file().unwrap()).unwrap();
    assert_eq!(
        told(EngineOptions::default()).calibration,
        Some(fitted.calibration())
    );
    let other = told(EngineOptions::default().with_reference(Reference::Entropy));
    assert_eq!(other.calibration, Some(Calibration::default()));
    let own = Calibration { a: 0.25, c: -3.0 };
    assert_eq!(
        told(EngineOptions::default().with_calibration(own)).calibration,
        Some(own)
    );
}

proptest! {
    /// Unchanged by a constant added to the logits and by a permutation of the vocabulary; a surprise and an entropy
    /// are never negative, and no entropy exceeds that of the uniform distribution.
    #[test]
    fn surprise_and_entropy_are_of_the_distribution(
        logits in proptest::collection::vec(-30.0f32..30.0, 2..60), shift in -100.0f32..100.0, turn in 0usize..60,
    ) {
        let plain = Prediction::new(&logits).unwrap();
        let shifted: Vec<f32> = logits.iter().map(|x| x + shift).collect();
        let shifted = Prediction::new(&shifted).unwrap();
        let mut turned = logits.clone();
        let turn = turn % logits.len();
        turned.rotate_left(turn);
        let turned = Prediction::new(&turned).unwrap();
        let n = logits.len();
        for token in 0..n {
            let s = plain.surprise_nats(token as u32);
            prop_assert!(s >= 0.0 && s.is_finite());
            prop_assert!((shifted.surprise_nats(token as u32) - s).abs() < 1e-3);
            prop_assert!((turned.surprise_nats(((token + n - turn) % n) as u32) - s).abs() < 1e-6);
        }
        let entropy = plain.entropy_nats();
        prop_assert!((0.0..=(n as f64).ln() + 1e-9).contains(&entropy));
        prop_assert!((turned.entropy_nats() - entropy).abs() < 1e-6);
    }
}
