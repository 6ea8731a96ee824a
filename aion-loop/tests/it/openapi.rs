//! Tools from OpenAPI: worked cases, broken documents, recursive schemas, a real document.

use aion_loop::openapi::OpenApiError;
use aion_loop::{OpenApiOptions, Place, Replay, Tool, tools_from_openapi};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

fn post(schema: Value, components: Value) -> Value {
    json!({"openapi": "3.1.0", "paths": {"/x": {"post": {"operationId": "make_x", "requestBody":
        {"content": {"application/json": {"schema": schema}}}}}}, "components": {"schemas": components}})
}

fn one(document: &Value) -> Result<Tool, OpenApiError> {
    let options = OpenApiOptions::default().with_only(["make_x"]);
    tools_from_openapi(document, "s", &options)
        .map(|mut derived| derived.tools.remove(0))
        .map_err(|error| match error {
            OpenApiError::Unfit { reason, .. } => *reason,
            other => other,
        })
}

#[test]
fn parameters_and_body_become_one_object() {
    let document = json!({"openapi": "3.1.0", "paths": {"/a/{id}": {
        "parameters": [{"$ref": "#/components/parameters/Id"}],
        "patch": {"operationId": "change.a", "summary": "Changes.", "description": "Changes.\nMore.",
            "parameters": [
                {"name": "dry", "in": "query", "schema": {"type": "boolean"}, "description": "Only try."},
                {"name": "X-Mode", "in": "header", "schema": {"type": "string"}},
                {"name": "Idempotency-Key", "in": "header", "schema": {"type": "string"}},
                {"name": "sid", "in": "cookie", "schema": {"type": "string"}},
            ],
            "requestBody": {"$ref": "#/components/requestBodies/A"}}}},
        "components": {
            "parameters": {"Id": {"name": "id", "in": "path", "required": true, "schema": {"type": "integer"}}},
            "requestBodies": {"A": {"required": true, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/A"}}}}},
            "schemas": {"A": {"type": "object", "required": ["id"], "example": {},
                "properties": {"id": {"type": "string", "example": "x", "x-note": 1}, "example": {"type": "string"}}}}}});
    let derived = tools_from_openapi(&document, "s", &OpenApiOptions::default()).unwrap();
    let tool = &derived.tools[0];
    assert_eq!((tool.name.as_str(), tool.method.as_str()), ("change_a", "PATCH"));
    assert_eq!(tool.description, "Changes.\nMore.");
    assert_eq!(tool.replay, Replay::ByKey, "the operation declares the header");
    assert_eq!(tool.places["id"], Place::Path("id".into()));
    assert_eq!(tool.places["id_body"], Place::BodyMember("id".into()));
    assert_eq!(tool.places["X-Mode"], Place::Header("X-Mode".into()));
    assert!(!tool.places.contains_key("sid") && !tool.places.contains_key("Idempotency-Key"));
    assert_eq!(
        tool.schema["properties"]["dry"],
        json!({"type": "boolean", "description": "Only try."})
    );
    assert_eq!(tool.schema["properties"]["id_body"], json!({"type": "string"}));
    assert!(
        tool.schema["properties"]["example"].is_object(),
        "a property is no annotation"
    );
    assert_eq!(tool.schema["required"], json!(["id", "id_body"]));
    let arguments = json!({"id": 5, "id_body": "five", "dry": true, "X-Mode": "m"});
    let request = tool.request(arguments.as_object().unwrap()).unwrap();
    assert_eq!(request.path_and_query, "/a/5?dry=true");
    assert_eq!(request.headers, [("X-Mode".to_owned(), "m".to_owned())]);
    assert_eq!(request.body, Some(json!({"id": "five"})));
}

#[test]
fn a_body_that_is_no_plain_object_stays_whole() {
    let tool = one(&post(
        json!({"oneOf": [{"type": "string"}, {"type": "integer"}]}),
        json!({}),
    ))
    .unwrap();
    assert_eq!(tool.places["body"], Place::Body);
    let request = tool.request(json!({"body": 5}).as_object().unwrap()).unwrap();
    assert_eq!(request.body, Some(json!(5)));
}

#[test]
fn broken_references_are_typed_errors() {
    let unknown = post(json!({"$ref": "#/components/schemas/Nope"}), json!({}));
    assert!(matches!(one(&unknown), Err(OpenApiError::UnknownRef(_))));
    let external = post(
        json!({"type": "array", "items": {"$ref": "https://example.com/x.json"}}),
        json!({}),
    );
    assert!(matches!(one(&external), Err(OpenApiError::ExternalRef(_))));
    let deep = json!({"A": {"type": "array", "items": {"$ref": "#/components/schemas/Gone"}}});
    assert!(matches!(
        one(&post(json!({"$ref": "#/components/schemas/A"}), deep)),
        Err(OpenApiError::UnknownRef(_))
    ));
    let circle = json!({"A": {"$ref": "#/components/schemas/B"}, "B": {"$ref": "#/components/schemas/A"}});
    assert!(matches!(
        one(&post(json!({"$ref": "#/components/schemas/A"}), circle.clone())),
        Err(OpenApiError::CyclicRef(_))
    ));
    let inner = post(
        json!({"type": "array", "items": {"$ref": "#/components/schemas/A"}}),
        circle,
    );
    assert!(matches!(one(&inner), Err(OpenApiError::CyclicRef(_))));
}

/// Older drafts come back to the whole schema by `$recursiveRef`; that is a reference to its definition.
#[test]
fn recursive_references_of_older_drafts_come_back() {
    let tree = json!({"Tree": {"$id": "https://example.com/tree", "$recursiveAnchor": true, "type": "object", "required": ["leaf"],
        "properties": {"leaf": {"type": "integer"}, "next": {"$recursiveRef": "#"}}, "additionalProperties": false}});
    let tool = one(&post(
        json!({"type": "array", "items": {"$ref": "#/components/schemas/Tree"}}),
        tree,
    ))
    .unwrap();
    let schema = jsonschema::draft202012::new(&tool.schema).unwrap();
    assert!(schema.is_valid(&json!({"body": [{"leaf": 1, "next": {"leaf": 2}}]})));
    assert!(!schema.is_valid(&json!({"body": [{"leaf": 1, "next": {"leaf": "2"}}]})));
}

#[test]
fn what_is_too_large_or_too_deep_is_refused() {
    let huge = post(
        json!({"type": "string", "enum": ["x".repeat(5 << 20)]}),
        json!({}),
    );
    assert!(matches!(
        one(&huge),
        Err(OpenApiError::TooLarge {
            what: "the document",
            ..
        })
    ));
    let large = post(
        json!({"type": "string", "enum": ["x".repeat(1 << 20)]}),
        json!({}),
    );
    assert!(matches!(
        one(&large),
        Err(OpenApiError::TooLarge {
            what: "the schema",
            ..
        })
    ));
    let behind = json!({"A": {"type": "string", "enum": ["x".repeat(1 << 20)]}});
    let behind = post(
        json!({"type": "array", "items": {"$ref": "#/components/schemas/A"}}),
        behind,
    );
    assert!(matches!(
        one(&behind),
        Err(OpenApiError::TooLarge {
            what: "the schema",
            ..
        })
    ));
    let mut deep = json!({"type": "string"});
    for _ in 0..100 {
        deep = json!({"type": "array", "items": deep});
    }
    assert!(matches!(
        one(&post(deep, json!({}))),
        Err(OpenApiError::TooDeep(64))
    ));
}

#[test]
fn documents_of_other_kinds_are_refused() {
    for document in [
        json!({}),
        json!({"openapi": "3.0.3", "paths": {}}),
        json!({"swagger": "2.0"}),
        json!(null),
    ] {
        let result = tools_from_openapi(&document, "s", &OpenApiOptions::default());
        assert!(matches!(result, Err(OpenApiError::NotOpenApi(_))), "{document}");
    }
    let form = json!({"openapi": "3.1.0", "paths": {"/x": {"post": {"operationId": "make_x",
        "requestBody": {"content": {"multipart/form-data": {}}}}, "get": {}}}});
    assert!(matches!(one(&form), Err(OpenApiError::NotJsonBody)));
    let derived = tools_from_openapi(&form, "s", &OpenApiOptions::default()).unwrap();
    assert_eq!(derived.skipped.len(), 2, "each with its reason");
    let missing = OpenApiOptions::default().with_only(["nope"]);
    assert!(matches!(
        tools_from_openapi(&form, "s", &missing),
        Err(OpenApiError::NoSuchOperation(_))
    ));
}

/// A few schemas that refer to each other in any way, cycles included.
fn components() -> impl Strategy<Value = Map<String, Value>> {
    prop::collection::vec(schema(), 4).prop_map(|schemas| {
        let named = schemas
            .into_iter()
            .enumerate()
            .map(|(i, schema)| (format!("S{i}"), schema));
        named.collect()
    })
}

fn schema() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!({"type": "integer"})),
        Just(json!({"type": "string", "maxLength": 2, "example": "no"})),
        Just(json!(true)),
    ];
    let reference = (0..4_usize).prop_map(|i| json!({"$ref": format!("#/components/schemas/S{i}")}));
    let part = prop_oneof![2 => leaf, 2 => reference].boxed();
    prop_oneof![
        part.clone().prop_map(|items| json!({"type": "array", "items": items, "title": "t"})),
        (part.clone(), part.clone()).prop_map(|(a, b)| {
            json!({"type": "object", "properties": {"a": a, "b": b}, "required": ["a"], "additionalProperties": false})
        }),
        (part.clone(), part.clone()).prop_map(|(a, b)| json!({"anyOf": [{"type": "null"}, {"type": "array", "prefixItems": [a, b]}]})),
        part.prop_map(|values| json!({"type": "object", "additionalProperties": values})),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Moving definitions changes no meaning: a value is valid under the tool's schema exactly if it is
    /// valid under the schema of the document, however the schemas refer to each other.
    #[test]
    fn recursive_schemas_stay_what_they_were(
        components in components(),
        values in prop::collection::vec(crate::machine::value(), 1..12),
    ) {
        // One more level, so that the body is no plain object and stays whole.
        let body = json!({"type": "array", "items": {"$ref": "#/components/schemas/S0"}});
        let document = post(body.clone(), Value::Object(components.clone()));
        let tool = one(&document).unwrap();
        let original = json!({"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "array",
            "items": {"$ref": "#/components/schemas/S0"}, "components": {"schemas": components}});
        let original = jsonschema::draft202012::new(&original).unwrap();
        let derived = jsonschema::draft202012::new(&tool.schema).unwrap();
        for value in values {
            for instance in [json!([value.clone()]), value] {
                prop_assert_eq!(original.is_valid(&instance), derived.is_valid(&json!({"body": instance.clone()})), "{}", instance);
            }
        }
    }

    /// The order of the paths in the document does not matter.
    #[test]
    fn the_order_is_stable(mut names in prop::collection::btree_set("[a-z]{1,6}", 1..9), turn in 0..9_usize) {
        let document = |names: &[String]| {
            let paths = names.iter().map(|n| (format!("/{n}"), json!({"get": {"operationId": n}}))).collect::<Map<_, _>>();
            json!({"openapi": "3.1.0", "paths": paths})
        };
        let mut list: Vec<String> = std::mem::take(&mut names).into_iter().collect();
        let first = tools_from_openapi(&document(&list), "s", &OpenApiOptions::default()).unwrap().tools;
        let by = turn % list.len();
        list.rotate_left(by);
        prop_assert_eq!(first, tools_from_openapi(&document(&list), "s", &OpenApiOptions::default()).unwrap().tools);
    }
}

#[test]
fn the_document_of_a_large_real_service() {
    let Some(data) = std::env::var_os("AION_DATA") else {
        eprintln!("AION_DATA is not set: the 182 paths of the OpenAI document were not tried");
        return;
    };
    let path = std::path::Path::new(&data).join("openai/openapi.json");
    let text =
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("AION_DATA promises {path:?}: {error}"));
    let document: Value = serde_json::from_str(&text).unwrap();
    let derived = tools_from_openapi(&document, "openai", &OpenApiOptions::default()).unwrap();
    eprintln!("{} tools, {} skipped", derived.tools.len(), derived.skipped.len());
    for (operation, reason) in &derived.skipped {
        eprintln!("skipped {operation}: {reason}");
        assert!(
            matches!(
                reason,
                OpenApiError::NotJsonBody | OpenApiError::TooLarge { .. } | OpenApiError::NoId
            ),
            "{operation}: {reason}"
        );
    }
    assert!(derived.tools.len() > 200);
    let names: std::collections::BTreeSet<_> = derived.tools.iter().map(|tool| &tool.name).collect();
    assert_eq!(names.len(), derived.tools.len());
    for tool in &derived.tools {
        let built = jsonschema::draft202012::options().build(&tool.schema);
        assert!(built.is_ok(), "{}: {:?}", tool.name, built.err());
    }
}

/// What every service shares; a run takes each of these from no service.
const SHARED: [&str; 5] = ["get_state", "healthz", "readyz", "metrics", "openapi"];

#[test]
fn our_own_services_become_tools_side_by_side() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../openapi");
    let mut tools = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let document: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let derived =
            tools_from_openapi(&document, &name, &OpenApiOptions::default().without(SHARED)).unwrap();
        // What takes a stream of lines is for programs.
        let skipped: Vec<_> = derived
            .skipped
            .iter()
            .filter(|(id, _)| id != "import_tree")
            .collect();
        assert!(skipped.is_empty(), "{name}: {skipped:?}");
        tools.extend(derived.tools);
    }
    for tool in &tools {
        assert!(
            !tool.description.is_empty(),
            "{} has no description for a model",
            tool.name
        );
    }
    let tools = aion_loop::Toolset::new(tools).unwrap();
    let written = json!({"path": "notes.txt", "content": "hi"});
    assert_eq!(tools.validate("write_file", &written), Ok(()));
    assert!(tools.validate("write_file", &json!({"path": 1})).is_err());
    for name in ["write_file", "exec"] {
        assert_eq!(tools.get(name).unwrap().replay, Replay::ByKey, "{name}");
    }
}

/// A document whose one body refers to `count` schemas, all of them called X.
fn namesakes(count: usize) -> Value {
    let schemas: serde_json::Map<_, _> = (0..count)
        .map(|n| (format!("g{n}"), json!({"X": {"const": n}})))
        .collect();
    let choices: Vec<Value> = (0..count)
        .map(|n| json!({"$ref": format!("#/x-groups/g{n}/X")}))
        .collect();
    json!({"openapi": "3.1.0", "x-groups": schemas, "paths": {"/v1/x": {"post": {
        "operationId": "pick", "summary": "Picks.",
        "requestBody": {"required": true, "content": {"application/json": {"schema":
            {"type": "object", "properties": {"one": {"anyOf": choices}}}}}}}}}})
}

#[test]
fn many_references_of_one_name_are_told_apart_in_little_time() {
    let options = OpenApiOptions::default().with_max_schema_bytes(16 << 20);
    let began = std::time::Instant::now();
    let derived = tools_from_openapi(&namesakes(4_000), "x", &options).unwrap();
    assert_eq!(derived.tools[0].schema["$defs"].as_object().unwrap().len(), 4_000);
    assert!(began.elapsed().as_secs() < 30, "{:?}", began.elapsed());
    let derived = tools_from_openapi(&namesakes(10_001), "x", &options).unwrap();
    assert!(
        matches!(&derived.skipped[..], [(_, OpenApiError::Malformed(reason))] if reason.contains("10000 references")),
        "{:?}",
        derived.skipped
    );
}
