//! What importers make of documents, good and bad.

use std::fs;

use aion_router::import::{Importer, folder, markdown, mcp_tools, openapi};
use aion_router::{
    ByteTokens, Catalog, Error, ModelTokens, Provenance, Query, Router, Surface, SurfaceBudget,
};
use proptest::prelude::*;
use serde_json::{Value, json};

/// The documents of this project's own services.
fn documents() -> Vec<Value> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../openapi");
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let documents: Vec<Value> = files
        .map(|path| serde_json::from_slice(&fs::read(path).unwrap()).unwrap())
        .collect();
    assert!(documents.len() >= 4);
    documents
}

#[test]
fn every_operation_of_real_documents_becomes_a_tool() {
    for document in documents() {
        let imported = openapi(&document, &Importer::new(&ByteTokens)).unwrap();
        let operations: usize = document["paths"]
            .as_object()
            .unwrap()
            .values()
            .map(|item| {
                item.as_object()
                    .unwrap()
                    .values()
                    .filter(|o| o["operationId"].is_string())
                    .count()
            })
            .sum();
        assert_eq!((imported.items.len(), imported.skipped), (operations, vec![]));
        for item in &imported.items {
            assert!(!item.fields().text.is_empty(), "{} says what it does", item.id());
            assert_eq!(item.provenance(), Provenance::Unverified);
        }
    }
}

#[test]
fn imported_tools_are_found_by_what_they_do_and_take() {
    let mut catalog = Catalog::new();
    for document in documents() {
        let importer = Importer::default().with_provider("aion", Provenance::Verified);
        for item in openapi(&document, &importer).unwrap().items {
            catalog.upsert(item).unwrap();
        }
    }
    let first = |text: &str| {
        let query =
            Query::new(text, 10_000).with_surface(SurfaceBudget::new(Surface::Tool).with_max_items(3));
        let shortlist = Router::default().rank(&catalog, &query).unwrap();
        let names: Vec<String> = shortlist.picks.iter().map(|pick| pick.item.to_string()).collect();
        names
    };
    assert!(first("run a command in the sandbox").contains(&"tool:exec".to_owned()));
    assert!(first("what would an order cost").contains(&"tool:quote".to_owned()));
}

#[test]
fn an_operation_without_a_name_is_called_by_its_path() {
    let document = json!({"paths": {"/pets/{id}": {
        "parameters": [{"$ref": "#/components/parameters/id"}],
        "delete": {"requestBody": {"content": {"application/json": {"schema": {"properties": {"why": {}}}}}}}
    }}, "components": {"parameters": {"id": {"name": "id", "description": "Which pet", "required": true}}}});
    let imported = openapi(&document, &Importer::default()).unwrap();
    let item = &imported.items[0];
    assert_eq!(item.id().as_str(), "tool:delete_pets_id");
    assert_eq!(item.fields().parameters, "id: Which pet\nwhy");
    let full = &item.renderings().last().unwrap().text;
    assert!(
        full.contains("DELETE /pets/{id}") && full.contains(r#""required":["id"]"#),
        "{full}"
    );
}

#[test]
fn tokens_are_those_of_the_counter() {
    let tokenizer = json!({
        "version": "1.0", "pre_tokenizer": {"type": "Whitespace"},
        "model": {"type": "WordLevel", "vocab": {"[UNK]": 0}, "unk_token": "[UNK]"}
    });
    let counter = ModelTokens::from_bytes(tokenizer.to_string().as_bytes()).unwrap();
    let tools = json!([{"name": "search", "description": "Searches the whole web"}]);
    let item = mcp_tools(&tools, &Importer::new(&counter))
        .unwrap()
        .items
        .remove(0);
    let tokens: Vec<u32> = item
        .renderings()
        .iter()
        .map(|rendering| rendering.tokens)
        .collect();
    assert_eq!(tokens, [1, 6], "words and a colon");
}

#[test]
fn a_bad_part_costs_only_itself() {
    let tools =
        json!({"tools": [{"name": "good"}, {"description": "nameless"}, 7, {"name": "good"}, {"name": ""}]});
    let imported = mcp_tools(&tools, &Importer::default()).unwrap();
    assert_eq!(imported.items.len(), 1);
    let at: Vec<&str> = imported.skipped.iter().map(|skipped| &*skipped.at).collect();
    assert_eq!(at, ["/tools/1", "/tools/2", "/tools/4", "tool:good"]);
}

#[test]
fn what_is_no_document_is_refused_by_place() {
    let importer = Importer::default();
    for bad in [json!(null), json!([]), json!({"paths": []}), json!("text")] {
        assert!(matches!(openapi(&bad, &importer), Err(Error::BadDocument { at, .. }) if at == "/paths"));
    }
    assert!(matches!(
        mcp_tools(&json!({}), &importer),
        Err(Error::BadDocument { .. })
    ));
    assert!(matches!(
        folder("/no/such/folder", &importer),
        Err(Error::BadDocument { .. })
    ));
    let many = Value::from(vec![json!({"name": "a"}); 10_001]);
    assert!(matches!(
        mcp_tools(&many, &importer),
        Err(Error::LimitReached { .. })
    ));
}

#[test]
fn a_folder_gives_files_and_sections() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    write(".gitignore", b"target\n");
    write("target/made.rs", b"made");
    write("src/main.rs", b"//! Parses invoices.\nfn main() {}\n");
    write(
        "docs/guide.md",
        "# Guide\nRead it.\n## Über uns\nUs.\n".as_bytes(),
    );
    write("picture.png", &[0x89, 0, 1]);
    write("latin.txt", &[b'a', 0xe9, b'b']);
    std::os::unix::fs::symlink("/etc", dir.path().join("link")).unwrap();
    let imported = folder(dir.path(), &Importer::default()).unwrap();
    let ids: Vec<&str> = imported.items.iter().map(|item| item.id().as_str()).collect();
    assert_eq!(
        ids,
        [
            "doc:docs/guide.md#guide",
            "doc:docs/guide.md#guide/über-uns",
            "file:src/main.rs"
        ]
    );
    assert_eq!(
        imported.items[2].fields().text,
        "Parses invoices.\nfn main() {}\n"
    );
    let skipped: Vec<&str> = imported.skipped.iter().map(|skipped| &*skipped.at).collect();
    assert_eq!(skipped, ["latin.txt", "picture.png"]);
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,300}".prop_map(Value::from),
    ];
    let key = prop_oneof![
        "paths|get|post|parameters|name|description|operationId|requestBody|content|schema|properties|items|tools",
        "allOf|tags|summary|inputSchema|result|application/json|[$]ref|/pets|.{0,4}",
    ];
    leaf.prop_recursive(6, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(key.clone(), inner, 0..6).prop_map(Value::from_iter),
        ]
    })
}

proptest! {
    #[test]
    fn no_document_makes_an_importer_fail_otherwise(document in any_json(), text in "(#{1,3} |`{3}|\\PC|\n){0,200}") {
        let importer = Importer::default().with_prefix("p_");
        let wrapped = json!({"paths": document, "tools": [document]});
        for document in [&document, &wrapped] {
            if let Ok(imported) = openapi(document, &importer) {
                prop_assert!(imported.items.iter().all(|item| item.fields().name.starts_with("p_")));
            }
            let _ = mcp_tools(document, &importer);
        }
        let imported = markdown("a file.md", &text, &Surface::Doc, &importer).unwrap();
        prop_assert!(imported.items.iter().all(|item| item.id().as_str().starts_with("doc:p_a_file.md")));
    }
}
