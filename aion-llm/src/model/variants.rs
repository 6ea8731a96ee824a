//! Mixtures of experts, windows and caps: the processor's kernels against Burn's reference, batches against single
//! sequences, pieces against the whole.

use super::tests::{load, run_alone};
use super::{KvCache, Model, Step, Want};
#[cfg(feature = "flex")]
use crate::checkpoint::GgufCheckpoint;
use crate::config::{FeedForward, Head, ModelConfig};
use crate::device::DeviceSpec;
use crate::experts::{Experts, Gating, Selection};
#[cfg(feature = "flex")]
use crate::gguf::{Gguf, TensorType};
use crate::testkit::TinyModel;

/// Tokens of a text that is longer than two segments of attention.
fn text(n: u32) -> Vec<u32> {
    (0..n).map(|i| i * 31 % 250).collect()
}

fn all_logits(model: &Model, tokens: &[u32]) -> Vec<f32> {
    run_alone(model, &mut model.new_cache(), tokens, Want::AllLogits)
}

fn worst(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn rules() -> [Experts; 4] {
    [
        Experts::new(4, 2),
        Experts::new(3, 3),
        Experts::new(5, 1).with_gating(Gating::Sigmoid),
        Experts::new(6, 3)
            .with_gating(Gating::Sigmoid)
            .with_selection(Selection::Biased),
    ]
}

/// Without attention nothing is rounded to halves, so that what is left is the mixture alone.
fn without_attention(tiny: TinyModel) -> TinyModel {
    (0..tiny.config().n_layer).fold(tiny, |tiny, i| {
        let name = format!("model.layers.{i}.self_attn.o_proj.weight");
        tiny.edit(&name, |values| values.fill(0.0))
    })
}

/// Experts that are gathered give what all of them give when those that were not chosen are multiplied by 0.
#[cfg(feature = "flex")]
#[test]
fn sparse_is_dense_compute() {
    for rule in rules() {
        let tiny = without_attention(TinyModel::mixture(21, rule));
        let (cpu, burn) = (load(&tiny, DeviceSpec::Cpu), load(&tiny, DeviceSpec::Flex));
        for n in [1, 3, 40] {
            let (ours, theirs) = (all_logits(&cpu, &text(n)), all_logits(&burn, &text(n)));
            let gap = worst(&ours, &theirs);
            assert!(gap < 1e-5, "{rule:?}, {n} rows: {gap}");
        }
    }
}

/// What an expert gives that nobody chose has no influence, on every body, even when it is no number.
#[test]
fn a_broken_expert_spoils_only_those_who_choose_it() {
    let rule = Experts::new(3, 1)
        .with_gating(Gating::Sigmoid)
        .with_selection(Selection::Biased);
    let whole = without_attention(TinyModel::mixture(23, rule));
    let last_is_out = |tiny: TinyModel| {
        (0..tiny.config().n_layer).fold(tiny, |tiny, i| {
            let name = format!("model.layers.{i}.block_sparse_moe.e_score_correction_bias");
            tiny.edit(&name, |bias| bias.copy_from_slice(&[0.0, 0.0, -1e6]))
        })
    };
    let whole = last_is_out(whole);
    let broken = whole
        .clone()
        .edit("model.layers.0.block_sparse_moe.experts.2.w2.weight", |values| {
            values.fill(f32::NAN);
        });
    let devices = [DeviceSpec::Cpu, DeviceSpec::Flex];
    for device in devices
        .into_iter()
        .filter(|device| *device == DeviceSpec::Cpu || cfg!(feature = "flex"))
    {
        let logits = |tiny: &TinyModel| all_logits(&load(tiny, device), &text(5));
        assert_eq!(logits(&whole), logits(&broken), "{device:?}");
    }
}

/// A cap does not make an infinite score a number.
#[test]
fn no_cap_hides_what_is_not_finite() {
    let config = ModelConfig {
        logit_cap: Some(3.0),
        ..TinyModel::in_blocks(1).config().clone()
    };
    let tiny = TinyModel::with_config(31, config).edit("model.norm.weight", |norm| norm.fill(f32::MAX));
    let devices = [DeviceSpec::Cpu, DeviceSpec::Flex];
    for device in devices
        .into_iter()
        .filter(|device| *device == DeviceSpec::Cpu || cfg!(feature = "flex"))
    {
        let logits = all_logits(&load(&tiny, device), &text(3));
        assert!(logits.iter().any(|x| x.is_nan()), "{device:?}");
        assert!(logits.iter().all(|x| !x.is_infinite()), "{device:?}");
    }
}

fn shapes() -> Vec<TinyModel> {
    let with = |change: &dyn Fn(&mut ModelConfig)| {
        let mut config = TinyModel::in_blocks(1).config().clone();
        config.context_length = 1_024;
        change(&mut config);
        TinyModel::with_config(31, config)
    };
    vec![
        with(&|c| c.experts = Some(rules()[0])),
        with(&|c| c.experts = Some(rules()[3])),
        with(&|c| {
            c.experts = Some(Experts::new(4, 2));
            c.feed_forward = FeedForward::ReluSquared;
            c.head = Head::Untied;
        }),
        with(&|c| c.window = Some(1)),
        with(&|c| c.window = Some(17)),
        with(&|c| c.window = Some(300)),
        with(&|c| {
            c.attention_cap = Some(1.5);
            c.logit_cap = Some(3.0);
        }),
        with(&|c| {
            (c.window, c.attention_cap, c.logit_cap) = (Some(40), Some(20.0), Some(30.0));
            c.experts = Some(Experts::new(8, 2));
        }),
    ]
}

/// Both bodies are the same function; a text read in pieces, token by token, or at once, gives the same bits on the
/// processor and nearly the same numbers on Burn.
#[cfg(feature = "flex")]
#[test]
fn bodies_agree_and_pieces_are_the_whole() {
    let tokens = text(560);
    for tiny in shapes() {
        let config = tiny.config().clone();
        let mut whole = Vec::new();
        for device in [DeviceSpec::Cpu, DeviceSpec::Flex] {
            let model = load(&tiny, device);
            let (mut cache, mut pieces) = (model.new_cache(), Vec::new());
            for piece in [&tokens[..1], &tokens[1..70], &tokens[70..300], &tokens[300..550]] {
                pieces.extend(run_alone(&model, &mut cache, piece, Want::AllLogits));
            }
            for token in &tokens[550..] {
                pieces.extend(run_alone(&model, &mut cache, &[*token], Want::LastLogits));
            }
            let at_once = all_logits(&model, &tokens);
            if device == DeviceSpec::Cpu {
                assert_eq!(at_once, pieces, "{config:?}");
            } else {
                let gap = worst(&at_once, &pieces);
                assert!(gap < 1e-3, "{config:?}: {gap}");
            }
            whole.push(at_once);
        }
        if config.experts.is_none() {
            let gap = worst(&whole[0], &whole[1]);
            assert!(gap < 2e-2, "{config:?}: logits differ by {gap}");
            continue;
        }
        // Where two experts are nearly equal, halves in the cache may tip the choice: nearly all rows agree.
        let rows = |i: usize| whole[i].chunks_exact(config.vocab_size);
        let close = rows(0).zip(rows(1)).filter(|(a, b)| worst(a, b) < 2e-2).count();
        assert!(
            close * 100 > tokens.len() * 95,
            "{config:?}: {close} of {}",
            tokens.len()
        );
    }
}

/// Sequences of different lengths in one pass get the bits that each gets alone, whatever experts the others choose.
#[test]
fn batches_are_single_sequences() {
    for tiny in shapes() {
        let model = load(&tiny, DeviceSpec::Cpu);
        let texts: Vec<Vec<u32>> = [300, 1, 40, 7, 260]
            .iter()
            .map(|n| text(*n).iter().map(|token| (token + n) % 250).collect())
            .collect();
        let mut caches: Vec<KvCache> = texts.iter().map(|_| model.new_cache()).collect();
        let mut steps: Vec<Step<'_>> = texts
            .iter()
            .zip(&mut caches)
            .map(|(tokens, cache)| Step {
                tokens,
                cache,
                want: Want::AllLogits,
            })
            .collect();
        for (tokens, output) in texts.iter().zip(model.run(&mut steps).unwrap()) {
            assert!(output.values == all_logits(&model, tokens), "{:?}", tiny.config());
        }
    }
}

/// Every type of weights in the slices of a three-dimensional tensor.
#[cfg(feature = "flex")]
#[test]
fn experts_of_every_stored_type() {
    let config = ModelConfig {
        n_embd: 256,
        head_dim: 32,
        n_ff: 256,
        n_layer: 1,
        experts: Some(Experts::new(3, 2)),
        ..TinyModel::in_blocks(1).config().clone()
    };
    let tiny = without_attention(TinyModel::with_config(41, config));
    for kind in [
        TensorType::F32,
        TensorType::F16,
        TensorType::BF16,
        TensorType::Q8_0,
        TensorType::Q4_0,
        TensorType::Q4_1,
        TensorType::Q6K,
    ] {
        let gguf = Gguf::from_bytes(tiny.gguf_in(kind).bytes()).unwrap();
        let checkpoint = GgufCheckpoint::new(&gguf).unwrap();
        let on = |device: DeviceSpec| Model::load(&checkpoint, &device.open().unwrap(), 2).unwrap();
        let (ours, theirs) = (
            all_logits(&on(DeviceSpec::Cpu), &text(9)),
            all_logits(&on(DeviceSpec::Flex), &text(9)),
        );
        // Weights in blocks take activations of eight bits.
        let limit = if kind.block_len() == 1 { 1e-4 } else { 0.35 };
        let gap = worst(&ours, &theirs);
        assert!(gap < limit, "{kind:?}: {gap}");
    }
}

/// A window that sees everything, and a cap that nothing reaches, change nothing.
#[test]
fn what_binds_nothing_changes_nothing() {
    let plain = TinyModel::in_blocks(51);
    let config = ModelConfig {
        window: Some(90),
        ..plain.config().clone()
    };
    let wide = TinyModel::with_config(51, config.clone());
    let tokens = text(90);
    let expected = all_logits(&load(&plain, DeviceSpec::Cpu), &tokens);
    assert_eq!(expected, all_logits(&load(&wide, DeviceSpec::Cpu), &tokens));
    let capped = ModelConfig {
        attention_cap: Some(1e3),
        logit_cap: Some(1e3),
        ..config.clone()
    };
    let capped = all_logits(
        &load(&TinyModel::with_config(51, capped), DeviceSpec::Cpu),
        &tokens,
    );
    let gap = worst(&expected, &capped);
    assert!(gap < 1e-2, "{gap}");
    let narrow = ModelConfig {
        window: Some(89),
        ..config
    };
    let narrow = all_logits(
        &load(&TinyModel::with_config(51, narrow), DeviceSpec::Cpu),
        &tokens,
    );
    let vocab = plain.config().vocab_size;
    assert_eq!(expected[..89 * vocab], narrow[..89 * vocab]);
    assert_ne!(expected[89 * vocab..], narrow[89 * vocab..]);
}

/// With a window of `w` in `l` layers, what lies more than `l (w - 1)` positions back has no influence.
#[test]
fn what_is_out_of_sight_has_no_influence() {
    let config = ModelConfig {
        window: Some(20),
        ..TinyModel::in_blocks(1).config().clone()
    };
    let model = load(&TinyModel::with_config(52, config), DeviceSpec::Cpu);
    let (a, mut b) = (text(300), text(300));
    b[..300 - 39].fill(7);
    let (x, y) = (all_logits(&model, &a), all_logits(&model, &b));
    let last = x.len() - TinyModel::in_blocks(1).config().vocab_size;
    // The angles of positions are the same, so are the bits.
    assert_eq!(x[last..], y[last..]);
    b[300 - 39] = 7;
    assert_ne!(x[last..], all_logits(&model, &b)[last..]);
}
