//! Mixtures of experts, windows and caps from the outside: every format, the laws of the mixture, and what is refused.

use std::ops::ControlFlow;
use std::path::Path;

use aion_llm::gguf::{Gguf, TensorType, Value};
use aion_llm::testkit::{GgufWriter, TinyModel};
use aion_llm::{
    Engine, EngineOptions, Error, Experts, FeedForward, Gating, GenerateRequest, ModelConfig, ModelSource,
    Overwrite, Prompt, Quantization, Selection, bits_per_byte, quantize, save_checkpoint, verify_checkpoint,
};

use crate::import::hub_dir;
use crate::largest_gap;

const TEXT: &str = "the other inn, near the river 1234: é? Then the theatre, and then the end.";

fn load(source: &ModelSource) -> Engine {
    Engine::load(source, EngineOptions::default().with_threads(1)).unwrap()
}

fn biased() -> Experts {
    Experts::new(4, 2)
        .with_gating(Gating::Sigmoid)
        .with_selection(Selection::Biased)
}

fn window_and_caps() -> TinyModel {
    let config = ModelConfig {
        window: Some(9),
        attention_cap: Some(1.5),
        logit_cap: Some(8.0),
        ..TinyModel::in_blocks(2).config().clone()
    };
    TinyModel::with_config(2, config)
}

fn variants() -> Vec<TinyModel> {
    let relu = ModelConfig {
        feed_forward: FeedForward::ReluSquared,
        ..TinyModel::mixture(3, Experts::new(3, 2)).config().clone()
    };
    vec![
        TinyModel::mixture(1, Experts::new(4, 2)),
        TinyModel::mixture(2, biased()),
        TinyModel::with_config(3, relu),
        window_and_caps(),
    ]
}

fn scores(source: &ModelSource) -> Vec<aion_llm::TokenScore> {
    load(source).score_text(TEXT).unwrap()
}

/// A GGUF file, a directory of the Hub and a checkpoint of ours are one model.
#[test]
fn every_format_is_the_same_model() {
    for model in variants() {
        let (dir, out) = (hub_dir(&model), tempfile::tempdir().unwrap());
        let expected = scores(&model.source());
        let hub = load(&ModelSource::at(dir.path()));
        assert_eq!(&hub.info().config, model.config());
        let gap = largest_gap(&expected, &hub.score_text(TEXT).unwrap());
        assert!(gap < 1e-6, "{:?}: {gap}", model.config());
        for (i, source) in [model.source(), ModelSource::at(dir.path())].iter().enumerate() {
            let ours = out.path().join(i.to_string());
            let manifest = save_checkpoint(source, &ours, Overwrite::Refuse).unwrap();
            assert_eq!(verify_checkpoint(&ours).unwrap(), manifest);
            assert_eq!(&ModelConfig::of(&ModelSource::at(&ours)).unwrap(), model.config());
            assert_eq!(largest_gap(&expected, &scores(&ModelSource::at(&ours))), 0.0);
        }
    }
}

fn quantised(source: &ModelSource, to: &Path, kind: Quantization) -> Gguf {
    let mut on_step = |_| ControlFlow::Continue(());
    quantize(source, to, kind, Overwrite::Refuse, &mut on_step).unwrap();
    Gguf::open(to).unwrap()
}

/// Quantised from a GGUF file and from a directory, the tensors are the same bytes; experts lie in one tensor, routers
/// and biases stay floats, and the model says nearly what it said.
#[test]
fn mixtures_are_quantised() {
    let dir = tempfile::tempdir().unwrap();
    for (i, model) in variants().into_iter().enumerate() {
        let hub = hub_dir(&model);
        let sources = [model.source(), ModelSource::at(hub.path())];
        let files = sources.each_ref().map(|source| {
            let to = dir
                .path()
                .join(format!("{i}-{}.gguf", source.unigram_file().is_some()));
            (quantised(source, &to, Quantization::Q8_0), to)
        });
        let ((a, path), (b, _)) = (&files[0], &files[1]);
        let names: Vec<_> = a.tensors().keys().collect();
        assert_eq!(names, b.tensors().keys().collect::<Vec<_>>());
        for name in names {
            assert_eq!(a.tensors()[name].shape, b.tensors()[name].shape, "{name}");
            assert_eq!(
                a.tensor_bytes(name).unwrap(),
                b.tensor_bytes(name).unwrap(),
                "{name}"
            );
        }
        if let Some(experts) = model.config().experts {
            let info = &a.tensors()["blk.1.ffn_down_exps.weight"];
            assert_eq!(info.shape, [experts.count, 64, 96]);
            assert_eq!(info.kind, TensorType::Q8_0);
            assert_eq!(a.tensors()["blk.1.ffn_gate_inp.weight"].kind, TensorType::F32);
        }
        let config = ModelConfig::from_gguf(b).unwrap();
        assert_eq!(config.experts, model.config().experts);
        assert_eq!(config.window, model.config().window);
        assert_eq!(config.attention_cap, model.config().attention_cap);
        let before = bits_per_byte(&load(&model.source()), TEXT).unwrap();
        let after = bits_per_byte(&load(&ModelSource::Gguf(path.clone())), TEXT).unwrap();
        assert!((after - before).abs() < 0.1, "{before} to {after}");
    }
}

/// The number of weights is that of the tensors; one token goes through the experts that are used.
#[test]
fn weights_are_counted() {
    for model in variants() {
        let config = model.config();
        let total: usize = model
            .hub_tensors()
            .iter()
            .map(|(_, shape, _)| shape.iter().product::<usize>())
            .sum();
        assert_eq!(config.n_parameters(), total);
        let idle = config.experts.map_or(0, |experts| experts.count - experts.used);
        let matrices = if config.feed_forward == FeedForward::SwiGlu {
            3
        } else {
            2
        };
        let unused = config.n_layer * idle * matrices * config.n_embd * config.n_ff;
        assert_eq!(config.n_active_parameters(), total - unused);
    }
}

fn expert(layer: usize, expert: usize, matrix: &str) -> String {
    format!("model.layers.{layer}.block_sparse_moe.experts.{expert}.{matrix}.weight")
}

fn values(model: &TinyModel, name: &str) -> Vec<f32> {
    let tensors = model.hub_tensors();
    let (_, _, bytes) = tensors.iter().find(|(other, ..)| other == name).unwrap();
    bytes
        .as_chunks::<4>()
        .0
        .iter()
        .map(|b| f32::from_le_bytes(*b))
        .collect()
}

/// The model with its experts in another order: number `i` is what was number `order[i]`.
fn permuted(model: &TinyModel, order: &[usize]) -> TinyModel {
    let mut out = model.clone();
    for layer in 0..model.config().n_layer {
        for (i, from) in order.iter().enumerate() {
            for matrix in ["w1", "w2", "w3"] {
                let source = values(model, &expert(layer, *from, matrix));
                out = out.edit(&expert(layer, i, matrix), |values| {
                    values.copy_from_slice(&source);
                });
            }
        }
        for name in ["gate.weight", "e_score_correction_bias"] {
            let name = format!("model.layers.{layer}.block_sparse_moe.{name}");
            let source = values(model, &name);
            let width = source.len() / order.len();
            out = out.edit(&name, |values| {
                for (row, from) in values.chunks_exact_mut(width).zip(order) {
                    row.copy_from_slice(&source[from * width..][..width]);
                }
            });
        }
    }
    out
}

#[test]
fn the_order_of_the_experts_does_not_matter() {
    let model = TinyModel::mixture(5, biased());
    let expected = scores(&model.source());
    for order in [[3, 1, 0, 2], [1, 0, 3, 2]] {
        let other = scores(&permuted(&model, &order).source());
        assert_eq!(largest_gap(&expected, &other), 0.0, "{order:?}");
    }
}

/// A mixture whose experts are all one network is that network, whatever is chosen: the gates sum to 1.
#[test]
fn equal_experts_are_one_network() {
    let plain = TinyModel::in_blocks(6);
    for used in 1..=3 {
        let mut model = TinyModel::mixture(6, Experts::new(3, used));
        for (name, _, _) in plain.hub_tensors() {
            let source = values(&plain, &name);
            let same = |values: &mut [f32]| values.copy_from_slice(&source);
            let (part, names) = match name.split_once(".mlp.") {
                None => (None, vec![name.clone()]),
                Some((layer, part)) => {
                    let matrix = match part {
                        "gate_proj.weight" => "w1",
                        "up_proj.weight" => "w3",
                        _ => "w2",
                    };
                    let of = |e| format!("{layer}.block_sparse_moe.experts.{e}.{matrix}.weight");
                    (Some(matrix), (0..3).map(of).collect())
                }
            };
            for name in &names {
                model = model.edit(name, same);
            }
            assert_eq!(part.is_some(), names.len() == 3);
        }
        let gap = largest_gap(&scores(&plain.source()), &scores(&model.source()));
        // Gates sum to 1 up to rounding, and what is rounded to halves may then fall on the other side.
        assert!(gap < 2e-3, "{used} of 3: {gap}");
    }
}

/// Weights of an expert that no token chooses are not read: what is no number there changes not a bit, in a prompt and
/// in what is written after it.
#[test]
fn experts_that_are_not_chosen_are_not_touched() {
    let shunned = (0..2).fold(TinyModel::mixture(7, biased()).endless(), |model, layer| {
        let name = format!("model.layers.{layer}.block_sparse_moe.e_score_correction_bias");
        model.edit(&name, |bias| bias[2] = -100.0)
    });
    let mut poisoned = shunned.clone();
    for layer in 0..2 {
        for matrix in ["w1", "w2", "w3"] {
            poisoned = poisoned.edit(&expert(layer, 2, matrix), |values| values.fill(f32::NAN));
        }
    }
    let (clean, poisoned) = (load(&shunned.source()), load(&poisoned.source()));
    let gap = largest_gap(
        &clean.score_text(TEXT).unwrap(),
        &poisoned.score_text(TEXT).unwrap(),
    );
    assert_eq!(gap, 0.0);
    let request = GenerateRequest::new(Prompt::Text(TEXT.into())).with_max_tokens(20);
    let (a, b) = (
        clean.complete(&request).unwrap(),
        poisoned.complete(&request).unwrap(),
    );
    assert_eq!(a.tokens, b.tokens);
    // The same weights in an expert that is chosen are noticed.
    let chosen = shunned.edit(&expert(0, 1, "w2"), |values| values.fill(f32::NAN));
    let error = load(&chosen.source()).complete(&request).unwrap_err();
    assert!(matches!(error, Error::Numeric(_)), "{error}");
}

fn refusal(gguf: &GgufWriter) -> Error {
    let source = ModelSource::GgufBytes(gguf.bytes());
    Engine::load(&source, EngineOptions::default().with_threads(1)).unwrap_err()
}

#[test]
fn impossible_files_are_refused_with_the_place() {
    let model = TinyModel::mixture(8, Experts::new(4, 2));
    let change = |key: &str, value: Value| refusal(&model.gguf().with(key, value));
    let n = Value::Unsigned;
    for (key, value, part) in [
        ("llama.expert_count", n(5000), "5000 experts"),
        ("llama.expert_count", n(u64::MAX), "experts; there may be"),
        ("llama.expert_used_count", n(5), "5 experts are used of 4"),
        ("llama.expert_used_count", n(0), "0 experts are used of 4"),
        ("llama.expert_count", n(0), "2 experts are used of none"),
        (
            "llama.expert_used_count",
            Value::Text("two".into()),
            "`llama.expert_used_count`",
        ),
        (
            "llama.attention.sliding_window",
            n(1 << 40),
            "the attention window",
        ),
        (
            "llama.attn_logit_softcapping",
            Value::Float(-1.0),
            "the cap of attention scores is -1",
        ),
        (
            "llama.final_logit_softcapping",
            Value::Float(f64::NAN),
            "the cap of logits is NaN",
        ),
        (
            "llama.final_logit_softcapping",
            n(30),
            "`llama.final_logit_softcapping` is no float",
        ),
    ] {
        let error = change(key, value);
        assert!(
            matches!(&error, Error::Config(text) if text.contains(part)),
            "{key}: {error}"
        );
    }
    for (key, value) in [
        ("llama.expert_gating_func", n(4)),
        ("llama.expert_shared_count", n(1)),
        ("llama.expert_group_count", n(2)),
        ("llama.leading_dense_block_count", n(1)),
        ("llama.interleave_moe_layer_step", n(2)),
        ("llama.expert_feed_forward_length", n(32)),
        ("llama.expert_weights_scale", Value::Float(2.5)),
        ("llama.expert_weights_norm", Value::Bool(false)),
        ("llama.attention.sliding_window_pattern", n(2)),
    ] {
        let error = change(key, value);
        assert!(
            matches!(&error, Error::Unsupported(text) if text.contains(key)),
            "{key}: {error}"
        );
    }
    let fewer = change("llama.expert_count", n(3));
    assert!(
        matches!(&fewer, Error::Shape { name, .. } if name == "blk.0.ffn_gate_inp.weight"),
        "{fewer}"
    );
    let old = model
        .gguf()
        .with_tensor("blk.0.ffn_gate.0.weight", &[1], TensorType::F32, vec![0; 4]);
    assert!(refusal(&old).to_string().contains("before April 2024"));
    let dense = TinyModel::in_blocks(8).gguf();
    let missing = refusal(
        &dense
            .with("llama.expert_count", n(4))
            .with("llama.expert_used_count", n(2)),
    );
    assert!(
        matches!(&missing, Error::MissingTensor(name) if name == "blk.0.ffn_gate_inp.weight"),
        "{missing}"
    );
    let broken = TinyModel::mixture(8, biased()).edit(
        "model.layers.1.block_sparse_moe.e_score_correction_bias",
        |bias| bias[0] = f32::NAN,
    );
    assert!(refusal(&broken.gguf()).to_string().contains("layer 1"));
}

#[test]
fn impossible_configurations_are_refused() {
    let config = |key: &str, value: serde_json::Value| {
        let text = TinyModel::mixture(9, Experts::new(4, 2)).hub_config();
        let mut wire: serde_json::Value = serde_json::from_str(&text).unwrap();
        wire[key] = value;
        ModelConfig::from_json(&wire.to_string())
    };
    for (key, value) in [
        ("num_local_experts", 0.into()),
        ("num_local_experts", serde_json::Value::Null),
        ("num_local_experts", 2000.into()),
        ("num_experts_per_tok", 5.into()),
        ("num_experts_per_tok", serde_json::Value::Null),
        ("sliding_window", 0.into()),
        ("aion", serde_json::json!({"attention_cap": -3.0})),
        ("aion", serde_json::json!({"cap": 3.0})),
    ] {
        let error = config(key, value).unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{key}: {error}");
    }
    for (key, value) in [
        ("scoring_func", "tanh".into()),
        ("num_shared_experts", 1.into()),
        ("model_type", "qwen3_moe".into()),
        (
            "layer_types",
            serde_json::json!(["sliding_attention", "full_attention"]),
        ),
    ] {
        let error = config(key, value).unwrap_err();
        assert!(matches!(error, Error::Unsupported(_)), "{key}: {error}");
    }
    let window = |types: &[&str]| {
        let text = window_and_caps().hub_config();
        let mut wire: serde_json::Value = serde_json::from_str(&text).unwrap();
        wire["layer_types"] = types.into();
        ModelConfig::from_json(&wire.to_string()).unwrap().window
    };
    assert_eq!(window(&["sliding_attention"; 2]), Some(9));
    assert_eq!(window(&["full_attention"; 2]), None);
}

/// transformers reads a window for the families that have one, and no caps for any of these.
#[test]
fn each_family_reads_its_own_keys() {
    let config = |kind: &str, more: serde_json::Value| {
        let tiny = if kind == "mixtral" {
            TinyModel::mixture(9, Experts::new(4, 2))
        } else {
            TinyModel::random(9)
        };
        let mut wire: serde_json::Value = serde_json::from_str(&tiny.hub_config()).unwrap();
        wire.as_object_mut().unwrap().remove("sliding_window");
        wire["model_type"] = kind.into();
        for (key, value) in more.as_object().unwrap() {
            wire[key] = value.clone();
        }
        ModelConfig::from_json(&wire.to_string()).unwrap()
    };
    let window = |kind: &str, more: serde_json::Value| config(kind, more).window;
    use serde_json::json;
    assert_eq!(window("llama", json!({"sliding_window": 9})), None);
    assert_eq!(
        window(
            "llama",
            json!({"layer_types": ["sliding_attention", "full_attention"]})
        ),
        None
    );
    assert_eq!(window("mistral", json!({})), Some(4096));
    assert_eq!(window("mistral", json!({"sliding_window": null})), None);
    assert_eq!(window("mistral", json!({"sliding_window": 9})), Some(9));
    assert_eq!(window("mixtral", json!({})), None);
    assert_eq!(window("mixtral", json!({"sliding_window": 9})), Some(9));
    for kind in ["llama", "mistral", "mixtral"] {
        let caps = json!({"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0});
        let read = config(kind, caps);
        assert_eq!((read.attention_cap, read.logit_cap), (None, None), "{kind}");
    }
}

/// The largest sizes that are let in give the largest number, not a small one.
#[test]
fn sizes_beyond_all_memory_are_not_small() {
    let mut wire: serde_json::Value = serde_json::from_str(&TinyModel::random(9).hub_config()).unwrap();
    for key in [
        "hidden_size",
        "head_dim",
        "num_attention_heads",
        "num_key_value_heads",
        "intermediate_size",
    ] {
        wire[key] = (1 << 24).into();
    }
    wire["num_hidden_layers"] = 4096.into();
    let config = ModelConfig::from_json(&wire.to_string()).unwrap();
    assert_eq!(config.n_parameters(), usize::MAX);
}
