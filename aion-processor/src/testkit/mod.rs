//! The conformance suite of [`TaskStore`](crate::TaskStore).
