//! The machine as an HTTP service on port 9202.
