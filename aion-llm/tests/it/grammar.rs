//! Output that must have a form: whatever the schema and the weights are, a text that ends matches it.

use std::ops::ControlFlow;

use aion_llm::testkit::TinyModel;
use aion_llm::{
    Calls, Completion, Engine, EngineOptions, Error, FinishReason, GenerateRequest, OutputFormat, Prompt,
    Sampling, Specials, ToolChoice, ToolDelta, ToolFormat, ToolFunction, ToolSet,
};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Value as Json, json};

fn engine() -> Engine {
    let options = EngineOptions::default().with_threads(1);
    Engine::load(&TinyModel::random(2).source(), options).unwrap()
}

/// A warm request that likes to close what it opened: a random model would otherwise rarely end a string.
fn request(engine: &Engine, format: OutputFormat, seed: u64) -> GenerateRequest {
    let closers = ["\"", "}", "]", ")"].into_iter().map(|text| {
        let tokens = engine.tokenizer().encode(text, Specials::AsText).unwrap();
        (tokens[0], 6.0)
    });
    let sampling = Sampling::greedy().with_temperature(1.0).unwrap().with_seed(seed);
    GenerateRequest::new(Prompt::Text("the inn".into()))
        .with_sampling(sampling)
        .with_logit_bias(closers)
        .unwrap()
        .with_max_tokens(300)
        .with_format(format)
}

fn leaf() -> impl Strategy<Value = Json> {
    prop_oneof![
        Just(json!({"type": "null"})),
        Just(json!({"type": "boolean"})),
        (-50i64..50, 0i64..60)
            .prop_map(|(low, more)| json!({"type": "integer", "minimum": low, "maximum": low + more})),
        (0u64..3, 0u64..5).prop_map(
            |(least, more)| json!({"type": "string", "minLength": least, "maxLength": least + more})
        ),
        "\\[[a-f]-?\\]\\{1,4\\}".prop_map(|class| json!({"type": "string", "pattern": format!("^{class}$")})),
        proptest::collection::vec("[a-zäß\"\\\\]{0,5}", 1..4).prop_map(|values| json!({ "enum": values })),
        prop_oneof![
            Just(json!(7)),
            Just(json!("x\ny")),
            Just(json!([1, {}])),
            Just(json!(null))
        ]
        .prop_map(|value| json!({ "const": value })),
        Just(json!({"$ref": "#"})),
        Just(json!({"type": ["string", "null"], "maxLength": 3})),
        Just(json!({"type": "number", "minimum": 0, "exclusiveMaximum": 2})),
    ]
}

fn schema() -> impl Strategy<Value = Json> {
    leaf().prop_recursive(3, 12, 3, |inner| {
        let named = proptest::collection::btree_map("[a-c]", (inner.clone(), any::<bool>()), 0..3);
        prop_oneof![
            (inner.clone(), 0u64..2, 0u64..3).prop_map(
                |(items, least, more)| json!({"type": "array", "items": items, "minItems": least, "maxItems": least + more})
            ),
            named.prop_map(|named| {
                let required: Vec<_> = named.iter().filter(|(_, (_, required))| *required).map(|(name, _)| name).collect();
                let properties: serde_json::Map<_, _> =
                    named.iter().map(|(name, (schema, _))| (name.clone(), schema.clone())).collect();
                json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
            }),
            (inner.clone(), inner).prop_map(|(a, b)| json!({"anyOf": [a, b]})),
        ]
    })
}

/// Every text that ends is valid for its schema, over 1,000 random schemas, recursive ones too; a schema without a finite
/// value is refused before any token.
#[test]
fn a_text_that_ends_matches_its_schema() {
    let (engine, mut runner) = (engine(), TestRunner::deterministic());
    let (mut whole, mut cut, mut impossible, mut recursive) = (0, 0, 0, 0);
    for seed in 0..1000 {
        let schema = schema().new_tree(&mut runner).unwrap().current();
        let mut begun = false;
        let request = request(&engine, OutputFormat::JsonSchema(schema.clone()), seed);
        let result = engine.generate(&request, &mut |_| {
            begun = true;
            ControlFlow::Continue(())
        });
        let completion = match result {
            Ok(completion) => completion,
            Err(Error::Schema(reason)) => {
                assert!(!begun && reason.contains("no finite value"), "{schema}: {reason}");
                impossible += 1;
                continue;
            }
            Err(error) => panic!("{schema}: {error}"),
        };
        if completion.finish == FinishReason::Length {
            cut += 1;
            continue;
        }
        let value: Json = serde_json::from_str(&completion.text)
            .unwrap_or_else(|e| panic!("{schema}: {e}: {}", completion.text));
        let validator = jsonschema::validator_for(&schema).unwrap();
        assert!(validator.is_valid(&value), "{schema}: {value}");
        whole += 1;
        recursive += u32::from(schema.to_string().contains("$ref"));
    }
    println!("{whole} whole ({recursive} recursive), {cut} cut off, {impossible} impossible");
    assert!(
        whole > 700 && recursive > 50 && cut < 100,
        "{whole} {recursive} {cut} {impossible}"
    );
}

fn complete(engine: &Engine, format: OutputFormat, seed: u64) -> Completion {
    engine.complete(&request(engine, format, seed)).unwrap()
}

#[test]
fn a_pattern_is_matched_whole() {
    let engine = engine();
    for seed in 0..20 {
        let text = complete(
            &engine,
            OutputFormat::Regex(r"[0-9]{4}-[0-9]{2}/(ja|nein)\n?".into()),
            seed,
        )
        .text;
        let (date, word) = text.trim_end().split_once('/').unwrap();
        assert!(
            ["ja", "nein"].contains(&word) && date.len() == 7 && date.as_bytes()[4] == b'-',
            "{text}"
        );
        let nested = complete(
            &engine,
            OutputFormat::Lark(r#"start: "(" start ~ 0..2 ")" | /[0-9]/"#.into()),
            seed,
        );
        if nested.finish == FinishReason::Stop {
            let depth = nested.text.bytes().fold(0i32, |depth, c| {
                assert!(depth >= 0 && b"()0123456789".contains(&c), "{}", nested.text);
                depth + i32::from(c == b'(') - i32::from(c == b')')
            });
            assert_eq!(depth, 0, "{}", nested.text);
        }
    }
}

#[test]
fn formats_that_nothing_fits_fail_before_any_token() {
    let engine = engine();
    let empty_string = json!({"type": "object", "required": ["a"],
        "properties": {"a": {"type": "string", "pattern": "^a$", "minLength": 5}}});
    let cases = [
        OutputFormat::Regex("(".into()),
        OutputFormat::Regex(r"[^\s\S]".into()),
        OutputFormat::Regex(format!("{}a{}", "(".repeat(5000), ")".repeat(5000))),
        OutputFormat::Regex("a".repeat(300 << 10)),
        OutputFormat::Lark("begin: \"x\"".into()),
        OutputFormat::Lark(format!("start: {}/a/", "~".repeat(90_000))),
        OutputFormat::Lark("start: start \"a\"".into()),
        OutputFormat::Lark(String::new()),
        OutputFormat::JsonSchema(json!(false)),
        OutputFormat::JsonSchema(json!({"type": "integer", "minimum": 3, "maximum": 2})),
        OutputFormat::JsonSchema(
            json!({"type": "object", "required": ["n"], "properties": {"n": {"$ref": "#"}}}),
        ),
        OutputFormat::JsonSchema(json!({"type": "object", "required": ["n"], "properties": {"n": false}})),
        OutputFormat::JsonSchema(empty_string),
        OutputFormat::JsonSchema(json!({"type": "string", "pattern": "("})),
        OutputFormat::JsonSchema(json!({"type": "string", "x-guidance": 7})),
    ];
    for format in cases {
        let shown: String = format!("{format:?}").chars().take(90).collect();
        let result = engine.generate(&request(&engine, format, 1), &mut |event| {
            panic!("{shown}: {event:?}")
        });
        let error = result.unwrap_err();
        assert!(matches!(error, Error::Schema(_)), "{shown}: {error}");
        assert!(error.to_string().len() < 600, "{shown}: {error}");
    }
}

const FORMATS: [ToolFormat; 3] = [
    ToolFormat::Tagged,
    ToolFormat::TaggedList,
    ToolFormat::Json {
        arguments: "parameters",
    },
];

fn tools() -> ToolSet {
    let point = json!({"type": "object", "properties": {"x": {"type": "integer", "minimum": 0, "maximum": 9},
        "on": {"$ref": "#/$defs/flag"}}, "required": ["x", "on"], "additionalProperties": false,
        "$defs": {"flag": {"type": "boolean"}}});
    let functions = [
        ToolFunction::new("move_to", Some(point)).unwrap().exact(),
        ToolFunction::new("stop", None).unwrap(),
    ];
    ToolSet::new(functions).unwrap()
}

/// The text and the calls of an answer; every call is checked.
fn calls(set: &ToolSet, format: ToolFormat, text: &str) -> (String, Vec<String>) {
    let (mut plain, mut calls, mut arguments) = (String::new(), Vec::new(), String::new());
    let mut parser = set.parser(format);
    let pieces: Vec<String> = text.chars().map(String::from).collect();
    let mut deltas: Vec<ToolDelta> = pieces.iter().flat_map(|piece| parser.push(piece)).collect();
    deltas.extend(parser.finish());
    for delta in deltas {
        match delta {
            ToolDelta::Text(more) => plain += &more,
            ToolDelta::Call { name, .. } => calls.push(name),
            ToolDelta::Arguments(more) => arguments += &more,
            ToolDelta::End => {
                let value: Json = serde_json::from_str(&arguments).unwrap();
                let whole = value.as_object().unwrap();
                match calls.last().unwrap().as_str() {
                    "stop" => assert!(whole.is_empty(), "{text}"),
                    _ => assert!(
                        value["x"].as_u64().unwrap() < 10 && value["on"].is_boolean() && whole.len() == 2,
                        "{text}"
                    ),
                }
                arguments.clear();
            }
        }
    }
    assert!(arguments.is_empty(), "a call without an end: {text}");
    (plain, calls)
}

#[test]
fn calls_follow_the_choice_and_the_schemas() {
    let engine = engine();
    let choices = [
        (ToolChoice::Required, Calls::Several, 1..=16),
        (ToolChoice::Required, Calls::One, 1..=1),
        (ToolChoice::Named("move_to".into()), Calls::Several, 1..=1),
    ];
    for format in FORMATS {
        for (choice, number, expected) in &choices {
            let set = tools().with_choice(choice.clone()).unwrap().with_calls(*number);
            let lark = set.output_format(format, &OutputFormat::Text).unwrap();
            for seed in 0..8 {
                let completion = complete(&engine, lark.clone(), seed);
                if completion.finish != FinishReason::Stop {
                    continue;
                }
                let (plain, calls) = calls(&set, format, &completion.text);
                assert!(
                    plain.is_empty() && expected.contains(&calls.len()),
                    "{choice:?}: {}",
                    completion.text
                );
                assert!(!matches!(choice, ToolChoice::Named(name) if calls != [name.clone()]));
            }
        }
    }
}

/// A model that decides for itself: what it begins as a call becomes one.
#[test]
fn a_call_that_the_model_begins_is_finished_by_the_grammar() {
    let engine = engine();
    for format in FORMATS {
        let set = tools();
        let lark = set.output_format(format, &OutputFormat::Text).unwrap();
        let free = complete(&engine, lark.clone(), 3);
        let (plain, none) = calls(&set, format, &free.text);
        assert_eq!(
            (plain, none.len()),
            (free.text, 0),
            "a random model does not call by chance"
        );
        // The beginning is given, the rest left to the model.
        let begin = if matches!(format, ToolFormat::Json { .. }) {
            "{"
        } else {
            "So. <tool_call>"
        };
        let text = forced(&engine, &lark, begin);
        let (plain, called) = calls(&set, format, &text);
        assert_eq!(plain, if begin == "{" { "" } else { "So." }, "{text}");
        assert!(!called.is_empty(), "{text}");
    }
    let answer = OutputFormat::JsonSchema(json!({"type": "object", "properties": {"a": {"enum": [1, 2]}},
        "required": ["a"], "additionalProperties": false}));
    let set = tools();
    for format in FORMATS {
        let lark = set.output_format(format, &answer).unwrap();
        for seed in 0..6 {
            let text = complete(&engine, lark.clone(), seed).text;
            let (plain, called) = calls(&set, format, &text);
            assert!(
                !called.is_empty() || plain == "{\"a\": 1}" || plain == "{\"a\": 2}",
                "{text}"
            );
        }
    }
}

/// A text of the grammar whose beginning is given.
fn forced(engine: &Engine, lark: &OutputFormat, begin: &str) -> String {
    let OutputFormat::Lark(grammar) = lark else {
        panic!("{lark:?}")
    };
    let grammar = OutputFormat::Lark(with_beginning(grammar, begin));
    let mut made = (0..100).map(|seed| complete(engine, grammar.clone(), seed));
    made.find(|completion| completion.finish == FinishReason::Stop)
        .unwrap()
        .text
}

/// The same grammar for texts that begin so: the rules' first text is made to be this one.
fn with_beginning(grammar: &str, begin: &str) -> String {
    match begin.strip_suffix("<tool_call>") {
        Some(text) => grammar.replace("start: PLAIN | before", "start: before").replace(
            "before[lazy]: /(.|\\n)*<tool_call>/",
            &format!("before[lazy]: /{}<tool_call>/", text.replace('.', "\\.")),
        ),
        None => grammar.replace(" | PLAIN", ""),
    }
}

/// Chains of rules and of references are followed recursively: long ones are refused, and those within the limits are
/// compiled without an end of the stack.
#[test]
fn long_chains_are_refused_or_compiled() {
    let engine = engine();
    let rules = |n: usize| {
        let link = |i: usize| format!("a{i}: a{}\n", i + 1);
        let links: String = (0..n).map(link).collect();
        OutputFormat::Lark(format!("start: a0\n{links}a{n}: \"x\"\n"))
    };
    let references = |n: usize| {
        let mut defs: serde_json::Map<String, Json> = (0..n)
            .map(|i| (format!("a{i}"), json!({"$ref": format!("#/$defs/a{}", i + 1)})))
            .collect();
        defs.insert(format!("a{n}"), json!({"type": "null"}));
        OutputFormat::JsonSchema(json!({"$ref": "#/$defs/a0", "$defs": defs}))
    };
    for format in [rules(15_000), references(5_000)] {
        let request = GenerateRequest::new(Prompt::Tokens(vec![1]))
            .with_max_tokens(1)
            .with_format(format);
        assert!(matches!(engine.complete(&request), Err(Error::Schema(_))));
    }
    for format in [rules(900), references(900)] {
        let request = GenerateRequest::new(Prompt::Tokens(vec![1]))
            .with_max_tokens(1)
            .with_format(format);
        // Whether the compiler has limits of its own is its affair; the process lives.
        drop(engine.complete(&request));
    }
}

/// A vocabulary without a token that ends a text knows no formats, which is the request's fault and not the model's.
#[test]
fn a_model_without_ends_refuses_formats() {
    let engine = crate::tiny(3);
    let prompt = Prompt::Text("the inn".into());
    let request = GenerateRequest::new(prompt).with_format(OutputFormat::JsonObject);
    let error = engine.complete(&request).unwrap_err();
    assert!(
        matches!(&error, Error::Schema(_)) && error.is_bad_request(),
        "{error}"
    );
    assert!(error.to_string().contains("free text"), "{error}");
}
