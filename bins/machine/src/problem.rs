//! Errors of the machine as problem documents.

use aion_machine::Error;
use aion_service::Problem;
use axum::http::StatusCode;

/// The problem of an error; `field` is the member of the body that most errors are about.
pub(crate) fn from_error(error: &Error, field: &'static str) -> Problem {
    let code = error.code();
    let detail = aion_service::chain(error);
    let status = match error {
        Error::NotFound { .. } | Error::UnknownSnapshot { .. } => StatusCode::NOT_FOUND,
        Error::Exists { .. } | Error::HardLinked { .. } => StatusCode::CONFLICT,
        Error::Escapes { .. } | Error::Denied { .. } | Error::EnvDenied { .. } => StatusCode::FORBIDDEN,
        Error::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        Error::Conflict { .. } => StatusCode::PRECONDITION_FAILED,
        Error::NoSpace { .. } => StatusCode::INSUFFICIENT_STORAGE,
        Error::Busy { .. } | Error::TooManyWatches { .. } => return Problem::too_many(code, detail, 1),
        Error::ConfinementUnavailable { .. } | Error::NoSupervisor | Error::Supervisor { .. } => {
            return Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, detail);
        }
        Error::Unsupported { .. } => StatusCode::NOT_IMPLEMENTED,
        Error::Io { .. } => return Problem::internal(&detail),
        _ => StatusCode::UNPROCESSABLE_ENTITY,
    };
    Problem::new(status, code, detail).at(format!("/{}", pointer(error, field)))
}

/// The member that the error is about, where that is not the usual one.
fn pointer(error: &Error, field: &'static str) -> &'static str {
    match error {
        Error::EditNotFound { .. } | Error::EditAmbiguous { .. } => "old",
        Error::PatchInvalid { .. } | Error::PatchRejected { .. } => "patch",
        Error::Conflict { .. } => "if_match",
        Error::TooLarge { .. } | Error::NoSpace { .. } => "content",
        Error::Pattern { .. } => "pattern",
        Error::Program { .. } => "argv",
        Error::EnvDenied { .. } => "env",
        _ => field,
    }
}
