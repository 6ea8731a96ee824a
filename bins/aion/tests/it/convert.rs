//! `aion model quantize`, `unigram`, `save`, `verify` and `inspect` on a tiny model.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use aion_llm::testkit::TinyModel;
use serde_json::Value;

fn aion(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_aion"))
        .args(args)
        .current_dir(dir)
        .env("AION_CACHE", dir.join("cache"))
        .output()
        .unwrap()
}

fn json(output: &Output) -> Value {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

fn refused(output: &Output) -> String {
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn model() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("m.gguf"), TinyModel::in_blocks(1).gguf().bytes()).unwrap();
    dir
}

#[test]
fn a_model_is_quantised_and_its_loss_is_told() {
    let dir = model();
    let args = [
        "model", "quantize", "./m.gguf", "q.gguf", "--type", "q8_0", "--json",
    ];
    let done = json(&aion(dir.path(), &args));
    assert!(done["bytes_after"].as_u64().unwrap() < done["bytes_before"].as_u64().unwrap() / 2);
    let loss = |key: &str| done["loss"][key].as_f64().unwrap();
    assert!(
        (loss("bits_per_byte_after") - loss("bits_per_byte_before")).abs() < 0.05,
        "{done}"
    );
    assert!(refused(&aion(dir.path(), &args)).contains("is there already"));
    let text = dir.path().join("t.txt");
    fs::write(&text, "the other inn, the theatre, the river").unwrap();
    let again = [
        "model", "quantize", "./m.gguf", "q.gguf", "--type", "q4_1", "--text", "t.txt", "--force", "--json",
    ];
    assert_eq!(json(&aion(dir.path(), &again))["loss"]["text_bytes"], 37);
    let found = json(&aion(dir.path(), &["model", "inspect", "./q.gguf", "--json"]));
    assert_eq!(
        (&found["types"]["Q8_0"], &found["types"]["Q4_1"]),
        (&1.into(), &14.into())
    );
    let twice = aion(
        dir.path(),
        &["model", "quantize", "./q.gguf", "r.gguf", "--type", "q4_0"],
    );
    assert!(refused(&twice).contains("quantising again"));
    let names: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert!(
        !names.iter().any(|name| name.to_string_lossy().ends_with(".part")),
        "{names:?}"
    );
}

#[test]
fn counts_of_a_corpus_become_the_reference() {
    let dir = model();
    let corpus = dir.path().join("corpus/deep");
    fs::create_dir_all(&corpus).unwrap();
    fs::write(corpus.join("a.txt"), "the theatre\nthe inn\n").unwrap();
    fs::write(dir.path().join("b.txt"), "the end").unwrap();
    let args = [
        "model", "unigram", "corpus", "b.txt", "--model", "./m.gguf", "--json",
    ];
    let done = json(&aion(dir.path(), &args));
    assert_eq!((&done["files"], &done["bytes"]), (&2.into(), &27.into()));
    assert!(refused(&aion(dir.path(), &args)).contains("is there already"));
    let source = aion_llm::ModelSource::at(dir.path().join("m.gguf"));
    let engine = aion_llm::Engine::load(&source, aion_llm::EngineOptions::default()).unwrap();
    assert_eq!(engine.info().reference, aion_types::Reference::Unigram);
    fs::write(dir.path().join("empty.txt"), "").unwrap();
    let nothing = ["model", "unigram", "empty.txt", "--model", "./m.gguf", "--force"];
    assert!(refused(&aion(dir.path(), &nothing)).contains("has no token"));
}

#[test]
fn a_calibration_is_fitted_and_used() {
    let dir = model();
    let lines = (0..30).map(|i| format!("{{\"R\": {}, \"outcome\": {}}}\n", 1 + i % 5, i % 5 / 3));
    fs::write(dir.path().join("pairs.jsonl"), lines.collect::<String>()).unwrap();
    let args = [
        "model",
        "calibrate",
        "pairs.jsonl",
        "--model",
        "./m.gguf",
        "--json",
    ];
    let done = json(&aion(dir.path(), &args));
    assert_eq!(
        (&done["calibration"]["n"], &done["calibration"]["reference"]),
        (&30.into(), &"uniform".into())
    );
    assert!(done["calibration"]["bits_after"].as_f64() < done["calibration"]["bits_before"].as_f64());
    assert!(refused(&aion(dir.path(), &args)).contains("is there already"));
    let source = aion_llm::ModelSource::at(dir.path().join("m.gguf"));
    let engine = aion_llm::Engine::load(&source, aion_llm::EngineOptions::default()).unwrap();
    assert_eq!(
        Some(engine.info().calibration.a),
        done["calibration"]["a"].as_f64()
    );
    for (line, said) in [
        ("{\"R\": 2}", "line 1"),
        ("{\"R\": 0, \"outcome\": 1}", "ln R"),
        ("{\"R\": 2, \"outcome\": 1.5}", "outcome"),
        ("", "are none"),
    ] {
        fs::write(dir.path().join("bad.jsonl"), line).unwrap();
        let args = [
            "model",
            "calibrate",
            "bad.jsonl",
            "--model",
            "./m.gguf",
            "--force",
        ];
        let found = refused(&aion(dir.path(), &args));
        assert!(found.contains(said), "{line}: {found}");
    }
}

#[test]
fn a_checkpoint_directory_is_saved_verified_and_its_damage_named() {
    let dir = model();
    let saved = aion(dir.path(), &["model", "save", "./m.gguf", "ckpt"]);
    assert!(
        saved.status.success(),
        "{}",
        String::from_utf8_lossy(&saved.stderr)
    );
    assert!(aion(dir.path(), &["model", "verify", "ckpt"]).status.success());
    json(&aion(dir.path(), &["model", "inspect", "./ckpt", "--json"]));
    let weights = dir.path().join("ckpt/model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&weights, bytes).unwrap();
    let found = refused(&aion(dir.path(), &["model", "verify", "ckpt"]));
    assert!(found.contains("`model.safetensors` is not what"), "{found}");
}
