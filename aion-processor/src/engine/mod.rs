//! The rules of the task tree, apart from any storage.
//!
//! [`machine`] says which changes are legal, [`apply`] carries out an operation over rows that a
//! backend reads and writes ([`rows`]), [`check`] bounds what comes from outside. One file for each
//! thing that a task can do:
//!
//! | file | what |
//! |---|---|
//! | [`create`], [`take_over`] | new tasks, tasks of another store |
//! | [`lease`], [`fair`] | claims and what holders say; shares of queues |
//! | [`places`] | concurrency keys |
//! | [`talk`], [`step`] | messages; steps |
//! | [`tree`], [`sweep`] | gather and ends; cancelling and removing whole trees |
//! | [`line`](mod@line), [`gate`] | primitives: holding and waiting; what they are told |
//! | [`object`], [`cron`] | objects and their calls; schedules |
//! | [`webhook`], [`delivery`] | webhooks; what they could not deliver |
//! | [`due`] | what time demands |
//! | [`deadlock`] | who waits for whom in a circle |

pub(crate) mod apply;
pub(crate) mod check;
mod create;
mod cron;
pub(crate) mod deadlock;
pub(crate) mod delivery;
pub(crate) mod due;
mod fair;
mod gate;
mod lease;
mod line;
mod log;
pub mod machine;
pub(crate) mod named;
mod object;
mod places;
pub(crate) mod row;
pub(crate) mod rows;
mod step;
mod sweep;
mod take_over;
mod talk;
mod tree;
mod webhook;

pub(crate) use lease::claim;
