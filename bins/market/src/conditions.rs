//! Versions of markets as entity tags: `ETag`, `If-Match`, `If-None-Match`.

use aion_service::Problem;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};

/// An answer that has a version, or 304 if the client has that version already.
pub(crate) fn versioned(version: u64, headers: &HeaderMap, answer: impl IntoResponse) -> Response {
    let tag = format!("\"{version}\"");
    let known = headers
        .get(header::IF_NONE_MATCH)
        .and_then(|value| value.to_str().ok());
    let known = known.is_some_and(|tags| {
        tags.split(',')
            .map(|tag| tag.trim().trim_start_matches("W/"))
            .any(|one| one == "*" || one == tag)
    });
    let mut response = if known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        answer.into_response()
    };
    let headers = response.headers_mut();
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(header::ETAG, tag);
    }
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("private, no-cache"),
    );
    response
}

/// The version that the market must be at: that of the body, or of `If-Match`.
pub(crate) fn expected_version(body: Option<u64>, headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(value) = headers.get(header::IF_MATCH) else {
        return Ok(body);
    };
    let tag = value.to_str().unwrap_or_default().trim();
    if tag == "*" {
        return Ok(body);
    }
    let digits = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
    let version = digits.and_then(|digits| digits.parse().ok()).ok_or_else(|| {
        Problem::bad_request(
            "invalid_header",
            "If-Match must be the ETag of a market, such as \"3\"",
        )
        .at("header:if-match")
    })?;
    match body {
        Some(other) if other != version => Err(Problem::unprocessable(
            "invalid",
            "expected_version and If-Match name different versions",
        )
        .at("/expected_version")),
        _ => Ok(Some(version)),
    }
}
