//! What an error of the library means to a client.

use aion_router::{Error, LiveError, StoreError};
use aion_service::Problem;

/// The problem of an operation of a live router.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the signature that map_err asks for"
)]
pub(crate) fn live(error: LiveError) -> Problem {
    match &error {
        LiveError::Engine(error) => engine(error),
        LiveError::Store(error) => store(error),
        LiveError::Embed(error) => {
            tracing::error!(cause = aion_service::chain(error), "the embedder failed");
            Problem::unavailable(
                "embedder_unavailable",
                "the embedder is not available; try again shortly",
            )
        }
        LiveError::Refused(error) => Problem::conflict("log_cannot_tell", error.to_string()),
        _ => Problem::internal(aion_service::chain(&error)),
    }
}

/// The problem of something that the engine refuses.
pub(crate) fn engine(error: &Error) -> Problem {
    let detail = error.to_string();
    match error {
        Error::UnknownDecision(_) => Problem::not_found("unknown_decision", detail),
        Error::OutcomeTwice(_) => Problem::conflict("outcome_twice", detail),
        Error::SurfaceTwice(_) => Problem::unprocessable("surface_twice", detail).at("/surfaces"),
        Error::FloorsOverBudget { .. } => {
            Problem::unprocessable("floors_over_budget", detail).at("/total_tokens")
        }
        Error::LimitReached { .. } => Problem::unprocessable("over_limit", detail),
        Error::BadDocument { .. } => Problem::unprocessable("bad_document", detail).at("/document"),
        _ => Problem::unprocessable("invalid", detail),
    }
}

fn store(error: &StoreError) -> Problem {
    tracing::error!(cause = aion_service::chain(error), "the storage is not available");
    Problem::unavailable(
        "storage_unavailable",
        "the storage is not available; try again shortly",
    )
}
