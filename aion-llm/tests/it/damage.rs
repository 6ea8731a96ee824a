//! Files that end early or lie: each is a typed error that says where, never a panic.

use aion_llm::gguf::{Array, Gguf, TensorType, Value};
use aion_llm::testkit::{GgufWriter, TinyModel};
use aion_llm::{Engine, EngineOptions, Error, ModelSource};
use proptest::prelude::*;

fn load(bytes: Vec<u8>) -> Result<Engine, Error> {
    Engine::load(
        &ModelSource::GgufBytes(bytes),
        EngineOptions::default().with_threads(1),
    )
}

fn reason(bytes: Vec<u8>) -> String {
    match Gguf::from_bytes(bytes).unwrap_err() {
        Error::Gguf { offset, reason } => format!("{offset}: {reason}"),
        other => panic!("{other}"),
    }
}

fn small() -> Vec<u8> {
    GgufWriter::default()
        .with("general.architecture", Value::Text("llama".into()))
        .with("list", Value::Array(Array::Integers(vec![1, 2, 3])))
        .with_tensor("t", &[2, 32], TensorType::Q8_0, vec![0; 68])
        .bytes()
}

#[test]
fn every_truncation_is_an_error() {
    let whole = small();
    assert!(Gguf::from_bytes(whole.clone()).is_ok());
    for len in 0..whole.len() {
        assert!(Gguf::from_bytes(whole[..len].to_vec()).is_err(), "cut at {len}");
    }
}

#[test]
fn a_truncated_model_names_a_place() {
    let bytes = TinyModel::random(1).gguf().bytes();
    for len in (0..bytes.len()).step_by(997) {
        let error = load(bytes[..len].to_vec()).unwrap_err();
        assert!(matches!(error, Error::Gguf { .. }), "cut at {len}: {error}");
    }
}

#[test]
fn lies_are_found_where_they_stand() {
    let patched = |at: usize, value: u64| {
        let mut bytes = small();
        bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        bytes
    };
    assert!(reason(patched(8, u64::MAX)).starts_with("8: 18446744073709551615 tensors"));
    assert!(reason(patched(16, 1 << 40)).starts_with("16: "));
    assert!(reason(patched(24, u64::MAX)).contains("a string of"));
    let mut wrong = small();
    wrong[0] = b'X';
    assert!(reason(wrong).contains("magic"));
    let mut future = small();
    future[4] = 9;
    assert!(reason(future).contains("version 9"));
}

#[test]
fn tensors_beyond_the_file_are_refused() {
    let tensor = |shape: &[usize], kind, bytes: usize| {
        GgufWriter::default()
            .with_tensor("t", shape, kind, vec![0; bytes])
            .bytes()
    };
    assert!(reason(tensor(&[64, 32], TensorType::Q8_0, 34)).contains("beyond the file"));
    assert!(reason(tensor(&[4, 20], TensorType::Q4_1, 64)).contains("whole blocks"));
    assert!(reason(tensor(&[1 << 40, 1 << 40], TensorType::F32, 4)).contains("overflows"));
    assert!(reason(tensor(&[1 << 32, 1 << 31], TensorType::F32, 4)).contains("overflows"));
    let twice = GgufWriter::default()
        .with_tensor("t", &[1], TensorType::F32, vec![0; 4])
        .with_tensor("t", &[1], TensorType::F32, vec![0; 4]);
    assert!(reason(twice.bytes()).contains("twice"));
    let shared = GgufWriter::default()
        .with_tensor("a", &[16], TensorType::F32, vec![0; 32])
        .with_tensor("b", &[8], TensorType::F32, vec![0; 32]);
    assert!(reason(shared.bytes()).contains("`a` and `b` overlap"));
}

#[test]
fn a_contradictory_model_is_refused() {
    let model = TinyModel::random(2);
    let change = |key: &str, value: Value| load(model.gguf().with(key, value).bytes()).unwrap_err();
    let unsigned = Value::Unsigned;
    assert!(matches!(
        change("general.architecture", Value::Text("rwkv".into())),
        Error::Unsupported(_)
    ));
    assert!(matches!(
        change("llama.block_count", unsigned(3)),
        Error::MissingTensor(_)
    ));
    assert!(matches!(
        change("llama.embedding_length", unsigned(60)),
        Error::Shape { .. }
    ));
    assert!(matches!(
        change("llama.attention.head_count", unsigned(5)),
        Error::Config(_)
    ));
    assert!(matches!(
        change("llama.attention.head_count", unsigned(0)),
        Error::Config(_)
    ));
    assert!(matches!(
        change("llama.context_length", unsigned(u64::MAX)),
        Error::Config(_)
    ));
    assert!(matches!(
        change("tokenizer.ggml.pre", Value::Text("unheard-of".into())),
        Error::Unsupported(_)
    ));
    assert!(matches!(
        change("tokenizer.ggml.eos_token_id", unsigned(70_000)),
        Error::Tokenizer(_)
    ));
    assert!(matches!(
        change("tokenizer.ggml.merges", texts(&["q qq"])),
        Error::Tokenizer(_)
    ));
    assert!(matches!(
        change("tokenizer.chat_template", Value::Text("{% if".into())),
        Error::Template(_)
    ));
    let many: Vec<String> = (0..300).map(|i| format!("token {i}")).collect();
    let many = model
        .gguf()
        .with("tokenizer.ggml.tokens", Value::Array(Array::Texts(many)))
        .with(
            "tokenizer.ggml.token_type",
            Value::Array(Array::Integers(vec![1; 300])),
        )
        .with("tokenizer.ggml.merges", texts(&[]));
    assert!(matches!(
        load(many.bytes()),
        Err(Error::TokenizerMismatch {
            tokenizer: 300,
            model: 265
        })
    ));
}

fn texts(items: &[&str]) -> Value {
    Value::Array(Array::Texts(
        items.iter().map(|text| (*text).to_owned()).collect(),
    ))
}

#[test]
fn an_unknown_tensor_type_is_named() {
    let mut bytes = GgufWriter::default()
        .with_tensor("t", &[4], TensorType::F32, vec![0; 16])
        .bytes();
    // preamble 24, name 8 + 1, dimensions 4 + 8: the type follows.
    bytes[45] = 12;
    let error = Gguf::from_bytes(bytes).unwrap_err();
    assert!(
        matches!(&error, Error::Unsupported(text) if text.contains("type 12")),
        "{error}"
    );
}

#[test]
fn a_broken_safetensors_header_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let model = TinyModel::random(3);
    std::fs::write(dir.path().join("config.json"), model.hub_config()).unwrap();
    std::fs::write(dir.path().join("tokenizer.json"), model.hub_tokenizer().unwrap()).unwrap();
    let header = |json: &str| [&(json.len() as u64).to_le_bytes()[..], json.as_bytes()].concat();
    let cases = [
        vec![1, 2, 3],
        u64::MAX.to_le_bytes().to_vec(),
        header("{"),
        header(r#"{"model.norm.weight": {"dtype": "F32", "shape": [48], "data_offsets": [0, 192]}}"#),
        header(r#"{"model.norm.weight": {"dtype": "F32", "shape": [48], "data_offsets": [9, 1]}}"#),
        header(
            r#"{"model.norm.weight": {"dtype": "F32", "shape": [4, 18446744073709551615], "data_offsets": [0, 0]}}"#,
        ),
    ];
    for bytes in cases {
        std::fs::write(dir.path().join("model.safetensors"), &bytes).unwrap();
        let error = Engine::load(&ModelSource::at(dir.path()), EngineOptions::default()).unwrap_err();
        assert!(matches!(error, Error::Safetensors(_)), "{error}");
    }
}

#[test]
fn a_missing_file_is_named() {
    let error = Engine::load(&ModelSource::at("no-such.gguf"), EngineOptions::default()).unwrap_err();
    assert!(
        matches!(&error, Error::Io { .. }) && error.to_string().contains("no-such.gguf"),
        "{error}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever bytes are flipped, reading the header ends without a panic and without a tensor outside the file.
    #[test]
    fn flipped_bytes_never_panic(flips in proptest::collection::vec((0usize..400, any::<u8>()), 1..6)) {
        let mut bytes = small();
        for (at, value) in flips {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        let len = bytes.len() as u64;
        if let Ok(gguf) = Gguf::from_bytes(bytes) {
            for (name, info) in gguf.tensors() {
                prop_assert!(info.offset + info.size_bytes <= len);
                prop_assert!(gguf.tensor_f32(name).is_ok());
            }
        }
    }
}
