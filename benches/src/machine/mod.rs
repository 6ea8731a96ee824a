//! What the suite `machine` measures: a file read, a tree searched, texts compared, programs executed, requests answered.

pub mod exec;
pub mod files;
pub mod http;
