//! Extractors whose rejections are [`Problem`]s that say what is wrong and where.
//!
//! | request | answer |
//! |---|---|
//! | body is not JSON text | 400 `invalid_json`, line and column in the detail |
//! | JSON, but a wrong type, an unknown or a missing field | 422 `invalid_body`, `pointer` to the place |
//! | `Content-Type` is not JSON | 415 `unsupported_media_type` |
//! | body over the limit | 413 `body_too_large` |
//! | path or query parameter does not parse | 400 `invalid_path` or `invalid_query` |

use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, StatusCode, header};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_path_to_error::{Path as ErrorPath, Segment};

use crate::Problem;
use crate::members::Members;

/// A JSON body, in or out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Json<T>(pub T);

/// Parameters of the path, such as `Path<TaskId>` or `Path<(TaskId, u64)>`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Path<T>(pub T);

/// Parameters of the query string.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Query<T>(pub T);

impl<T, S> FromRequest<S> for Json<T>
where
    T: DeserializeOwned,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        require_json(request.headers())?;
        let body = Bytes::from_request(request, state)
            .await
            .map_err(|rejection| body_problem(&rejection))?;
        parse_json(&body).map(Self)
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

impl<T, S> FromRequestParts<S> for Path<T>
where
    T: DeserializeOwned + Send,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match axum::extract::Path::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(value)) => Ok(Self(value)),
            Err(rejection) if rejection.status().is_server_error() => {
                Err(Problem::internal(rejection.body_text()))
            }
            Err(rejection) => Err(Problem::bad_request("invalid_path", rejection.body_text()).at("path:")),
        }
    }
}

impl<T, S> FromRequestParts<S> for Query<T>
where
    T: DeserializeOwned,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        if !parts.uri.query().is_none_or(is_utf8) {
            return Err(Problem::bad_request("invalid_query", "the query string is not UTF-8").at("query:"));
        }
        axum::extract::Query::from_request_parts(parts, state)
            .await
            .map(|axum::extract::Query(value)| Self(value))
            .map_err(|rejection| Problem::bad_request("invalid_query", rejection.body_text()).at("query:"))
    }
}

/// Whether the escapes of a query string stand for UTF-8; its parser would put U+FFFD in the place of others.
fn is_utf8(query: &str) -> bool {
    let mut bytes = Vec::with_capacity(query.len());
    let mut rest = query.as_bytes();
    while let [first, tail @ ..] = rest {
        let digit = |at: usize| tail.get(at).and_then(|digit| (*digit as char).to_digit(16));
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high * 16 + low) as u8);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    std::str::from_utf8(&bytes).is_ok()
}

/// Parses a JSON text into `T`, as [`Json`] does it.
///
/// # Errors
/// 400 `invalid_json` when the bytes are not JSON, 422 `invalid_body` when they are, but do not fit `T`.
///
/// ```
/// let problem = aion_service::parse_json::<Vec<u8>>(b"[1, 300]").unwrap_err();
/// assert_eq!((problem.status().as_u16(), problem.pointer()), (422, Some("/1")));
/// ```
pub fn parse_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    // Keeping the path costs more than reading, so that it is kept only where something is wrong.
    let mut plain = serde_json::Deserializer::from_slice(body);
    if let Ok(value) = T::deserialize(Members(&mut plain))
        && plain.end().is_ok()
    {
        return Ok(value);
    }
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(&mut deserializer, &mut track);
    let value =
        T::deserialize(Members(tracked)).map_err(|error| json_problem(&error, &pointer_of(&track.path())))?;
    deserializer.end().map_err(|error| json_problem(&error, ""))?;
    Ok(value)
}

fn json_problem(error: &serde_json::Error, pointer: &str) -> Problem {
    let detail = shortened(&error.to_string());
    if error.is_data() {
        return Problem::unprocessable("invalid_body", detail).at(pointer);
    }
    Problem::bad_request("invalid_json", detail).at(pointer)
}

/// Bytes of the beginning and of the end of what is said of a body, which may repeat any text in it.
const SHOWN: (usize, usize) = (240, 80);
/// Bytes of a member's name in a pointer.
const SHOWN_NAME: usize = 128;

/// A text without its middle, where it is long.
fn shortened(text: &str) -> String {
    if text.len() <= SHOWN.0 + SHOWN.1 {
        return text.to_owned();
    }
    let (head, tail) = (
        text.floor_char_boundary(SHOWN.0),
        text.ceil_char_boundary(text.len() - SHOWN.1),
    );
    format!("{} ... {}", &text[..head], &text[tail..])
}

fn pointer_of(path: &ErrorPath) -> String {
    path.iter().fold(String::new(), |mut pointer, segment| {
        match segment {
            Segment::Seq { index } => pointer.push_str(&format!("/{index}")),
            // A variant that holds something is written as an object with one member.
            Segment::Map { key } | Segment::Enum { variant: key } => {
                pointer.push('/');
                let key = &key[..key.floor_char_boundary(SHOWN_NAME)];
                pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
            }
            Segment::Unknown => {}
        }
        pointer
    })
}

fn require_json(headers: &HeaderMap) -> Result<(), Problem> {
    let content_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    if content_type.is_some_and(is_json) {
        return Ok(());
    }
    let shown = content_type.unwrap_or("none");
    Err(Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "unsupported_media_type",
        format!("this operation takes application/json, not {shown}"),
    ))
}

fn is_json(content_type: &str) -> bool {
    let essence = content_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

fn body_problem(rejection: &BytesRejection) -> Problem {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        return body_too_large();
    }
    Problem::bad_request("unreadable_body", rejection.body_text())
}

pub(crate) fn body_too_large() -> Problem {
    Problem::payload_too_large("body_too_large", "the body is over the limit of this operation")
}
