//! From the answer of a route to the result of a call.

use axum::response::Response;
use http_body_util::BodyExt;
use rmcp::model::{CallToolResult, ContentBlock, ErrorData};
use serde_json::Value;

/// An answer as structured content and as text; a problem as an error that the model can read.
pub(crate) async fn of_response(response: Response) -> Result<CallToolResult, ErrorData> {
    let status = response.status();
    let lost = |why: String| ErrorData::internal_error(format!("the answer was lost: {why}"), None);
    let body = response.into_body().collect().await;
    let body = body.map_err(|e| lost(e.to_string()))?.to_bytes();
    if body.is_empty() && status.is_success() {
        return Ok(CallToolResult::success(Vec::new()));
    }
    let value: Value = serde_json::from_slice(&body).map_err(|e| lost(e.to_string()))?;
    if status.is_success() {
        return Ok(CallToolResult::structured(value));
    }
    // Not as structured content, which must be of the tool's output schema.
    Ok(CallToolResult::error(vec![ContentBlock::text(value.to_string())]))
}
