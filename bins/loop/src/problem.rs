//! What an error of the libraries means to a client.

use aion_loop::{Error, StoreError};
use aion_service::Problem;

pub(crate) fn of_loop(error: Error) -> Problem {
    let detail = error.to_string();
    match error {
        Error::Store(error) => of_store(error),
        Error::Processor(error) => of_processor(error),
        Error::UnexpectedInput { .. } => Problem::conflict("wrong_phase", detail),
        Error::ToolGone(_) => Problem::unprocessable("unknown_tool", detail).at("/tools"),
        Error::NewerFormat { .. } => Problem::conflict("newer_format", detail),
        Error::LeaseLost => Problem::conflict("lease_lost", detail),
        other => Problem::internal(aion_service::chain(&other)),
    }
}

pub(crate) fn of_store(error: StoreError) -> Problem {
    match error {
        StoreError::NotFound { .. } => Problem::not_found("not_found", error.to_string()),
        StoreError::Storage(_) => {
            tracing::error!(
                cause = aion_service::chain(&error),
                "the run store is not available"
            );
            Problem::unavailable("storage_unavailable", "the run store is not available")
        }
        other => Problem::internal(aion_service::chain(&other)),
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the signature that map_err asks for"
)]
pub(crate) fn of_processor(error: aion_processor::Error) -> Problem {
    if error.is_refusal() {
        return Problem::conflict(error.code(), error.to_string());
    }
    tracing::error!(
        cause = aion_service::chain(&error),
        "the task store is not available"
    );
    Problem::unavailable(error.code(), "the task store is not available")
}
