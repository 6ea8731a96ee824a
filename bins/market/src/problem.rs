//! What an error of the libraries means to a client.

use aion_market::Error;
use aion_service::Problem;

/// The problem of an operation whose input came in the body.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the signature that map_err asks for"
)]
pub(crate) fn in_body(error: Error) -> Problem {
    let detail = error.to_string();
    match &error {
        Error::NotFound(id) => {
            Problem::not_found("unknown_market", detail).about(format!("/v1/markets/{id}"))
        }
        Error::OtherTerms(_) => Problem::conflict("other_terms", detail),
        Error::Closed { .. } => Problem::conflict("closed", detail),
        Error::NotResolved(_) => Problem::conflict("not_resolved", detail),
        Error::AlreadyResolved(_) => Problem::conflict("already_resolved", detail),
        Error::KeyReused(_) => Problem::conflict("key_reused", detail),
        Error::WrongMaker { .. } => Problem::conflict("wrong_maker", detail),
        Error::VersionConflict { .. } => Problem::precondition_failed("version_conflict", detail),
        Error::ExecutorMayNotBet(_) => Problem::forbidden("executor_may_not_bet", detail),
        Error::ReservedAccount(_) => Problem::forbidden("reserved_account", detail),
        Error::OverLimit { .. } => Problem::conflict("over_limit", detail),
        Error::OverPriceLimit { .. } => Problem::conflict("over_price_limit", detail),
        Error::NoCredit { .. } => Problem::conflict("no_credit", detail),
        Error::NotHeld { .. } => Problem::conflict("not_held", detail),
        Error::LimitReached { .. } => Problem::unprocessable("limit_reached", detail),
        Error::TooSmall => Problem::unprocessable("too_small", detail),
        Error::OutOfRange { .. }
        | Error::BadEntry { .. }
        | Error::Shape { .. }
        | Error::UnknownOutcome { .. }
        | Error::Undefined { .. }
        | Error::BadText { .. }
        | Error::Value(_)
        | Error::Overflow(_) => Problem::unprocessable("invalid", detail),
        Error::Store(cause) => unavailable(cause),
        other => Problem::internal(other),
    }
}

/// The problem of a store that failed.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the signature that map_err asks for"
)]
pub(crate) fn in_store(error: aion_market::StoreError) -> Problem {
    unavailable(&error)
}

/// The problem of an operation on trust.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the signature that map_err asks for"
)]
pub(crate) fn in_trust(error: aion_trust::Error) -> Problem {
    match &error {
        aion_trust::Error::Store(cause) => unavailable(cause),
        other => Problem::internal(other),
    }
}

/// A value of the body that cannot be.
pub(crate) fn invalid(pointer: &str, detail: impl Into<String>) -> Problem {
    Problem::unprocessable("invalid", detail).at(pointer)
}

fn unavailable(cause: &(dyn std::error::Error + 'static)) -> Problem {
    tracing::error!(cause = aion_service::chain(cause), "the storage is not available");
    Problem::unavailable(
        "storage_unavailable",
        "the storage is not available; try again shortly",
    )
}
