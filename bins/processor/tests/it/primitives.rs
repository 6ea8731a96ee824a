//! Semaphores, mutexes, gates and queues over HTTP.

use http::StatusCode;
use serde_json::{Value, json};

use crate::client::{Client, problem, wanted};

async fn acquire(client: &Client, (path, epoch): &(String, u64), primitive: &str) -> Value {
    let body = json!({"epoch": epoch, "primitive": primitive});
    client.ok(&format!("{path}/acquire"), body).await
}

/// Claims the task again and gives the new epoch.
async fn claimed_again(client: &Client, path: &str) -> u64 {
    let id = path.rsplit('/').next().unwrap();
    let body = json!({"handler_id": "w", "task_id": id});
    client.ok("/v1/claims", body).await["leases"][0]["epoch"]
        .as_u64()
        .unwrap()
}

#[tokio::test]
async fn a_mutex_goes_from_one_to_the_next() {
    for client in Client::each().await {
        let (status, mutex) = client
            .put("/v1/primitives/the%20door", json!({"kind": "mutex"}))
            .await;
        assert_eq!(
            (status, &mutex["name"], &mutex["held"]),
            (StatusCode::OK, &json!("the door"), &json!(0))
        );
        let (one, two) = (client.claimed().await, client.claimed().await);
        let first = acquire(&client, &one, "the door").await;
        assert_eq!(
            (&first["outcome"], &first["task"]),
            (&json!("granted"), &Value::Null)
        );
        assert_eq!(
            acquire(&client, &one, "the door").await,
            first,
            "asking again gives the same grant"
        );
        let waits = acquire(&client, &two, "the door").await;
        assert_eq!(
            (&waits["outcome"], &waits["task"]["status"]),
            (&json!("waits"), &json!("BLOCKED"))
        );

        let (_, line) = client.get("/v1/primitives/the%20door/waits").await;
        assert_eq!(line["holders"], json!([first["grant"]]));
        assert_eq!(
            line["waiters"][0]["task_id"],
            json!(two.0.rsplit('/').next().unwrap())
        );
        let (_, own) = client.get(&format!("{}/grants", one.0)).await;
        assert_eq!(own, json!({"grants": [first["grant"]]}));
        assert_eq!(
            client.get(&format!("{}/grants", two.0)).await.1,
            json!({"grants": []})
        );
        assert_eq!(
            problem(client.delete("/v1/primitives/the%20door").await),
            wanted(409, "conflict", "")
        );

        let back = json!({"epoch": one.1, "primitive": "the door", "token": first["grant"]["token"]});
        let wrong = json!({"epoch": one.1, "primitive": "the door", "token": 99});
        let to = format!("{}/return", one.0);
        assert_eq!(
            problem(client.post(&to, wrong).await),
            wanted(409, "conflict", "")
        );
        client.ok(&to, back.clone()).await;
        client.ok(&to, back).await;
        let two = (two.0.clone(), claimed_again(&client, &two.0).await);
        let second = acquire(&client, &two, "the door").await;
        assert_eq!(second["outcome"], "granted");
        assert!(second["grant"]["token"].as_u64() > first["grant"]["token"].as_u64());
        client
            .ok(&format!("{}/complete", two.0), json!({"epoch": two.1}))
            .await;
        assert_eq!(
            client.delete("/v1/primitives/the%20door").await.0,
            StatusCode::NO_CONTENT
        );
        assert_eq!(
            problem(client.get("/v1/primitives/the%20door").await),
            wanted(404, "not_found", "")
        );
    }
}

#[tokio::test]
async fn a_semaphore_has_units_and_a_waiter_may_give_up() {
    for client in Client::each().await {
        client
            .put("/v1/primitives/gpu", json!({"kind": "semaphore", "permits": 3}))
            .await;
        let (path, epoch) = client.claimed().await;
        let to = format!("{path}/acquire");
        let two = client
            .ok(&to, json!({"epoch": epoch, "primitive": "gpu", "units": 2}))
            .await;
        assert_eq!(two["grant"]["units"], 2);
        let other = client.claimed().await;
        let now = json!({"epoch": other.1, "primitive": "gpu", "units": 2, "until": 0});
        let missed = client.ok(&format!("{}/acquire", other.0), now).await;
        assert_eq!(missed, json!({"outcome": "missed", "grant": null, "task": null}));
        let (_, gpu) = client
            .put("/v1/primitives/gpu", json!({"kind": "semaphore", "permits": 4.0}))
            .await;
        assert_eq!((&gpu["permits"], &gpu["held"]), (&json!(4), &json!(2)));
        let many = json!({"epoch": other.1, "primitive": "gpu", "units": 9});
        let refused = client.post(&format!("{}/acquire", other.0), many).await;
        assert_eq!(problem(refused), wanted(422, "over_limit", "/units"));
    }
}

#[tokio::test]
async fn gates_open_and_queues_hand_out() {
    for client in Client::each().await {
        for (name, body) in [
            ("go", json!({"kind": "event"})),
            ("later", json!({"kind": "timestamp_lock"})),
            ("inbox", json!({"kind": "queue", "capacity": 1})),
        ] {
            assert_eq!(
                client.put(&format!("/v1/primitives/{name}"), body).await.0,
                StatusCode::OK
            );
        }
        let signal =
            async |name: &str, body: Value| client.post(&format!("/v1/primitives/{name}/signal"), body).await;
        let task = client.claimed().await;
        assert_eq!(acquire(&client, &task, "go").await["outcome"], "waits");
        assert_eq!(signal("go", json!({"signal": "set"})).await.1["open"], true);
        let task = (task.0.clone(), claimed_again(&client, &task.0).await);
        assert_eq!(acquire(&client, &task, "go").await["outcome"], "granted");
        let until = 1_700_000_060_000_i64;
        let shut = signal("later", json!({"signal": "shut_until", "until": until}))
            .await
            .1;
        assert_eq!(shut["until"], until);

        assert_eq!(
            signal("inbox", json!({"signal": "put", "item": {"n": 1}}))
                .await
                .1["items"],
            1
        );
        let again = json!({"signal": "put", "item": 2});
        let full = signal("inbox", again).await;
        assert_eq!(problem(full), wanted(409, "over_limit", ""));
        assert_eq!(
            acquire(&client, &task, "inbox").await["grant"]["item"],
            json!({"n": 1})
        );

        for (name, body, expected) in [
            (
                "go",
                json!({"signal": "put", "item": 1}),
                wanted(422, "invalid", "/signal"),
            ),
            (
                "go",
                json!({"signal": "set", "until": 5}),
                wanted(422, "invalid", "/until"),
            ),
            (
                "go",
                json!({"signal": "set", "item": 5}),
                wanted(422, "invalid", "/item"),
            ),
            (
                "later",
                json!({"signal": "shut_until"}),
                wanted(422, "invalid", "/until"),
            ),
            (
                "later",
                json!({"signal": "shut_until", "until": -1}),
                wanted(422, "invalid", "/until"),
            ),
            (
                "inbox",
                json!({"signal": "put", "item": "x".repeat(70_000)}),
                wanted(413, "over_limit", "/item"),
            ),
            (
                "inbox",
                json!({"signal": "shout"}),
                wanted(422, "invalid_body", "/signal"),
            ),
            ("nothing", json!({"signal": "set"}), wanted(404, "not_found", "")),
        ] {
            assert_eq!(
                problem(signal(name, body.clone()).await),
                expected,
                "{name} {body:.80}"
            );
        }
    }
}

#[tokio::test]
async fn deadlocks_are_named() {
    for client in Client::each().await {
        for name in ["left", "right"] {
            client
                .put(&format!("/v1/primitives/{name}"), json!({"kind": "mutex"}))
                .await;
        }
        let (one, two) = (client.claimed().await, client.claimed().await);
        acquire(&client, &one, "left").await;
        acquire(&client, &two, "right").await;
        assert_eq!(client.get("/v1/waits").await.1["deadlocks"], json!([]));
        acquire(&client, &one, "right").await;
        acquire(&client, &two, "left").await;
        let (_, waits) = client.get("/v1/waits").await;
        assert_eq!(waits["primitives"].as_array().unwrap().len(), 2);
        let links = waits["deadlocks"][0]["links"].as_array().unwrap();
        let ids: Vec<_> = links
            .iter()
            .map(|link| (&link["task_id"], &link["waits_for"]))
            .collect();
        let id = |path: &str| json!(path.rsplit('/').next().unwrap());
        let (one, two) = (id(&one.0), id(&two.0));
        assert!(
            ids.contains(&(&one, &two)) && ids.contains(&(&two, &one)),
            "{waits}"
        );
    }
}

#[tokio::test]
async fn primitives_are_listed_by_name_and_checked() {
    for client in Client::each().await {
        for n in 0..5 {
            client
                .put(&format!("/v1/primitives/p{n}"), json!({"kind": "mutex"}))
                .await;
        }
        let (mut path, mut seen) = ("/v1/primitives?limit=2".to_owned(), Vec::new());
        loop {
            let (_, page) = client.get(&path).await;
            seen.extend(
                page["primitives"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|one| one["name"].clone()),
            );
            let Some(next) = page["next"].as_str() else { break };
            path = format!("/v1/primitives?limit=2&after={next}");
        }
        assert_eq!(seen, ["p0", "p1", "p2", "p3", "p4"]);
        let long = format!("/v1/primitives/{}", "x".repeat(129));
        for (path, body, expected) in [
            (
                "/v1/primitives/p0",
                json!({"kind": "event"}),
                wanted(409, "conflict", ""),
            ),
            (
                "/v1/primitives/q",
                json!({"kind": "semaphore"}),
                wanted(422, "invalid", "/permits"),
            ),
            (
                "/v1/primitives/q",
                json!({"kind": "semaphore", "permits": 0}),
                wanted(422, "invalid", "/permits"),
            ),
            (
                "/v1/primitives/q",
                json!({"kind": "semaphore", "permits": 1.5}),
                wanted(422, "invalid_body", "/permits"),
            ),
            (
                "/v1/primitives/q",
                json!({"kind": "mutex", "permits": 1}),
                wanted(422, "invalid", "/permits"),
            ),
            (
                "/v1/primitives/q",
                json!({"kind": "queue", "capacity": 2_000_000}),
                wanted(422, "over_limit", "/capacity"),
            ),
            (
                "/v1/primitives/q",
                json!({"kind": "barrier"}),
                wanted(422, "invalid_body", "/kind"),
            ),
            (
                "/v1/primitives/a%00b",
                json!({"kind": "mutex"}),
                wanted(422, "invalid", "path:name"),
            ),
            (
                &long,
                json!({"kind": "mutex"}),
                wanted(422, "over_limit", "path:name"),
            ),
            (
                "/v1/primitives/%FF",
                json!({"kind": "mutex"}),
                wanted(400, "invalid_path", "path:"),
            ),
        ] {
            assert_eq!(
                problem(client.put(path, body.clone()).await),
                expected,
                "{path:.60} {body}"
            );
        }
        assert_eq!(
            problem(client.get("/v1/primitives?limit=0").await),
            wanted(422, "invalid", "query:limit")
        );
        let stale = client.claimed().await;
        let late = json!({"epoch": stale.1 + 1, "primitive": "p0"});
        let refused = client.post(&format!("{}/acquire", stale.0), late).await;
        assert_eq!(problem(refused), wanted(409, "lease_lost", ""));
        let nobody = "/v1/tasks/01893d0e-7c00-7abc-8def-0123456789ab/grants";
        assert_eq!(
            problem(client.get(nobody).await),
            wanted(404, "task_not_found", "")
        );
    }
}
