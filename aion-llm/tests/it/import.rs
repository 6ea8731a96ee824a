//! The same weights give the same model, whatever file they come from.

use std::path::Path;

use aion_llm::testkit::TinyModel;
use aion_llm::{Engine, EngineOptions, Error, FeedForward, Head, ModelSource, Specials, Tokenizer};
use safetensors::tensor::{Dtype, TensorView};

use crate::{largest_gap, plain};

const TEXT: &str = "the other inn, near the river 1234: é?";

fn load(source: &ModelSource) -> Engine {
    Engine::load(source, EngineOptions::default().with_threads(1)).unwrap()
}

fn write_shard(path: &Path, tensors: &[(String, Vec<usize>, Vec<u8>)]) {
    let view = |(name, shape, bytes): &(String, Vec<usize>, Vec<u8>)| {
        (
            name.clone(),
            TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap().into(),
        )
    };
    let views: Vec<(String, View)> = tensors.iter().map(view).collect();
    let bytes =
        safetensors::serialize(views.iter().map(|(name, view)| (name, view.as_view())), None).unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// An owned view, because the writer borrows.
struct View {
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl From<TensorView<'_>> for View {
    fn from(view: TensorView<'_>) -> Self {
        Self {
            shape: view.shape().to_vec(),
            bytes: view.data().to_vec(),
        }
    }
}

impl View {
    fn as_view(&self) -> TensorView<'_> {
        TensorView::new(Dtype::F32, self.shape.clone(), &self.bytes).unwrap()
    }
}

pub(crate) fn hub_dir(model: &TinyModel) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("config.json"), model.hub_config()).unwrap();
    std::fs::write(dir.path().join("tokenizer.json"), model.hub_tokenizer().unwrap()).unwrap();
    write_shard(&dir.path().join("model.safetensors"), &model.hub_tensors());
    dir
}

#[test]
fn gguf_and_safetensors_give_equal_logits() {
    for (ff, head) in [
        (FeedForward::SwiGlu, Head::Tied),
        (FeedForward::ReluSquared, Head::Untied),
    ] {
        let model = TinyModel::with_shape(3, ff, head);
        let dir = hub_dir(&model);
        let (gguf, hub) = (load(&model.source()), load(&ModelSource::at(dir.path())));
        assert_eq!(gguf.info().config, hub.info().config);
        let gap = largest_gap(&gguf.score_text(TEXT).unwrap(), &hub.score_text(TEXT).unwrap());
        assert!(gap < 1e-6, "{ff:?}, {head:?}: {gap}");
    }
}

#[test]
fn shards_with_an_index_are_one_model() {
    let model = TinyModel::random(4);
    let dir = hub_dir(&model);
    let whole = load(&ModelSource::at(dir.path())).score_text(TEXT).unwrap();
    let tensors = model.hub_tensors();
    let (a, b) = tensors.split_at(tensors.len() / 2);
    std::fs::remove_file(dir.path().join("model.safetensors")).unwrap();
    let mut map = serde_json::Map::new();
    for (file, part) in [("a.safetensors", a), ("b.safetensors", b)] {
        write_shard(&dir.path().join(file), part);
        part.iter()
            .for_each(|(name, _, _)| _ = map.insert(name.clone(), file.into()));
    }
    let index = dir.path().join("model.safetensors.index.json");
    std::fs::write(&index, serde_json::json!({ "weight_map": map }).to_string()).unwrap();
    let sharded = load(&ModelSource::at(dir.path())).score_text(TEXT).unwrap();
    assert_eq!(largest_gap(&whole, &sharded), 0.0);
    std::fs::write(&index, r#"{"weight_map": {"x": "../model.safetensors"}}"#).unwrap();
    let error = Engine::load(&ModelSource::at(dir.path()), EngineOptions::default()).unwrap_err();
    assert!(error.to_string().contains("plain file name"), "{error}");
}

/// The tests above would hold for any two equal mistakes, so the computation is checked against its formula once,
/// position by position in `f64`, with nothing shared but the weights.
#[test]
fn the_decoder_computes_its_formula() {
    let model = TinyModel::random(5);
    let tokens: Vec<u32> = vec![104, 105, 32, 260, 17, 99, 104, 3];
    let expected = plain::surprises(&model, &tokens);
    let scored = load(&model.source()).score(&tokens, 0).unwrap();
    for (score, expected) in scored.iter().zip(expected) {
        // Keys and values are halves in the cache.
        assert!(
            (score.surprise_nats - expected).abs() < 5e-3,
            "{} for {expected}",
            score.surprise_nats
        );
    }
}

#[test]
fn a_tokenizer_with_more_tokens_than_the_model_is_refused() {
    let mut config: serde_json::Value = serde_json::from_str(&TinyModel::random(6).hub_config()).unwrap();
    let dir = hub_dir(&TinyModel::random(6));
    let mut tokenizer: serde_json::Value =
        serde_json::from_str(&TinyModel::random(6).hub_tokenizer().unwrap()).unwrap();
    tokenizer["model"]["vocab"]["extra"] = serde_json::json!(config["vocab_size"]);
    std::fs::write(dir.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
    let error = Engine::load(&ModelSource::at(dir.path()), EngineOptions::default()).unwrap_err();
    assert!(
        matches!(
            error,
            Error::TokenizerMismatch {
                tokenizer: 266,
                model: 265
            }
        ),
        "{error}"
    );
    config["rope_scaling"] = serde_json::json!({"rope_type": "yarn"});
    std::fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
    let error = Engine::load(&ModelSource::at(dir.path()), EngineOptions::default()).unwrap_err();
    assert!(matches!(error, Error::Unsupported(_)), "{error}");
}

#[test]
fn text_survives_the_tokenizer() {
    let tokenizer = Tokenizer::from_json(&TinyModel::random(7).hub_tokenizer().unwrap()).unwrap();
    for text in ["the theatre", "", " \n\t", "日本語 é \u{1F600}", "<|im_end|>"] {
        let tokens = tokenizer.encode(text, Specials::AsText).unwrap();
        assert_eq!(tokenizer.decode(&tokens), text);
        assert!(tokens.iter().all(|token| !tokenizer.is_special(*token)));
    }
    assert_eq!(tokenizer.encode("the", Specials::AsText).unwrap().len(), 1);
    let special = tokenizer.encode("<|im_end|>", Specials::Recognise).unwrap();
    assert!(special.len() == 1 && tokenizer.is_stop(special[0]) && tokenizer.decode(&special).is_empty());
}
