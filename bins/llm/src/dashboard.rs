//! `GET /dashboard`: one page that shows the model at work, made of the service's own operations.

use std::sync::LazyLock;

use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header;
use sha2::{Digest as _, Sha256};

const PAGE: &str = include_str!("dashboard.html");

/// Only this script and this style run, and they speak with this service alone.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = |tag: &str| STANDARD.encode(Sha256::digest(between(PAGE, tag)));
    format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
        hash("script"),
        hash("style")
    )
});

/// What stands inside the first element of this name.
fn between<'a>(page: &'a str, tag: &str) -> &'a str {
    let inside = page.split_once(&format!("<{tag}>")).map_or("", |(_, rest)| rest);
    inside
        .split_once(&format!("</{tag}>"))
        .map_or("", |(inside, _)| inside)
}

/// A page that shows the model, its load and its tokens by persistence, with a chat box.
///
/// The page itself is the same for everyone and needs no key; what it shows is fetched with the key typed into it.
#[utoipa::path(
    get, path = "/dashboard", operation_id = "llm_dashboard", tag = "llm",
    responses((status = 200, description = "The page", body = String, content_type = "text/html")),
)]
pub(crate) async fn dashboard() -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY.as_str()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (headers, PAGE).into_response()
}
