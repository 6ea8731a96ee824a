//! How a handler says that an attempt failed.

use std::any::Any;
use std::fmt;
use std::time::Duration;

use crate::{Error, Retry};

/// Why an attempt failed, and whether another may follow.
///
/// Every error becomes one by `?`: then the task is tried again after the store's backoff, while it has
/// attempts left. What the engine refuses for good is not tried again.
///
/// ```
/// use std::time::Duration;
///
/// use aion_processor::Retry;
/// use aion_processor::worker::Failure;
///
/// fn parse(text: &str) -> Result<u32, Failure> {
///     Ok(text.parse::<u32>()?)
/// }
///
/// assert_eq!(parse("x").unwrap_err().retry(), Some(Retry::Backoff));
/// assert_eq!(Failure::never("no such account").retry(), Some(Retry::Never));
/// let later = Failure::after(Duration::from_secs(2), "try later");
/// assert_eq!((later.retry(), later.to_string()), (Some(Retry::AfterMs(2_000)), "try later".to_owned()));
/// ```
#[derive(Debug, Clone)]
pub struct Failure(Kind);

#[derive(Debug, Clone)]
enum Kind {
    Failed { message: String, retry: Retry },
    Lost,
}

impl Failure {
    /// Tried again after the store's backoff, while attempts are left.
    pub fn again(message: impl Into<String>) -> Self {
        Self::new(message.into(), Retry::Backoff)
    }

    /// Not tried again: the task fails now.
    pub fn never(message: impl Into<String>) -> Self {
        Self::new(message.into(), Retry::Never)
    }

    /// Tried again after so long (ten years at most), while attempts are left.
    pub fn after(delay: Duration, message: impl Into<String>) -> Self {
        let ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        Self::new(message.into(), Retry::AfterMs(ms))
    }

    fn new(message: String, retry: Retry) -> Self {
        Self(Kind::Failed { message, retry })
    }

    /// Whether another attempt follows; none if somebody else may have the task already, so that
    /// nothing can be said about it.
    pub fn retry(&self) -> Option<Retry> {
        match self.0 {
            Kind::Failed { retry, .. } => Some(retry),
            Kind::Lost => None,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Failed { message, .. } => f.write_str(message),
            Kind::Lost => f.write_str("the lease is lost"),
        }
    }
}

impl<E: std::error::Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        match (&error as &dyn Any).downcast_ref::<Error>() {
            Some(Error::LeaseLost { .. }) => Self(Kind::Lost),
            Some(refused) if refused.is_refusal() => Self::never(text(&error)),
            _ => Self::again(text(&error)),
        }
    }
}

/// What an error says, and what its sources say.
fn text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use aion_types::{TaskId, Timestamp};

    use super::*;

    /// What the engine says decides whether a repetition makes sense, and the sources are told.
    #[test]
    fn errors_of_the_engine_are_told_apart() {
        let task = TaskId::generate(Timestamp::from_ms(0));
        assert_eq!(Failure::from(Error::LeaseLost { task, given: 3 }).retry(), None);
        let refused = Failure::from(Error::NotFound(task));
        assert_eq!(refused.retry(), Some(Retry::Never));
        let gone = Error::Unavailable(Arc::new(std::io::Error::other("the cable is out")));
        let gone = Failure::from(gone);
        assert_eq!(gone.retry(), Some(Retry::Backoff));
        assert_eq!(gone.to_string(), "the storage is not available: the cable is out");
    }
}
