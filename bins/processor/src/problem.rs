//! What an error of the library means to a client.

use aion_processor::Error;
use aion_service::Problem;
use http::StatusCode;

/// The problem of an operation whose input came in the body: pointers lead into it.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the signature that map_err asks for"
)]
pub(crate) fn in_body(error: Error) -> Problem {
    problem(&error, |what| format!("/{}", body_member(what)))
}

/// The problem of an operation whose input came in the query string.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the signature that map_err asks for"
)]
pub(crate) fn in_query(error: Error) -> Problem {
    problem(&error, |what| format!("query:{what}"))
}

fn problem(error: &Error, place: impl Fn(&str) -> String) -> Problem {
    let detail = error.to_string();
    let code = error.code();
    match error {
        Error::NotFound(task) => Problem::not_found(code, detail).about(format!("/v1/tasks/{task}")),
        Error::Unknown { .. } => Problem::not_found(code, detail),
        Error::LeaseLost { task, .. } => Problem::conflict(code, detail).about(format!("/v1/tasks/{task}")),
        Error::Conflict(_) | Error::IllegalTransition { .. } => Problem::conflict(code, detail),
        Error::Invalid { what, .. } => Problem::unprocessable(code, detail).at(place(what)),
        Error::Limit { what, .. } if is_size(what) => {
            Problem::payload_too_large(code, detail).at(place(what))
        }
        Error::Limit { what, .. } => Problem::unprocessable(code, detail).at(place(what)),
        Error::Full => Problem::new(StatusCode::INSUFFICIENT_STORAGE, code, detail),
        Error::Busy { retry_after_ms } => {
            let seconds = u32::try_from(retry_after_ms.div_ceil(1_000)).unwrap_or(u32::MAX);
            Problem::unavailable(code, detail).retry_after(seconds)
        }
        Error::Unavailable(cause) => {
            tracing::error!(%cause, "the storage is not available");
            Problem::unavailable(code, detail)
        }
        other => Problem::internal(other),
    }
}

/// Texts that are too long, as opposed to numbers that are too large.
fn is_size(what: &str) -> bool {
    matches!(what, "payload" | "result" | "message" | "spec" | "title")
}

/// Which member of the body a limit of the library is about.
fn body_member(what: &str) -> &str {
    match what {
        "depth" => "parent_id",
        "message" => "content",
        other => other,
    }
}
