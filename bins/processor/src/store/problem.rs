//! Why the store refused a request as a whole: a problem document that programs can turn into the same error.

use std::borrow::Cow;

use aion_processor::Error;
use aion_service::current_request_id;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::schemas;
use crate::problem::in_body;

/// An error of the store.
#[derive(Debug)]
pub(crate) struct StoreProblem(Error);

impl From<Error> for StoreProblem {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl IntoResponse for StoreProblem {
    fn into_response(self) -> Response {
        let problem = in_body(self.0.clone());
        let mut document = serde_json::to_value(&problem).unwrap_or_else(|_| json!({}));
        document["error"] = serde_json::to_value(&self.0).unwrap_or(Value::Null);
        if let Some(id) = current_request_id() {
            document["trace_id"] = id.into();
        }
        problem.into_response().map(|_| Body::from(document.to_string()))
    }
}

impl PartialSchema for StoreProblem {
    fn schema() -> RefOr<Schema> {
        schemas::schema("StoreProblem")
    }
}

impl ToSchema for StoreProblem {
    fn name() -> Cow<'static, str> {
        "StoreProblem".into()
    }

    fn schemas(all: &mut Vec<(String, RefOr<Schema>)>) {
        schemas::all(all);
    }
}
