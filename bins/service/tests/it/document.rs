//! The OpenAPI document that a service serves.

use std::sync::Arc;

use aion_service::{Json, Limits, NoState, Service};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::sample::{get, send, service, text};

#[test]
fn it_is_openapi_3_1_with_licence_version_and_a_newline() {
    let text = service("sample").openapi_json();
    assert!(
        text.ends_with("}\n") && text == service("sample").openapi_json(),
        "stable"
    );
    let document: Value = serde_json::from_str(&text).unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    assert_eq!(document["info"]["title"], "aion-sample");
    assert_eq!(document["info"]["license"]["identifier"], "MIT OR Apache-2.0");
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(document["servers"][0]["url"], "http://127.0.0.1:9999");
}

#[test]
fn every_operation_has_an_id_and_a_problem_answer() {
    let document: Value = serde_json::from_str(&service("sample").openapi_json()).unwrap();
    let paths = document["paths"].as_object().unwrap();
    for path in [
        "/state",
        "/healthz",
        "/readyz",
        "/metrics",
        "/openapi.json",
        "/orders",
        "/orders/{id}",
    ] {
        assert!(paths.contains_key(path), "{path}");
    }
    for operation in paths.values().flat_map(|item| item.as_object().unwrap().values()) {
        assert!(operation["operationId"].is_string());
        let schema = &operation["responses"]["default"]["content"]["application/problem+json"]["schema"];
        assert_eq!(schema["$ref"], "#/components/schemas/Problem");
    }
    let problem = &document["components"]["schemas"]["Problem"]["properties"];
    for field in ["type", "title", "status", "detail", "code", "pointer", "trace_id"] {
        assert!(problem.get(field).is_some(), "{field}");
    }
}

#[tokio::test]
async fn what_is_served_is_what_is_written() {
    let written = service("sample").openapi_json();
    let router = service("sample").into_router(&Limits::default());
    assert_eq!(text(send(&router, get("/openapi.json")).await).await, written);
}

#[test]
fn a_combined_service_documents_the_paths_of_all() {
    let both = Service::combine("both", 1, [service("sample")]);
    let document: Value = serde_json::from_str(&both.openapi_json()).unwrap();
    assert!(document["paths"].get("/orders").is_some());
    assert_eq!(document["info"]["title"], "aion-both");
}

/// Another thing of the same name as the sample's.
#[derive(Deserialize, Serialize, ToSchema)]
struct Order {
    rank: u8,
    #[schema(no_recursion)]
    next: Option<Box<Order>>,
}

/// Another operation of the same name as the sample's.
#[utoipa::path(post, path = "/ranks", operation_id = "order", request_body = Order, responses((status = 200, body = Order)))]
async fn rank(Json(order): Json<Order>) -> Json<Order> {
    Json(order)
}

#[test]
fn equal_names_of_different_things_are_told_apart() {
    let ranks = || {
        Service::new(
            "ranks",
            1,
            OpenApiRouter::new().routes(routes!(rank)),
            Arc::new(NoState),
        )
    };
    let both = Service::combine("both", 1, [service("sample"), ranks()]);
    let document: Value = serde_json::from_str(&both.openapi_json()).unwrap();
    let (schemas, paths) = (&document["components"]["schemas"], &document["paths"]);
    let body = |path: &str| {
        paths[path]["post"]["requestBody"]["content"]["application/json"]["schema"]["$ref"].clone()
    };
    assert_eq!(body("/orders"), "#/components/schemas/Order");
    assert_eq!(body("/ranks"), "#/components/schemas/ranks_Order");
    assert!(schemas["Order"]["properties"].get("lines").is_some());
    assert!(schemas["ranks_Order"]["properties"].get("rank").is_some());
    assert!(
        schemas["ranks_Order"].to_string().contains("schemas/ranks_Order"),
        "recursion follows"
    );
    assert_eq!(paths["/orders"]["post"]["operationId"], "order");
    assert_eq!(paths["/ranks"]["post"]["operationId"], "ranks_order");
    let alone: Value = serde_json::from_str(&ranks().openapi_json()).unwrap();
    assert_eq!(alone["paths"]["/ranks"]["post"]["operationId"], "order");
}
