//! Steps over HTTP: recorded once, kept for every attempt, listed.

use http::StatusCode;
use serde_json::json;

use crate::client::{Client, problem, wanted};

#[tokio::test]
async fn a_step_is_recorded_once_whoever_holds_the_task() {
    for client in Client::each().await {
        let (path, epoch) = client.claimed().await;
        let steps = format!("{path}/steps");
        let charge = json!({"epoch": epoch, "name": "charge", "result": {"receipt": 17, "rate": 1.0}});
        let first = client.ok(&steps, charge).await;
        assert_eq!(
            (&first["seq"], &first["result"]["rate"]),
            (&json!(1), &json!(1.0))
        );
        let other = json!({"epoch": epoch, "name": "charge", "result": 18});
        assert_eq!(client.ok(&steps, other).await, first, "the first one counts");
        client
            .ok(&format!("{path}/release"), json!({"epoch": epoch}))
            .await;

        let claim = json!({"handler_id": "next", "task_id": first["task_id"]});
        let next = client.ok("/v1/claims", claim).await["leases"][0]["epoch"].clone();
        let late = client.post(&steps, json!({"epoch": epoch, "name": "ship"})).await;
        assert_eq!(problem(late), wanted(409, "lease_lost", ""));
        let again = json!({"epoch": next, "name": "charge"});
        assert_eq!(
            client.ok(&steps, again).await,
            first,
            "by the next holder as well"
        );
        let second = client.ok(&steps, json!({"epoch": next, "name": "ship"})).await;
        assert_eq!((&second["seq"], &second["result"]), (&json!(2), &json!(null)));

        let (_, page) = client.get(&format!("{steps}?limit=1")).await;
        assert_eq!(page, json!({"steps": [first], "next": 1}));
        let (_, rest) = client.get(&format!("{steps}?after=1")).await;
        assert_eq!(rest, json!({"steps": [second], "next": null}));
    }
}

#[tokio::test]
async fn steps_are_checked() {
    let client = Client::new();
    let (path, epoch) = client.claimed().await;
    let steps = format!("{path}/steps");
    for (body, expected) in [
        (json!({"epoch": epoch}), wanted(422, "invalid_body", "")),
        (
            json!({"epoch": epoch, "name": ""}),
            wanted(422, "invalid", "/name"),
        ),
        (
            json!({"epoch": epoch, "name": "x".repeat(129)}),
            wanted(422, "over_limit", "/name"),
        ),
        (
            json!({"epoch": 1.5, "name": "a"}),
            wanted(422, "invalid_body", "/epoch"),
        ),
        (json!([epoch, "a", null]), wanted(422, "invalid_body", "")),
        (
            json!({"epoch": epoch, "name": "a", "result": "x".repeat(1 << 20)}),
            wanted(413, "over_limit", "/result"),
        ),
    ] {
        assert_eq!(problem(client.post(&steps, body).await), expected);
    }
    assert_eq!(
        client.get(&steps).await,
        (StatusCode::OK, json!({"steps": [], "next": null}))
    );
    let nobody = "/v1/tasks/01893d0e-7c00-7abc-8def-0123456789ab/steps";
    assert_eq!(
        problem(client.get(nobody).await),
        wanted(404, "task_not_found", "")
    );
    let found = problem(client.get(&format!("{steps}?limit=0")).await);
    assert_eq!(found, wanted(422, "invalid", "query:limit"));
}

/// How many steps a task may have is a matter of the task, not of the request.
#[tokio::test]
async fn too_many_steps_are_a_conflict() {
    let limits = aion_processor::testkit::limits().with_max_steps(1, 1_000, 1_000);
    let client = Client::over(|clock, _| aion_processor::MemTaskStore::new(clock, limits));
    let (path, epoch) = client.claimed().await;
    let steps = format!("{path}/steps");
    client.ok(&steps, json!({"epoch": epoch, "name": "a"})).await;
    let more = client.post(&steps, json!({"epoch": epoch, "name": "b"})).await;
    assert_eq!(problem(more), wanted(409, "over_limit", ""));
}
