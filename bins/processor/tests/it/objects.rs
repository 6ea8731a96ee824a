//! Objects over HTTP: versions as entity tags, and calls.

use axum::body::Body;
use http::{Request, StatusCode};
use serde_json::{Value, json};

use crate::client::{Client, problem, put, wanted};

const NOTES: &str = "/v1/objects/notes";

async fn get_if_none_match(client: &Client, tag: &str) -> StatusCode {
    let request = Request::get(NOTES)
        .header("if-none-match", tag)
        .body(Body::empty())
        .unwrap();
    client.ask(request).await.0
}

#[tokio::test]
async fn a_write_replaces_the_version_that_was_read() {
    for client in Client::each().await {
        let write = async |body: Value, headers: &[(&str, &str)]| {
            let response = client.send(put(NOTES, &json!({ "body": body }), headers)).await;
            let tag = response
                .headers()
                .get("etag")
                .map(|tag| tag.to_str().unwrap().to_owned());
            (response.status().as_u16(), tag.unwrap_or_default())
        };
        let tag = |version: u64| format!("\"{version}\"");
        assert_eq!(
            write(json!([1]), &[("if-match", "*")]).await,
            (412, String::new())
        );
        assert_eq!(write(json!([1]), &[("if-none-match", "*")]).await, (200, tag(1)));
        assert_eq!(
            write(json!([1]), &[("if-none-match", "*")]).await,
            (412, String::new())
        );
        assert_eq!(
            write(json!([1, 2]), &[("if-match", "\"1\"")]).await,
            (200, tag(2))
        );
        assert_eq!(
            write(json!("late"), &[("if-match", "\"1\"")]).await,
            (412, String::new())
        );
        assert_eq!(
            write(json!("weak"), &[("if-match", "W/\"2\"")]).await,
            (412, String::new())
        );
        assert_eq!(
            write(json!(null), &[("if-match", "\"2\", \"9\"")]).await,
            (200, tag(3))
        );
        assert_eq!(write(json!("any"), &[("if-match", "*")]).await, (200, tag(4)));
        assert_eq!(write(json!("blind"), &[]).await, (200, tag(5)));
        assert_eq!(
            write(json!("x"), &[("if-match", "5")]).await,
            (400, String::new())
        );

        let (_, newest) = client.get(NOTES).await;
        assert_eq!(
            (&newest["body"], &newest["version"]),
            (&json!("blind"), &json!(5))
        );
        let (_, second) = client.get(&format!("{NOTES}?version=2")).await;
        assert_eq!(
            (&second["body"], &second["newest"]["version"]),
            (&json!([1, 2]), &json!(5))
        );
        assert_eq!(
            problem(client.get(&format!("{NOTES}?version=6")).await),
            wanted(404, "not_found", "")
        );
        assert_eq!(
            get_if_none_match(&client, "\"5\"").await,
            StatusCode::NOT_MODIFIED
        );
        assert_eq!(get_if_none_match(&client, "\"4\"").await, StatusCode::OK);

        let request = |tag: &str| {
            Request::delete(NOTES)
                .header("if-match", tag)
                .body(Body::empty())
                .unwrap()
        };
        assert_eq!(
            client.ask(request("\"4\"")).await.0,
            StatusCode::PRECONDITION_FAILED
        );
        assert_eq!(client.ask(request("\"5\"")).await.0, StatusCode::NO_CONTENT);
        assert_eq!(problem(client.get(NOTES).await), wanted(404, "not_found", ""));
        assert_eq!(problem(client.delete(NOTES).await), wanted(404, "not_found", ""));
        assert_eq!(
            client.get("/v1/objects").await.1,
            json!({"objects": [], "next": null})
        );
    }
}

#[tokio::test]
async fn holders_write_and_stale_ones_do_not() {
    for client in Client::each().await {
        let (path, epoch) = client.claimed().await;
        let id = path.rsplit('/').next().unwrap();
        let body = |epoch: u64| json!({"body": {"a": 1}, "fence": {"task_id": id, "epoch": epoch}});
        let (_, head) = client.put(NOTES, body(epoch)).await;
        assert_eq!((&head["version"], &head["by"]), (&json!(1), &json!(id)));
        assert_eq!(
            problem(client.put(NOTES, body(epoch + 1)).await),
            wanted(409, "lease_lost", "")
        );
        let large = json!({"body": "x".repeat(2 << 20)});
        assert_eq!(
            problem(client.put(NOTES, large).await),
            wanted(413, "over_limit", "/body")
        );
        assert_eq!(
            problem(client.put(NOTES, json!({})).await),
            wanted(422, "invalid_body", "")
        );
        assert_eq!(client.get(NOTES).await.1["version"], 1);
    }
}

#[tokio::test]
async fn a_call_is_a_task_that_works_on_a_version() {
    for client in Client::each().await {
        client.put(NOTES, json!({"body": "one"})).await;
        let call = |version: u64| {
            json!({"version": version, "mode": "exclusive",
            "task": {"kind": "edit", "title": "Add a line", "payload": {"line": "two"}}})
        };
        let to = format!("{NOTES}/call");
        let first = client.ok(&to, call(1)).await;
        assert_eq!(
            first["payload"],
            json!({"object": {"name": "notes", "version": 1}, "input": {"line": "two"}})
        );
        client.ok(&to, call(1)).await;
        let leases = client
            .ok("/v1/claims", json!({"handler_id": "w", "max": 9}))
            .await;
        assert_eq!(
            leases["leases"].as_array().unwrap().len(),
            1,
            "one exclusive call at a time"
        );
        assert_eq!(
            problem(client.post(&to, call(2)).await),
            wanted(409, "conflict", "")
        );

        let (path, epoch) = client.claimed().await;
        let id = path.rsplit('/').next().unwrap();
        let child = json!({"fence": {"task_id": id, "epoch": epoch}, "task": {"kind": "edit", "title": "t"}});
        assert_eq!(client.ok(&to, child).await["parent_id"], json!(id));
        for (body, expected) in [
            (
                json!({"task": {"kind": "", "title": "t"}}),
                wanted(422, "invalid", "/task/kind"),
            ),
            (
                json!({"task": {"kind": "k"}}),
                wanted(422, "invalid_body", "/task"),
            ),
            (
                json!({"mode": "exclusive", "task": {"kind": "k", "title": "t", "concurrency": {"key": "a", "max": 1}}}),
                wanted(422, "invalid", "/task/concurrency"),
            ),
            (
                json!({"fence": {"task_id": id, "epoch": 9}, "task": {"kind": "k", "title": "t"}}),
                wanted(409, "lease_lost", ""),
            ),
        ] {
            assert_eq!(problem(client.post(&to, body.clone()).await), expected, "{body}");
        }
        let nothing = client.post("/v1/objects/nothing/call", call(1)).await;
        assert_eq!(problem(nothing), wanted(404, "not_found", ""));
    }
}
