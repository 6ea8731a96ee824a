//! The same tests on every device that this build has: the processor, and with their features a graphics card by
//! wgpu or CUDA. Each is held against the model's formula in `f64`, within what its arithmetic can keep.
//!
//! A card that was asked for by `AION_TEST_DEVICES` (a list such as `wgpu,cuda`) must answer; one that was not may be
//! absent, and then says so without a panic.

use aion_llm::testkit::TinyModel;
use aion_llm::{
    DeviceSpec, Engine, EngineOptions, Error, Experts, FeedForward, Gating, GenerateRequest, Head,
    ModelConfig, ModelSource, Prompt, Selection,
};

use crate::{largest_gap, plain};

/// A device with what its logarithms of probabilities may be off by, in nats.
#[derive(Clone, Copy)]
struct Device {
    spec: DeviceSpec,
    tolerance: f64,
}

fn devices() -> Vec<Device> {
    let all = [
        // Keys and values are halves there.
        (true, DeviceSpec::Cpu, 5e-3),
        (cfg!(feature = "flex"), DeviceSpec::Flex, 1e-4),
        (cfg!(feature = "wgpu"), DeviceSpec::Wgpu, 1e-3),
        (cfg!(feature = "cuda"), DeviceSpec::Cuda(0), 1e-3),
    ];
    let built = all.into_iter().filter(|(built, ..)| *built);
    built
        .map(|(_, spec, tolerance)| Device { spec, tolerance })
        .filter(Device::answers)
        .collect()
}

impl Device {
    fn answers(&self) -> bool {
        let asked = std::env::var("AION_TEST_DEVICES").unwrap_or_else(|_| "cpu".into());
        let name = self.spec.to_string();
        let must = asked.split(',').any(|asked| name.starts_with(asked));
        match Engine::load(&TinyModel::random(1).source(), self.options()) {
            Ok(engine) => {
                assert_eq!(engine.info().device, name);
                true
            }
            Err(error) if must => panic!("{error}"),
            Err(error) => {
                assert!(matches!(error, Error::Device { .. }), "{error}");
                eprintln!("skipped: {error}");
                false
            }
        }
    }

    fn options(self) -> EngineOptions {
        EngineOptions::default().with_device(self.spec).with_threads(1)
    }

    fn load(self, source: &ModelSource) -> Engine {
        Engine::load(source, self.options()).unwrap()
    }
}

const TOKENS: [u32; 12] = [104, 105, 32, 260, 17, 99, 104, 3, 261, 44, 32, 200];

#[test]
fn predictions_are_those_of_the_formula() {
    for device in devices() {
        for (feed_forward, head) in [
            (FeedForward::SwiGlu, Head::Tied),
            (FeedForward::SwiGlu, Head::Untied),
        ] {
            let model = TinyModel::with_shape(5, feed_forward, head);
            let expected = plain::surprises(&model, &TOKENS);
            let scores = device.load(&model.source()).score(&TOKENS, 0).unwrap();
            for (score, expected) in scores.iter().zip(expected) {
                let gap = (score.surprise_nats - expected).abs();
                assert!(gap < device.tolerance, "{}: {gap}", device.spec);
            }
        }
    }
}

/// The same for mixtures of experts, windows and caps.
#[test]
fn predictions_of_variants_are_those_of_the_formula() {
    for device in devices() {
        for model in variants() {
            let expected = plain::surprises(&model, &TOKENS);
            let whole = device.load(&model.source()).score(&TOKENS, 0).unwrap();
            for (score, expected) in whole.iter().zip(expected) {
                let gap = (score.surprise_nats - expected).abs();
                assert!(
                    gap < device.tolerance,
                    "{} {:?}: {gap}",
                    device.spec,
                    model.config()
                );
            }
            let options = device.options().with_prefill_chunk(1);
            let steps = Engine::load(&model.source(), options).unwrap();
            let gap = largest_gap(&whole, &steps.score(&TOKENS, 0).unwrap());
            assert!(gap < device.tolerance, "{}: {gap}", device.spec);
        }
    }
}

fn variants() -> Vec<TinyModel> {
    let sigmoid = Experts::new(5, 3).with_gating(Gating::Sigmoid);
    let biased = Experts::new(4, 1).with_selection(Selection::Biased);
    let mixtures = [Experts::new(4, 2), sigmoid, biased].map(|rule| TinyModel::mixture(9, rule));
    let plain = TinyModel::random(9).config().clone();
    let window = ModelConfig {
        window: Some(5),
        ..plain.clone()
    };
    let caps = ModelConfig {
        attention_cap: Some(0.7),
        logit_cap: Some(4.0),
        ..plain
    };
    let others = [window, caps].map(|config| TinyModel::with_config(9, config));
    mixtures.into_iter().chain(others).collect()
}

#[test]
fn one_token_at_a_time_is_the_whole_text_at_once() {
    for device in devices() {
        let source = TinyModel::random(6).source();
        let whole = device.load(&source).score(&TOKENS, 0).unwrap();
        let steps = Engine::load(&source, device.options().with_prefill_chunk(1)).unwrap();
        let gap = largest_gap(&whole, &steps.score(&TOKENS, 0).unwrap());
        assert!(gap < device.tolerance, "{}: {gap}", device.spec);
    }
}

#[test]
fn a_completion_repeats_and_is_scored_alike() {
    for device in devices() {
        let engine = device.load(&TinyModel::random(7).endless().source());
        let request = GenerateRequest::new(Prompt::Tokens(TOKENS.to_vec())).with_max_tokens(8);
        let first = engine.complete(&request).unwrap();
        assert_eq!(first.tokens.len(), 8);
        assert_eq!(
            engine.complete(&request).unwrap().tokens,
            first.tokens,
            "{}",
            device.spec
        );
        let all: Vec<u32> = TOKENS.iter().chain(&first.tokens).copied().collect();
        let scores = engine.score(&all, 1).unwrap();
        for score in &scores[TOKENS.len() - 1..] {
            // Greedy: no other token is more probable by more than the arithmetic can tell apart.
            assert!(
                -score.surprise_nats >= score.top[0].1 - device.tolerance,
                "{}",
                device.spec
            );
        }
    }
}

#[test]
fn embeddings_are_unit_vectors() {
    for device in devices() {
        let vector = device
            .load(&TinyModel::random(8).source())
            .embed("a quiet river")
            .unwrap();
        let length: f64 = vector.iter().map(|x| f64::from(*x).powi(2)).sum();
        assert!((length - 1.0).abs() < 1e-5, "{}: {length}", device.spec);
    }
}

/// A device that is not there, or not in this build, is an error with its name, never a panic.
#[test]
fn a_card_that_is_not_there_is_an_error() {
    let absent = EngineOptions::default().with_device(DeviceSpec::Cuda(61));
    let error = Engine::load(&TinyModel::random(1).source(), absent).unwrap_err();
    assert!(
        matches!(&error, Error::Device { device, .. } if device == "cuda:61"),
        "{error}"
    );
}
