//! The tables against the library reading the same tokenizer as a document, and against SentencePiece.
#![cfg(feature = "testkit")]

use std::sync::LazyLock;

use proptest::prelude::*;
use serde::Deserialize;

use super::*;
use crate::gguf::Array;
use crate::testkit::GgufWriter;

const HARD: &[&str] = &[
    "",
    " ",
    "the other inn, near the river 1234: é?",
    "  leading and trailing \t\n\n \r\n",
    "I'll they'RE we've 3.14159 1,000,000",
    "fn main() { println!(\"{}\", x_1); }\n\t// ok",
    "<|im_start|>user\nhi<|im_end|><|im_start|>",
    "<|im_start|<|im_end|>|>",
    "naïve Ωmega 漢字かな 한국어 العربية हिन्दी",
    "🚢🌊👩‍👩‍👧\u{200d}\u{0301}\u{feff}\u{0}\u{7f}\u{fffd}",
    "ĠĊÂ©\u{2581}\u{a0}\u{2028}\u{3000}x",
];

fn texts(list: impl IntoIterator<Item = impl Into<String>>) -> Value {
    Value::Array(Array::Texts(list.into_iter().map(Into::into).collect()))
}

/// Bytes, some merges of them, and special tokens.
fn byte_level(pre: &str) -> Gguf {
    let alphabet = spelling::char_of_byte();
    let mut tokens: Vec<String> = alphabet.iter().map(ToString::to_string).collect();
    let merges = [
        "t h",
        "th e",
        "Ġ the",
        "i n",
        "n n",
        "Ġ Ġ",
        "ĠĠ ĠĠ",
        "e r",
        "o u",
        "Ġ a",
        "1 2",
        "12 3",
        "Ã ©",
        "l l",
        "' ll",
        "Ċ Ċ",
        "in g",
    ];
    tokens.extend(merges.iter().map(|merge| merge.replace(' ', "")));
    // A word of the vocabulary that merges do not reach.
    tokens.push("Ġriver".into());
    let plain = tokens.len();
    tokens.extend(["<|im_start|>", "<|im_end|>", "println"].map(str::to_owned));
    let kinds = (0..tokens.len()).map(|id| match id {
        id if id < plain => 1,
        id if id == plain + 2 => 4,
        _ => 3,
    });
    let kinds = Value::Array(Array::Integers(kinds.collect()));
    let gguf = GgufWriter::default()
        .with("tokenizer.ggml.model", Value::Text("gpt2".into()))
        .with("tokenizer.ggml.pre", Value::Text(pre.into()))
        .with("tokenizer.ggml.tokens", texts(tokens))
        .with("tokenizer.ggml.merges", texts(merges))
        .with("tokenizer.ggml.token_type", kinds);
    Gguf::from_bytes(gguf.bytes()).unwrap()
}

#[derive(Deserialize)]
struct Golden {
    texts: Vec<String>,
    sets: std::collections::BTreeMap<String, Set>,
}

#[derive(Deserialize)]
struct Set {
    space: bool,
    tokens: Vec<String>,
    kinds: Vec<i64>,
    scores: Vec<f64>,
    ids: Vec<Vec<u32>>,
    texts: Vec<String>,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("../../tests/golden/pieces.json")).unwrap()
}

impl Set {
    fn gguf(&self) -> Gguf {
        let gguf = GgufWriter::default()
            .with("tokenizer.ggml.model", Value::Text("llama".into()))
            .with("tokenizer.ggml.tokens", texts(self.tokens.clone()))
            .with(
                "tokenizer.ggml.scores",
                Value::Array(Array::Floats(self.scores.clone())),
            )
            .with(
                "tokenizer.ggml.token_type",
                Value::Array(Array::Integers(self.kinds.clone())),
            )
            .with("tokenizer.ggml.add_space_prefix", Value::Bool(self.space));
        Gguf::from_bytes(gguf.bytes()).unwrap()
    }
}

/// Both ways: from the tables, and from the document that says the same, which the library reads.
fn both(gguf: &Gguf) -> (Tokenizer, Tokenizer) {
    let document = gguf_document(gguf).unwrap();
    (
        Tokenizer::from_gguf(gguf).unwrap(),
        Tokenizer::from_document(&document).unwrap(),
    )
}

fn same(ours: &Tokenizer, theirs: &Tokenizer, text: &str) {
    for specials in [Specials::Recognise, Specials::AsText] {
        for place in [Place::Start, Place::Inside] {
            let ids = |tokenizer: &Tokenizer| tokenizer.encode_at(text, specials, place).unwrap();
            let tokens = ids(ours);
            assert_eq!(tokens, ids(theirs), "{text:?} {specials:?} {place:?}");
            assert_eq!(ours.decode(&tokens), theirs.decode(&tokens));
        }
    }
}

fn same_tables(ours: &Tokenizer, theirs: &Tokenizer) {
    assert_eq!(ours.len(), theirs.len());
    for id in 0..ours.len() as u32 + 1 {
        assert_eq!(ours.text_bytes(id), theirs.text_bytes(id), "{id}");
        assert_eq!(ours.spelling(id), theirs.spelling(id));
        assert_eq!(
            (ours.is_special(id), ours.is_stop(id)),
            (theirs.is_special(id), theirs.is_stop(id))
        );
    }
    assert_eq!(ours.special_texts(), theirs.special_texts());
}

#[test]
fn tables_cut_texts_as_the_library_does() {
    for pre in ["smollm", "gpt-2", "llama-bpe", "qwen2"] {
        let (ours, theirs) = both(&byte_level(pre));
        same_tables(&ours, &theirs);
        HARD.iter().for_each(|text| same(&ours, &theirs, text));
    }
    // Scores that several pieces share have no order in a list of merges, so `tied` is not asked.
    let golden = golden();
    for name in ["bytes", "plain"] {
        let set = &golden.sets[name];
        let (ours, theirs) = both(&set.gguf());
        if set.space {
            HARD.iter().for_each(|text| same(&ours, &theirs, text));
        }
        golden.texts.iter().for_each(|text| same(&ours, &theirs, text));
    }
}

proptest! {
    #[test]
    fn any_text_is_cut_as_the_library_does(text in "(\\PC|the |<\\|im_end\\|>|[ \n\t1-3]){0,30}") {
        static KINDS: LazyLock<[(Tokenizer, Tokenizer); 3]> = LazyLock::new(|| {
            let set = &golden().sets["bytes"];
            [byte_level("smollm"), byte_level("llama-bpe"), set.gguf()].each_ref().map(both)
        });
        for (ours, theirs) in &*KINDS {
            same(ours, theirs, &text);
        }
    }
}

/// The vocabulary of real weights; the file is found as the integration tests find it.
#[test]
fn a_real_vocabulary_is_the_librarys() {
    if std::env::var_os("AION_SKIP_MODEL_TESTS").is_some_and(|value| value == "1") {
        return;
    }
    let home = || std::path::PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache/aion");
    let cache = || std::env::var_os("AION_CACHE").map_or_else(home, Into::into);
    let path = std::env::var_os("AION_TEST_MODEL").map_or_else(
        || cache().join("models/SmolLM2-135M-Instruct.Q4_1.gguf"),
        std::path::PathBuf::from,
    );
    let (ours, theirs) = both(&Gguf::open(&path).unwrap());
    same_tables(&ours, &theirs);
    HARD.iter().for_each(|text| same(&ours, &theirs, text));
    // Some bytes have no token here: 0xf1 and 0x06 are two of them.
    let mut every = String::new();
    for c in ('\0'..'\u{500}').chain('\u{d0000}'..'\u{d0100}') {
        same(&ours, &theirs, &format!("a{c}{c} {c}b"));
        every.push(c);
    }
    same(&ours, &theirs, &every);
    assert!(ours.encode("\u{6}", Specials::AsText).unwrap().is_empty());
    for text in [
        include_str!("../../tests/golden/text.txt"),
        include_str!("tests.rs"),
        include_str!("mod.rs"),
    ] {
        same(&ours, &theirs, text);
    }
}

#[test]
fn pieces_are_those_of_sentence_piece() {
    let golden = golden();
    for (name, set) in &golden.sets {
        let tokenizer = Tokenizer::from_gguf(&set.gguf()).unwrap();
        assert_eq!(
            (tokenizer.bos(), tokenizer.eos(), tokenizer.prefix()),
            (Some(1), Some(2), Some(1))
        );
        for ((text, ids), back) in golden.texts.iter().zip(&set.ids).zip(&set.texts) {
            if set.space && text.contains("[CALL]") {
                continue;
            }
            let tokens = tokenizer.encode(text, Specials::AsText).unwrap();
            assert_eq!(&tokens, ids, "{name}: {text:?}");
            // The library writes `unk` as a sign of its own.
            if !ids.contains(&0) {
                assert_eq!(&tokenizer.decode(&tokens), back, "{name}: {text:?}");
            }
        }
    }
}

/// As llama.cpp has it, words begin with a space after every token that is found in the text itself.
#[test]
fn a_text_that_goes_on_gets_no_space() {
    let golden = golden();
    let tokenizer = Tokenizer::from_gguf(&golden.sets["bytes"].gguf()).unwrap();
    let start = tokenizer.encode("Marta", Specials::AsText).unwrap();
    let inside = tokenizer
        .encode_at("Marta", Specials::AsText, Place::Inside)
        .unwrap();
    assert_eq!(tokenizer.spelling(start[0]), " Marta");
    assert_ne!(start, inside);
    let spelled = |tokens: &[u32]| -> Vec<u8> {
        tokens
            .iter()
            .flat_map(|id| tokenizer.text_bytes(*id).to_vec())
            .collect()
    };
    assert_eq!(spelled(&inside), b"Marta");
    let after = tokenizer.encode("</s>Marta", Specials::Recognise).unwrap();
    assert_eq!(after, [&[2], &start[..]].concat());
    assert!(tokenizer.is_stop(2));
}

#[test]
fn descriptions_that_contradict_themselves_are_errors() {
    let golden = golden();
    let set = |change: fn(&mut Set)| {
        let mut set =
            serde_json::from_value::<Set>(
                serde_json::from_str::<Json>(include_str!("../../tests/golden/pieces.json")).unwrap()["sets"]
                    ["plain"]
                    .clone(),
            )
            .unwrap();
        change(&mut set);
        Tokenizer::from_gguf(&set.gguf())
    };
    assert!(set(|_| ()).is_ok() && golden.sets.len() == 3);
    let wrong: [fn(&mut Set); 3] = [
        |set| set.scores.truncate(5),
        |set| set.scores[7] = f64::NAN,
        |set| set.kinds.truncate(5),
    ];
    for change in wrong {
        assert!(matches!(set(change), Err(Error::Tokenizer(_))));
    }
}
