//! The processor as an HTTP service on port 9205.
