//! Small checkpoints with the logits of a reference that shares no code with the engine: `tests/golden/tiny.py`, in
//! 64-bit floats, from the definition of the architecture.

use std::path::PathBuf;

use aion_llm::testkit::TinyModel;
use aion_llm::{Engine, EngineOptions, ModelSource};
use safetensors::SafeTensors;

/// Loads a case and gives the largest difference of a log-probability.
fn largest_difference(name: &str) -> f64 {
    let path =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/tiny/{name}.safetensors"));
    let bytes = std::fs::read(path).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let metadata = header.metadata().as_ref().unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("config.json"), &metadata["config"]).unwrap();
    std::fs::write(
        dir.path().join("tokenizer.json"),
        TinyModel::random(1).hub_tokenizer().unwrap(),
    )
    .unwrap();
    std::fs::write(dir.path().join("model.safetensors"), &bytes).unwrap();
    let engine = Engine::load(
        &ModelSource::at(dir.path()),
        EngineOptions::default().with_threads(1),
    )
    .unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let expected = file.tensor("expected.logits").unwrap();
    let vocab = expected.shape()[1];
    let expected: Vec<f64> = expected
        .data()
        .chunks_exact(4)
        .map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap())))
        .collect();
    let tokens: Vec<u32> = serde_json::from_str(&metadata["tokens"]).unwrap();
    let scores = engine.score(&tokens, vocab).unwrap();
    assert_eq!(scores.len(), tokens.len() - 1);
    let gaps = scores
        .iter()
        .zip(expected.chunks_exact(vocab))
        .flat_map(|(score, row)| {
            let sum: f64 = row.iter().map(|x| x.exp()).sum();
            assert_eq!(score.top.len(), vocab);
            score
                .top
                .iter()
                .map(move |(id, log_p)| (log_p - (row[*id as usize] - sum.ln())).abs())
        });
    gaps.fold(0.0, f64::max)
}

#[test]
fn logits_are_those_of_the_reference() {
    for name in [
        "grouped_tied",
        "one_key_head_untied",
        "llama3_scaling",
        "linear_scaling",
        "squared_relu",
        "experts",
        "experts_sigmoid_biased",
        "window_and_caps",
    ] {
        let gap = largest_difference(name);
        // Keys and values are halves in the cache.
        assert!(gap < 5e-3, "{name}: {gap}");
    }
}
