//! What the router has elsewhere: its store on a Postgres server, its embeddings from another server, tools from MCP
//! servers.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use aion_router::embed::Embedder;
use aion_router::embed::remote::{RemoteEmbedder, RemoteOptions};
use aion_router::{
    ByteTokens, EngineOptions, HashingEmbedder, LiveRouter, MemoryRouterStore, PostgresRouterStore,
};
use aion_sql::testkit::TestDatabase;
use http::StatusCode;
use serde_json::json;

use crate::client::{Client, tools};

#[tokio::test]
async fn the_service_works_over_postgres() {
    let Some(database) = TestDatabase::create().await else {
        return;
    };
    let store = PostgresRouterStore::open(&database.options()).await.unwrap();
    let open = || {
        LiveRouter::open(
            Arc::new(store.clone()),
            Arc::new(HashingEmbedder),
            EngineOptions::default(),
        )
    };
    let client = Client::over(open().await.unwrap());
    assert_eq!(client.get("/readyz").await.0, StatusCode::OK);
    client.fill(tools()).await;
    let ranked = client.rank("what is the weather", 60, 1).await;
    let path = format!(
        "/v1/decisions/{}/outcome",
        ranked["decision_id"].as_str().unwrap()
    );
    let (status, _) = client.post(&path, json!({"used": ["tool:weather"]})).await;
    assert_eq!(status, StatusCode::OK);
    let again = Client::over(open().await.unwrap());
    assert_eq!(
        again.post(&path, json!({"used": []})).await.0,
        StatusCode::CONFLICT
    );
    let item = again.get("/v1/items/tool:weather").await.1;
    assert_eq!(item["uses"], 1, "{item}");
    drop((client, again));
    database.remove().await;
}

/// This service on a port of its own, over a router that compares by spelling.
async fn start() -> (LiveRouter, String) {
    let router = LiveRouter::in_memory(EngineOptions::default()).unwrap();
    let service = aion_router_server::service(router.clone(), Arc::new(ByteTokens));
    let app = service.into_router(&aion_service::Limits::default());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    (router, format!("http://{address}"))
}

/// The embeddings of this service, through the client of any such service, are those of its embedder.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_router_embeds_for_another() {
    let (_, url) = start().await;
    let options = RemoteOptions::new(format!("{url}/v1"), HashingEmbedder.model_id()).with_batch(2);
    let far = RemoteEmbedder::new(options).unwrap();
    assert_eq!(far.ask_dim().unwrap(), HashingEmbedder.dim());
    let texts = ["read a file", "Grüße", "send a mail"];
    let mut there = vec![0.0; texts.len() * far.dim()];
    let mut here = there.clone();
    far.embed(&texts, &mut there).unwrap();
    HashingEmbedder.embed(&texts, &mut here).unwrap();
    let off = there.iter().zip(&here).map(|(a, b)| (a - b).abs());
    assert!(off.fold(0.0, f32::max) < 1e-6);

    let store = Arc::new(MemoryRouterStore::new());
    let router = LiveRouter::open(store, Arc::new(far), EngineOptions::default())
        .await
        .unwrap();
    let client = Client::over(router);
    assert_eq!(client.fill(tools()).await["not_embedded"], json!(null));
    let ranked = client.rank("the weather at a place", 12, 1).await;
    assert!(ranked["picks"].to_string().contains("tool:weather"), "{ranked}");
    let (status, answer) = client
        .post("/v1/embeddings", json!({"input": "read a file"}))
        .await;
    assert_eq!(
        (status, answer["data"][0]["embedding"].as_array().unwrap().len()),
        (StatusCode::OK, 384)
    );
}

/// A server that starts while its embedder is away ranks by words, says why, and catches up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_outlives_its_embedder() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let options = RemoteOptions::new(format!("http://{address}/v1"), HashingEmbedder.model_id())
        .with_attempts(1)
        .with_rest_ms(0);
    let far = Arc::new(RemoteEmbedder::new(options).unwrap());
    let store = Arc::new(MemoryRouterStore::new());
    let router = LiveRouter::open(store, far, EngineOptions::default())
        .await
        .unwrap();
    let client = Client::over(router.clone());
    let filled = client.fill(tools()).await;
    assert!(
        filled["not_embedded"]
            .as_str()
            .unwrap()
            .contains("remote:hashing")
    );
    let ranked = client.rank("what helps with this", 12, 1).await;
    assert!(ranked["reason"].to_string().contains("reached"), "{ranked}");
    let (status, _) = client.post("/v1/embeddings", json!({"input": "x"})).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);

    let other = LiveRouter::in_memory(EngineOptions::default()).unwrap();
    let app = aion_router_server::service(other, Arc::new(ByteTokens))
        .into_router(&aion_service::Limits::default());
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    let embedding = tokio::spawn(aion_router_server::keep_embedded(
        router.clone(),
        Duration::from_millis(10),
    ));
    while router.read(|engine| engine.catalog().without_vector().next().is_some()) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    embedding.abort();
    let ranked = client.rank("what helps with that", 12, 1).await;
    assert!(
        !ranked["state"].to_string().contains("degraded"),
        "{}",
        ranked["state"]
    );
}

/// `aion-router import-mcp` prints a program's tools, and hands them to a router.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tools_of_an_mcp_server_get_to_a_router() {
    let (router, url) = start().await;
    let import = |more: &[&str], mood: &str| {
        let script = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../aion-router/tests/data/mcp_server.py"
        );
        let mut command = Command::new(env!("CARGO_BIN_EXE_aion-router"));
        command.env_remove("AION_ROUTER_URL").arg("import-mcp").args(more);
        let done = command.args(["--", "python3", script, mood]).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (done.status.success(), text(&done.stdout), text(&done.stderr))
    };
    let (fine, printed, said) = import(&[], "good");
    assert!(fine, "{said}");
    let document: serde_json::Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(document["tools"].as_array().unwrap().len(), 3);
    let (fine, printed, said) = import(
        &["--router", &url, "--prefix", "far_", "--provider", "them"],
        "good",
    );
    assert!(fine && printed.contains("3 tools imported"), "{printed}{said}");
    let names: Vec<String> = router.read(|engine| {
        let items = engine.catalog().after(None);
        items.map(|item| item.fields().name.clone()).collect()
    });
    assert_eq!(names, ["far_add", "far_greet", "far_last"]);
    let (fine, _, said) = import(&["--timeout", "5"], "ends");
    assert!(!fine && said.contains("does not greet back"), "{said}");
    let (fine, _, said) = import(&["--url", "http://127.0.0.1:1/mcp"], "good");
    assert!(!fine && said.contains("cannot be used with"), "{said}");
}
