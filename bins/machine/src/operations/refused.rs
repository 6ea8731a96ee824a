//! What is refused before it reaches a workspace is recorded too.

use std::cell::Cell;
use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;

use crate::context::Context;

tokio::task_local! {
    /// Whether the request that is answered now has come as far as to a workspace, or its refusal is recorded.
    static RECORDED: Cell<bool>;
}

/// From here on the request is recorded by others.
pub(crate) fn is_recorded() {
    let _ = RECORDED.try_with(|recorded| recorded.set(true));
}

/// Records a refusal that nobody else has recorded.
pub(super) async fn record(State(context): State<Arc<Context>>, request: Request, next: Next) -> Response {
    let path = request.extensions().get::<MatchedPath>().cloned();
    let answer = async {
        let response = next.run(request).await;
        (response, RECORDED.with(Cell::get))
    };
    let (response, recorded) = RECORDED.scope(Cell::new(false), answer).await;
    if !recorded && response.status().is_client_error() {
        let path = path.as_ref().map_or("", MatchedPath::as_str);
        context.record_refusal(path, response.status().as_u16());
    }
    response
}
