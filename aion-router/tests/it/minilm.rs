//! The encoder against values that `tests/data/tiny_bert.py` made in double precision.

use std::path::PathBuf;

use aion_router::embed::minilm::MiniLm;
use aion_router::{Embedder, Error, ModelTokens, TokenCounter};
use serde_json::Value;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/tiny-bert")
}

fn golden() -> Vec<(String, Vec<u32>, Vec<f64>)> {
    let text = std::fs::read_to_string(folder().join("golden.json")).unwrap();
    let rows: Vec<Value> = serde_json::from_str(&text).unwrap();
    let of = |row: Value| {
        let tokens = serde_json::from_value(row["tokens"].clone()).unwrap();
        let vector = serde_json::from_value(row["vector"].clone()).unwrap();
        (row["text"].as_str().unwrap().to_owned(), tokens, vector)
    };
    rows.into_iter().map(of).collect()
}

#[test]
fn tokens_and_vectors_are_those_of_the_reference() {
    let model = MiniLm::from_folder(folder()).unwrap();
    let golden = golden();
    let texts: Vec<&str> = golden.iter().map(|(text, _, _)| text.as_str()).collect();
    let mut together = vec![0.0; texts.len() * model.dim()];
    model.embed(&texts, &mut together).unwrap();
    for ((text, tokens, wanted), got) in golden.iter().zip(together.chunks(model.dim())) {
        assert_eq!(&model.tokens(text).unwrap(), tokens, "{text}");
        let mut alone = vec![0.0; model.dim()];
        model.embed(&[text], &mut alone).unwrap();
        for ((got, alone), wanted) in got.iter().zip(&alone).zip(wanted) {
            assert!((f64::from(*got) - wanted).abs() < 1e-5, "{text}: {got} {wanted}");
            assert!((got - alone).abs() < 1e-6, "a batch changes nothing");
        }
    }
}

#[test]
fn a_tokenizer_counts() {
    let counter = ModelTokens::from_file(folder().join("tokenizer.json")).unwrap();
    assert_eq!(counter.count("read the files"), 4);
    assert_eq!(counter.count(""), 0);
    assert!(matches!(
        ModelTokens::from_bytes(b"{}"),
        Err(Error::BadModel { .. })
    ));
    assert!(ModelTokens::from_file("no such file").is_err());
}

#[test]
fn broken_models_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let bad = |name: &str, bytes: &[u8]| {
        for file in ["config.json", "tokenizer.json", "model.safetensors"] {
            std::fs::copy(self::folder().join(file), folder.path().join(file)).unwrap();
        }
        std::fs::write(folder.path().join(name), bytes).unwrap();
        let error = MiniLm::from_folder(folder.path()).unwrap_err();
        assert!(matches!(error, Error::BadModel { .. }), "{error}");
    };
    let weights = std::fs::read(self::folder().join("model.safetensors")).unwrap();
    bad("model.safetensors", &weights[..weights.len() - 1]);
    bad("model.safetensors", b"");
    bad("tokenizer.json", b"[]");
    bad("config.json", b"{}");
    let config = std::fs::read_to_string(self::folder().join("config.json")).unwrap();
    bad("config.json", config.replace("24", "27").as_bytes());
    bad("config.json", config.replace("gelu", "relu").as_bytes());
    bad(
        "config.json",
        config
            .replace("\"num_attention_heads\": 3", "\"num_attention_heads\": 0")
            .as_bytes(),
    );
    let mut not_finite = weights.clone();
    let last = not_finite.len() - 4;
    not_finite[last..].copy_from_slice(&f32::NAN.to_le_bytes());
    bad("model.safetensors", &not_finite);
}
