//! The rules of the task tree, apart from any storage.
//!
//! [`machine`] says which changes are legal, [`apply`] carries out an operation over rows that a
//! backend reads and writes, [`check`] bounds what comes from outside.

pub(crate) mod apply;
pub(crate) mod check;
pub mod machine;
pub(crate) mod row;
pub(crate) mod rows;
pub(crate) mod tree;
