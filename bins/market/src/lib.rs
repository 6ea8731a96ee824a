//! The market as an HTTP service on port 9400.
