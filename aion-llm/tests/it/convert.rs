//! Models out: quantised files and checkpoint directories are the models they were made of.

use std::ops::ControlFlow;
use std::path::Path;

use aion_llm::gguf::{Gguf, TensorType, Value};
use aion_llm::testkit::TinyModel;
use aion_llm::{
    CHECKPOINT_FORMAT, Engine, EngineOptions, Error, ModelSource, Overwrite, Quantization, UnigramCounts,
    bits_per_byte, quantize, save_checkpoint, verify_checkpoint,
};
use proptest::prelude::*;

use crate::largest_gap;

const TEXT: &str = "the other inn, near the river 1234: é? Then the theatre, and then the end.";

fn load(source: &ModelSource) -> Engine {
    Engine::load(source, EngineOptions::default().with_threads(1)).unwrap()
}

fn write_gguf(dir: &Path, model: &TinyModel) -> ModelSource {
    let path = dir.join("m.gguf");
    std::fs::write(&path, model.gguf().bytes()).unwrap();
    ModelSource::Gguf(path)
}

fn run(source: &ModelSource, to: &Path, kind: Quantization) -> Result<aion_llm::QuantizeReport, Error> {
    quantize(source, to, kind, Overwrite::Refuse, &mut |_| {
        ControlFlow::Continue(())
    })
}

#[test]
fn a_quantised_model_says_nearly_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let source = write_gguf(dir.path(), &TinyModel::in_blocks(1));
    let before = bits_per_byte(&load(&source), TEXT).unwrap();
    for (kind, error, loss) in [
        (Quantization::Q8_0, 0.01, 0.05),
        (Quantization::Q4_0, 0.12, 1.0),
        (Quantization::Q4_1, 0.10, 1.0),
    ] {
        let to = dir.path().join(format!("{kind}.gguf"));
        let report = run(&source, &to, kind).unwrap();
        assert!(
            (1e-4..error).contains(&report.relative_error),
            "{kind}: {report:?}"
        );
        assert!(report.bytes_after * 3 < report.bytes_before, "{kind}: {report:?}");
        let after = bits_per_byte(&load(&ModelSource::Gguf(to)), TEXT).unwrap();
        assert!((after - before).abs() < loss, "{kind}: {before} to {after}");
    }
}

/// A directory and a GGUF file of the same weights give the same tensors and the same tokenizer.
#[test]
fn both_sources_give_the_same_file() {
    let dir = tempfile::tempdir().unwrap();
    let source = write_gguf(dir.path(), &TinyModel::in_blocks(2));
    let ours = dir.path().join("ours");
    save_checkpoint(&source, &ours, Overwrite::Refuse).unwrap();
    let (a, b) = (dir.path().join("a.gguf"), dir.path().join("b.gguf"));
    run(&source, &a, Quantization::Q4_0).unwrap();
    run(&ModelSource::HubDir(ours), &b, Quantization::Q4_0).unwrap();
    let (x, y) = (Gguf::open(&a).unwrap(), Gguf::open(&b).unwrap());
    assert_eq!(
        x.tensors().keys().collect::<Vec<_>>(),
        y.tensors().keys().collect::<Vec<_>>()
    );
    for name in x.tensors().keys() {
        assert_eq!(
            x.tensor_bytes(name).unwrap(),
            y.tensor_bytes(name).unwrap(),
            "{name}"
        );
    }
    let (x, y) = (load(&ModelSource::Gguf(a)), load(&ModelSource::Gguf(b)));
    // A GGUF file has the epsilon in 32 bits; the tiny model's own has it in 64.
    let gap = largest_gap(&x.score_text(TEXT).unwrap(), &y.score_text(TEXT).unwrap());
    assert!(gap < 1e-6, "{gap}");
}

#[test]
fn a_saved_checkpoint_is_the_model_to_the_bit() {
    let dir = tempfile::tempdir().unwrap();
    let model = TinyModel::random(3);
    let divisors: Vec<u8> = [1.0f32, 1.0, 2.0, 8.0]
        .iter()
        .flat_map(|x| x.to_le_bytes())
        .collect();
    let gguf = model
        .gguf()
        .with(
            "tokenizer.chat_template",
            Value::Text("{{ messages[0].content }}".into()),
        )
        .with_tensor("rope_freqs.weight", &[4], TensorType::F32, divisors);
    let source = ModelSource::GgufBytes(gguf.bytes());
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    let manifest = save_checkpoint(&source, &first, Overwrite::Refuse).unwrap();
    assert_eq!(verify_checkpoint(&first).unwrap(), manifest);
    save_checkpoint(&ModelSource::HubDir(first.clone()), &second, Overwrite::Refuse).unwrap();
    let original = load(&source);
    for dir in [&first, &second] {
        let saved = load(&ModelSource::at(dir));
        assert_eq!(saved.info().config, original.info().config);
        let gap = largest_gap(
            &original.score_text(TEXT).unwrap(),
            &saved.score_text(TEXT).unwrap(),
        );
        assert_eq!(gap, 0.0);
        let said = saved.render_chat(&[aion_llm::ChatMessage::new("user", "hello")], None);
        assert_eq!(said.unwrap(), "hello");
    }
    let refused = save_checkpoint(&source, &first, Overwrite::Refuse).unwrap_err();
    assert!(matches!(refused, Error::Exists(_)), "{refused}");
    save_checkpoint(&source, &first, Overwrite::Replace).unwrap();
    let left: Vec<_> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn damage_to_a_checkpoint_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let ours = dir.path().join("ours");
    let source = TinyModel::random(4).source();
    let damaged = |file: &str, change: &dyn Fn(&mut Vec<u8>)| {
        save_checkpoint(&source, &ours, Overwrite::Replace).unwrap();
        let path = ours.join(file);
        let mut bytes = std::fs::read(&path).unwrap();
        change(&mut bytes);
        std::fs::write(&path, bytes).unwrap();
        let load = Engine::load(&ModelSource::at(&ours), EngineOptions::default());
        (load.err(), verify_checkpoint(&ours).unwrap_err())
    };
    let (load, verify) = damaged("model.safetensors", &|bytes| _ = bytes.pop());
    assert!(matches!(load, Some(Error::Manifest { .. })), "{load:?}");
    assert!(verify.to_string().contains("`model.safetensors`"), "{verify}");
    let (load, verify) = damaged("model.safetensors", &|bytes| *bytes.last_mut().unwrap() ^= 1);
    assert!(load.is_none(), "loading compares sizes alone: {load:?}");
    assert!(verify.to_string().contains("SHA-256"), "{verify}");
    let newer = format!("{{\"format\":{},\"files\":{{}}}}", CHECKPOINT_FORMAT + 1);
    let (load, _) = damaged("aion.json", &|bytes| *bytes = newer.clone().into_bytes());
    assert!(matches!(load, Some(Error::Unsupported(_))), "{load:?}");
    for text in [
        "{}",
        "x",
        r#"{"format":1,"files":{"../x":{"bytes":0,"sha256":""}}}"#,
    ] {
        let (load, _) = damaged("aion.json", &|bytes| *bytes = text.as_bytes().to_vec());
        assert!(matches!(load, Some(Error::Manifest { .. })), "{text}: {load:?}");
    }
}

#[test]
fn what_cannot_be_quantised_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let source = write_gguf(dir.path(), &TinyModel::in_blocks(5));
    let to = dir.path().join("q.gguf");
    let mut steps = 0;
    let cancelled = quantize(&source, &to, Quantization::Q8_0, Overwrite::Refuse, &mut |step| {
        steps += 1;
        assert!(step.done <= step.total);
        if steps == 3 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    assert!(matches!(cancelled, Err(Error::Cancelled)));
    let broken = ModelSource::GgufBytes(
        TinyModel::in_blocks(5)
            .gguf()
            .with_tensor(
                "blk.9.extra.weight",
                &[1, 32],
                TensorType::F32,
                f32::NAN.to_le_bytes().repeat(32),
            )
            .bytes(),
    );
    assert!(matches!(
        run(&broken, &to, Quantization::Q4_0),
        Err(Error::Numeric(_))
    ));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    run(&source, &to, Quantization::Q8_0).unwrap();
    assert!(matches!(
        run(&source, &to, Quantization::Q8_0),
        Err(Error::Exists(_))
    ));
    let again = run(
        &ModelSource::Gguf(to),
        &dir.path().join("r.gguf"),
        Quantization::Q4_0,
    );
    assert!(matches!(again, Err(Error::Unsupported(_))), "{again:?}");
}

#[test]
fn counts_go_with_the_model() {
    let dir = tempfile::tempdir().unwrap();
    let source = write_gguf(dir.path(), &TinyModel::in_blocks(6));
    let tokenizer = aion_llm::Tokenizer::of(&source).unwrap();
    let mut counts = UnigramCounts::new(265);
    let corpus = dir.path().join("corpus.txt");
    std::fs::write(&corpus, TEXT.repeat(50)).unwrap();
    let mut bytes = 0;
    counts.add_file(&tokenizer, &corpus, &mut |n| bytes += n).unwrap();
    assert_eq!(bytes, TEXT.len() * 50);
    counts.write(&source.unigram_file().unwrap()).unwrap();
    let to = dir.path().join("q.gguf");
    run(&source, &to, Quantization::Q8_0).unwrap();
    let ours = dir.path().join("ours");
    save_checkpoint(&source, &ours, Overwrite::Refuse).unwrap();
    for model in [source, ModelSource::Gguf(to), ModelSource::HubDir(ours)] {
        assert_eq!(load(&model).info().reference, aion_types::Reference::Unigram);
    }
}

/// A directory's `rope_scaling` divides the frequencies as the tensor of a GGUF file does.
#[test]
fn rotary_scaling_reaches_the_frequencies() {
    let dir = tempfile::tempdir().unwrap();
    let model = TinyModel::random(7);
    save_checkpoint(&model.source(), &dir.path().join("m"), Overwrite::Refuse).unwrap();
    let m = dir.path().join("m");
    std::fs::remove_file(m.join("aion.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&model.hub_config()).unwrap();
    config["rope_scaling"] = serde_json::json!({"rope_type": "linear", "factor": 4.0});
    std::fs::write(m.join("config.json"), config.to_string()).unwrap();
    let divisors: Vec<u8> = [4.0f32; 4].iter().flat_map(|x| x.to_le_bytes()).collect();
    let gguf = model
        .gguf()
        .with_tensor("rope_freqs.weight", &[4], TensorType::F32, divisors);
    let scaled = load(&ModelSource::GgufBytes(gguf.bytes()))
        .score_text(TEXT)
        .unwrap();
    let hub = load(&ModelSource::at(&m)).score_text(TEXT).unwrap();
    assert!(largest_gap(&scaled, &hub) < 1e-6);
    let plain = load(&model.source()).score_text(TEXT).unwrap();
    assert!(
        largest_gap(&scaled, &plain) > 1e-2,
        "the scaling changes something"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Code lengths are those of a distribution: their probabilities sum to 1, and a token seen more costs less.
    #[test]
    fn counts_are_a_distribution(tokens in proptest::collection::vec(0u32..40, 0..300)) {
        let mut counts = UnigramCounts::new(32);
        counts.add(&tokens);
        let nats = counts.code_lengths();
        prop_assert!((nats.iter().map(|n| (-n).exp()).sum::<f64>() - 1.0).abs() < 1e-9);
        for (a, x) in counts.counts().iter().zip(&nats) {
            for (b, y) in counts.counts().iter().zip(&nats) {
                prop_assert!(a <= b || x < y);
            }
        }
    }
}
