//! Whole trees over HTTP: cancelled, copied, removed.

use aion_processor_server::{Archive, Retention};
use axum::body::Body;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::client::{Client, problem, wanted};

/// A root with two children, one of which has a child; gives the ids, the root first.
pub(crate) async fn tree(client: &Client) -> Vec<String> {
    let root = client.task().await;
    let mut ids = vec![root];
    for (title, parent) in [("left", 0), ("right", 0), ("leaf", 1)] {
        let new = json!({"kind": "test", "title": title, "parent_id": ids[parent]});
        ids.push(
            client.ok("/v1/tasks", new).await["id"]
                .as_str()
                .unwrap()
                .to_owned(),
        );
    }
    ids
}

pub(crate) async fn status_of(client: &Client, id: &str) -> Value {
    client.get(&format!("/v1/tasks/{id}")).await.1["status"].clone()
}

pub(crate) async fn end(client: &Client, id: &str) {
    let body = json!({"mode": "force", "scope": "tree"});
    client.ok(&format!("/v1/tasks/{id}/cancel"), body).await;
}

pub(crate) async fn export(client: &Client, id: &str) -> String {
    let request = Request::get(format!("/v1/tasks/{id}/export"))
        .body(Body::empty())
        .unwrap();
    let response = client.send(request).await;
    assert_eq!(response.headers()["content-type"], "application/x-ndjson");
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

async fn import(client: &Client, query: &str, lines: impl Into<Body>) -> (StatusCode, Value) {
    let request = Request::post(format!("/v1/import{query}")).header("content-type", "application/x-ndjson");
    client.ask(request.body(lines.into()).unwrap()).await
}

#[tokio::test]
async fn a_cancellation_reaches_as_far_as_it_says() {
    for client in Client::each().await {
        let ids = tree(&client).await;
        client
            .ok(&format!("/v1/tasks/{}/cancel", ids[1]), json!({}))
            .await;
        assert_eq!(
            (
                status_of(&client, &ids[1]).await,
                status_of(&client, &ids[3]).await
            ),
            (json!("CANCELLED"), json!("READY"))
        );
        end(&client, &ids[0]).await;
        for id in &ids {
            assert_eq!(status_of(&client, id).await, "CANCELLED");
        }
    }
}

#[tokio::test]
async fn a_tree_goes_to_another_server() {
    let from = Client::on_sqlite(aion_processor::SqliteOptions::default()).await;
    let ids = tree(&from).await;
    for n in 0..250 {
        let text = if n % 50 == 0 {
            "x".repeat(900_000)
        } else {
            format!("line {n}")
        };
        from.ok(
            &format!("/v1/tasks/{}/messages", ids[3]),
            json!({"role": "user", "content": text}),
        )
        .await;
    }
    from.ok("/v1/claims", json!({"handler_id": "w", "task_id": ids[2]}))
        .await;
    let lines = export(&from, &ids[0]).await;
    assert!(
        lines
            .lines()
            .all(|line| line.len() < 2_000_000 && serde_json::from_str::<Value>(line).is_ok())
    );
    assert_eq!(
        lines.lines().filter(|line| line.starts_with("{\"task\"")).count(),
        4
    );
    let part = export(&from, &ids[1]).await;
    assert_eq!(
        part.lines().filter(|line| line.starts_with("{\"task\"")).count(),
        2
    );

    let missing = "/v1/tasks/01893d0e-7c00-7abc-8def-0123456789ab/export";
    assert_eq!(
        problem(from.get(missing).await),
        wanted(404, "task_not_found", "")
    );

    for to in Client::each().await {
        let top = to.task().await;
        // A network hands a body over in pieces that know nothing of lines.
        let pieces: Vec<_> = lines
            .as_bytes()
            .chunks(70_001)
            .map(|piece| Ok::<_, std::io::Error>(piece.to_vec()))
            .collect();
        let body = Body::from_stream(futures::stream::iter(pieces));
        let (status, told) = import(&to, &format!("?under={top}"), body).await;
        assert_eq!((status, told), (StatusCode::OK, json!({"tasks": 4})));
        let (_, root) = to.get(&format!("/v1/tasks/{}", ids[0])).await;
        assert_eq!((&root["parent_id"], &root["depth"]), (&json!(top), &json!(1)));
        assert_eq!(
            status_of(&to, &ids[2]).await,
            "READY",
            "what ran there is ready here"
        );
        let (_, page) = to
            .get(&format!("/v1/tasks/{}/messages?order=newest&limit=1", ids[3]))
            .await;
        assert_eq!(
            (&page["messages"][0]["seq"], &page["messages"][0]["content"]),
            (&json!(250), &json!("line 249"))
        );
        let before = to.get("/v1/metrics").await.1["last_seq"].clone();
        assert_eq!(
            import(&to, &format!("?under={top}"), lines.clone()).await.0,
            StatusCode::OK,
            "again"
        );
        assert_eq!(
            to.get("/v1/metrics").await.1["last_seq"],
            before,
            "nothing happened the second time"
        );
    }
}

#[tokio::test]
async fn imports_are_checked_line_by_line() {
    let from = Client::new();
    let ids = tree(&from).await;
    let lines = export(&from, &ids[0]).await;
    let first = lines.lines().next().unwrap();
    for client in Client::each().await {
        let far = first.replace("1700000000000", "99999999999999999");
        let deep = format!("{{\"messages\":{}1{}}}", "[".repeat(500), "]".repeat(500));
        let cases: Vec<(Vec<u8>, (u16, String, String))> = vec![
            (b"{\"task\": ".to_vec(), wanted(400, "invalid_json", "line:1")),
            (
                b"{\"task\": \"\xff\"}".to_vec(),
                wanted(400, "invalid_json", "line:1"),
            ),
            (deep.into_bytes(), wanted(422, "invalid_body", "line:1")),
            (
                b"\n\n{\"lease\": 1}\n".to_vec(),
                wanted(422, "invalid_body", "line:3"),
            ),
            (b"[]".to_vec(), wanted(400, "invalid_json", "line:1")),
            (far.into_bytes(), wanted(422, "invalid", "line:1")),
            (
                lines
                    .lines()
                    .nth(1)
                    .unwrap()
                    .replace(&ids[0], &ids[3])
                    .into_bytes(),
                wanted(200, "", ""),
            ),
            (vec![b'x'; 17 << 20], wanted(413, "body_too_large", "line:0")),
        ];
        for (body, expected) in cases {
            let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
            let answer = import(&client, "", body).await;
            assert_eq!(problem(answer), expected, "{shown}");
        }
        let nowhere = import(
            &client,
            "?under=01893d0e-7c00-7abc-8def-0123456789ab",
            lines.clone(),
        )
        .await;
        assert_eq!(problem(nowhere), wanted(404, "task_not_found", "").clone());
        assert_eq!(
            import(&client, "", "").await,
            (StatusCode::OK, json!({"tasks": 0}))
        );
        let json = Request::post("/v1/import").header("content-type", "application/json");
        let refused = client.ask(json.body(Body::from(lines.clone())).unwrap()).await;
        assert_eq!(problem(refused), wanted(415, "unsupported_media_type", ""));
    }
}

#[tokio::test]
async fn ended_trees_are_listed_and_removed() {
    for client in Client::each().await {
        let mut roots = Vec::new();
        for _ in 0..5 {
            let ids = tree(&client).await;
            end(&client, &ids[0]).await;
            client.clock.advance_ms(1_000);
            roots.push(ids[0].clone());
        }
        let open = tree(&client).await;
        let (mut path, mut seen) = ("/v1/ended-roots?limit=2".to_owned(), Vec::new());
        loop {
            let (status, page) = client.get(&path).await;
            assert_eq!(status, StatusCode::OK, "{page}");
            seen.extend(
                page["tasks"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|task| task["id"].as_str().unwrap().to_owned()),
            );
            let Some(next) = page["next"].as_str() else { break };
            path = format!("/v1/ended-roots?limit=2&cursor={next}");
        }
        assert_eq!(seen, roots);
        let (_, early) = client.get("/v1/ended-roots?before=1700000001000").await;
        assert_eq!(early["tasks"].as_array().unwrap().len(), 1);
        for bad in ["cursor=e5", "cursor=zzz", "cursor=e-1.x", "limit=0", "before=-1"] {
            let found = problem(client.get(&format!("/v1/ended-roots?{bad}")).await);
            assert_eq!((found.0, found.1.as_str()), (422, "invalid"), "{bad}");
        }

        let delete = async |id: &str| client.delete(&format!("/v1/tasks/{id}")).await;
        assert_eq!(
            problem(delete(&open[0]).await),
            wanted(409, "illegal_transition", "")
        );
        assert_eq!(
            problem(delete(&open[1]).await),
            wanted(422, "invalid", "path:task_id")
        );
        assert_eq!(delete(&roots[0]).await, (StatusCode::OK, json!({"tasks": 4})));
        assert_eq!(
            problem(delete(&roots[0]).await),
            wanted(404, "task_not_found", "")
        );
        assert_eq!(
            client.get("/v1/ended-roots").await.1["tasks"]
                .as_array()
                .unwrap()
                .len(),
            4
        );
    }
}

#[tokio::test]
async fn old_trees_retire_and_are_kept_in_the_archive() {
    let client = Client::on_sqlite(aion_processor::SqliteOptions::default()).await;
    let mut roots = Vec::new();
    for _ in 0..3 {
        let ids = tree(&client).await;
        end(&client, &ids[0]).await;
        roots.push(ids[0].clone());
        client.clock.advance_ms(1_000);
    }
    // Its root has ended, but not what is below.
    let open = tree(&client).await;
    client
        .ok(&format!("/v1/tasks/{}/cancel", open[0]), json!({}))
        .await;
    let exported = export(&client, &roots[0]).await;
    let now = 1_700_000_010_000_i64;
    let one = client
        .ok("/v1/retire", json!({"before": now, "keep": "archive", "max": 1}))
        .await;
    assert_eq!(one, json!({"trees": 1, "more": true}));
    let kept = std::fs::read_to_string(client.folder().join(format!("{}.jsonl", roots[0]))).unwrap();
    assert_eq!(kept, exported);
    assert_eq!(
        problem(client.get(&format!("/v1/tasks/{}", roots[0])).await).0,
        404
    );
    let rest = client.ok("/v1/retire", json!({"before": now})).await;
    assert_eq!(rest, json!({"trees": 2, "more": false}));
    assert!(!client.folder().join(format!("{}.jsonl", roots[1])).exists());
    assert_eq!(status_of(&client, &open[0]).await, "CANCELLED");
    assert_eq!(
        import(&client, "", kept).await,
        (StatusCode::OK, json!({"tasks": 4}))
    );

    let memory = Client::new();
    let none = memory
        .post("/v1/retire", json!({"before": now, "keep": "archive"}))
        .await;
    assert_eq!(problem(none), wanted(409, "no_archive", "/keep"));
    for (body, pointer) in [
        (json!({"before": -1}), "/before"),
        (json!({"before": now, "max": 0}), "/max"),
    ] {
        assert_eq!(
            problem(memory.post("/v1/retire", body).await),
            wanted(422, "invalid", pointer)
        );
    }
}

#[tokio::test]
async fn what_ended_long_ago_goes_by_itself() {
    let day = std::time::Duration::from_secs(24 * 3_600);
    let client = Client::on_sqlite(aion_processor::SqliteOptions::default()).await;
    let mut roots = Vec::new();
    for _ in 0..3 {
        let ids = tree(&client).await;
        end(&client, &ids[0]).await;
        roots.push(ids[0].clone());
        client.clock.advance_ms(24 * 3_600_000);
    }
    let exported = export(&client, &roots[0]).await;
    let archive = Archive::new(client.folder());
    let keep = |days| Retention::new(client.processor.clone(), day * days, Some(archive.clone()));
    assert_eq!(keep(3).round().await.unwrap(), 0, "three days are not over");
    assert_eq!(keep(4_000_000).round().await.unwrap(), 0);
    client.clock.advance_ms(1);
    assert_eq!(keep(3).round().await.unwrap(), 1);
    let kept = std::fs::read_to_string(client.folder().join(format!("{}.jsonl", roots[0]))).unwrap();
    assert_eq!(kept, exported);
    assert_eq!(status_of(&client, &roots[1]).await, "CANCELLED");

    // What cannot be archived is not removed.
    let nowhere = Archive::new(client.folder().join("nowhere"));
    let retention = Retention::new(client.processor.clone(), day, Some(nowhere));
    assert_eq!(retention.round().await.unwrap_err().status(), 503);
    assert_eq!(status_of(&client, &roots[1]).await, "CANCELLED");
    let retention = Retention::new(client.processor.clone(), day, None);
    let first = tokio::time::timeout(day, retention.run(day));
    tokio::select! {
        _ = first => panic!("it goes on"),
        () = async {
            while client.get(&format!("/v1/tasks/{}", roots[2])).await.0 == StatusCode::OK {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        } => {}
    }
    assert_eq!(client.get("/v1/tasks").await.1["tasks"], json!([]));
}

/// However many retire trees at once, each tree is counted once, and what is kept of it is whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn trees_are_archived_by_one_at_a_time() {
    let client = Client::on_sqlite(aion_processor::SqliteOptions::default()).await;
    let mut exported = Vec::new();
    for _ in 0..10 {
        let ids = tree(&client).await;
        end(&client, &ids[0]).await;
        exported.push((ids[0].clone(), export(&client, &ids[0]).await));
    }
    client.clock.advance_ms(1_000);
    let archive = Archive::new(client.folder());
    let rounds = (0..4).map(|_| {
        let retention = Retention::new(
            client.processor.clone(),
            std::time::Duration::ZERO,
            Some(archive.clone()),
        );
        tokio::spawn(async move { retention.round().await })
    });
    let rounds = futures::future::join_all(rounds.collect::<Vec<_>>()).await;
    let gone: u64 = rounds.into_iter().map(|round| round.unwrap().unwrap()).sum();
    assert_eq!(gone, 10);
    for (root, lines) in exported {
        let kept = std::fs::read_to_string(client.folder().join(format!("{root}.jsonl"))).unwrap();
        assert_eq!(kept, lines);
    }
}
