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

/// The problem of an operation on the thing that the path calls `parameter`: pointers about its name lead there, others
/// into the body.
pub(crate) fn named(parameter: &'static str) -> impl Fn(Error) -> Problem {
    move |error| {
        problem(&error, |what| match what {
            "name" => format!("path:{parameter}"),
            what if what == parameter => format!("path:{what}"),
            what => format!("/{}", body_member(what)),
        })
    }
}

/// The problem of an operation whose body has the task in the member `task`.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the signature that map_err asks for"
)]
pub(crate) fn in_task(error: Error) -> Problem {
    problem(&error, |what| match what {
        "name" => "path:name".to_owned(),
        "cron" | "zone" | "version" => format!("/{what}"),
        what => format!("/task/{}", body_member(what)),
    })
}

/// The problem of the end of a task whose body has a wish for more in the member `claim`.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the signature that map_err asks for"
)]
pub(crate) fn in_claim(error: Error) -> Problem {
    problem(&error, |what| match what {
        "result" => "/result".to_owned(),
        what => format!("/claim/{}", body_member(what)),
    })
}

/// The problem of an import at one of its lines, counted from 1.
pub(crate) fn at_line(error: &Error, line: u64) -> Problem {
    let place = format!("line:{line}");
    let detail = format!("line {line}: {error}");
    match error {
        Error::Invalid { what: "json", .. } => Problem::bad_request("invalid_json", detail).at(place),
        Error::Invalid { what: "import", .. } => Problem::bad_request("unreadable_body", detail).at(place),
        Error::Invalid { what: "piece", .. } => Problem::unprocessable("invalid_body", detail).at(place),
        Error::Limit {
            what: "line" | "import",
            ..
        } => Problem::payload_too_large("body_too_large", detail).at(place),
        error => problem(error, |_| place.clone()),
    }
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
        Error::Limit { what, .. } if is_room(what) => Problem::conflict(code, detail),
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
        Error::Denied(_) => Problem::new(StatusCode::BAD_GATEWAY, code, detail),
        other => Problem::internal(other),
    }
}

/// Texts that are too long, as opposed to numbers that are too large.
fn is_size(what: &str) -> bool {
    matches!(
        what,
        "payload" | "result" | "message" | "spec" | "title" | "body" | "item"
    )
}

/// What is full now and need not be later, as opposed to what was given.
fn is_room(what: &str) -> bool {
    matches!(what, "items" | "waiting" | "holds" | "steps" | "steps_bytes")
}

/// Which member of the body a limit of the library is about.
fn body_member(what: &str) -> &str {
    match what {
        "depth" => "parent_id",
        "message" => "content",
        other => other,
    }
}
