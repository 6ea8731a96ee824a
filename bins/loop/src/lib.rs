//! The agent loop as an HTTP service on port 9300.
