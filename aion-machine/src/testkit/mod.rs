//! The conformance kit: what every [`Machine`](crate::Machine) and every [`Workspace`](crate::Workspace) must
//! do, as one test a case.
//!
//! ```ignore
//! // in tests/it/main.rs of a backend; the expression makes a machine with fresh, empty workspaces
//! aion_machine::machine_tests!(my_backend, async { MyMachine::new() });
//! ```
//!
//! The expression gives something that keeps the machine alive and derefs to `dyn Machine`; an
//! `Arc<dyn Machine>` or a `Box` will do. What a machine cannot do ([`Capabilities`](crate::Capabilities)) is
//! checked to be refused as `unsupported`: a case is never skipped. A program that has no test harness calls
//! [`check_machine`]:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! aion_machine::testkit::check_machine(&aion_machine::testkit::MemoryMachine::default(), "kit").await;
//! # }
//! ```

mod cases;
mod changes;
mod executions;
mod machine_cases;
mod memory;

pub use self::cases::*;
pub use self::changes::*;
pub use self::executions::*;
pub use self::machine_cases::*;
pub use self::memory::{MemoryMachine, MemoryWorkspace};
use crate::Machine;

/// Makes a module of tests, one for each case of a workspace; the expression makes a fresh, empty one.
///
/// For a backend that is no whole machine. It gives something that holds the workspace alive and derefs to
/// `dyn Workspace`; a bare `Arc<dyn Workspace>` will do.
#[macro_export]
macro_rules! workspace_tests {
    ($name:ident, $make:expr) => {
        $crate::with_workspace_cases!([$crate::workspace_tests] $name, $make);
    };
    (@cases [$($case:ident),+] $name:ident, $make:expr) => {
        mod $name {
            #[allow(unused_imports)]
            use super::*;
            $(
                #[tokio::test]
                async fn $case() {
                    let made = $make.await;
                    $crate::testkit::$case(&*made).await;
                }
            )+
        }
    };
}

/// Makes a module of tests, one for each case of the kit; the expression makes a machine.
#[macro_export]
macro_rules! machine_tests {
    ($name:ident, $make:expr) => {
        mod $name {
            #[allow(unused_imports)]
            use super::*;
            $crate::with_workspace_cases!([$crate::machine_tests] workspace, $make);
            $crate::with_machine_cases!([$crate::machine_tests] machine, $make);
        }
    };
    (@cases [$($case:ident),+] workspace, $make:expr) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let made = $make.await;
                let work = $crate::testkit::open(&*made, stringify!($case)).await;
                $crate::testkit::$case(&*work).await;
            }
        )+
    };
    (@cases [$($case:ident),+] machine, $make:expr) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let made = $make.await;
                $crate::testkit::$case(&*made, stringify!($case)).await;
            }
        )+
    };
}

/// The cases of a workspace, for the macros above.
#[doc(hidden)]
#[macro_export]
macro_rules! with_workspace_cases {
    ([$($then:tt)+] $($arguments:tt)*) => {
        $($then)+! { @cases [
            a_written_file_reads_back,
            ranges_are_exact,
            encodings_are_said,
            writing_the_same_changes_nothing,
            create_new_does_not_replace,
            a_stale_etag_is_a_conflict,
            durability_can_be_chosen,
            missing_parents_are_created_or_not,
            edits_are_all_or_nothing,
            an_ambiguous_edit_is_refused,
            patches_are_all_or_nothing,
            the_diff_of_a_write_is_a_patch,
            a_directory_is_not_a_file,
            listings_are_sorted_and_cut,
            removing_needs_the_right_mode,
            renaming_does_not_replace_unasked,
            globs_find_names_in_order,
            greps_find_lines_with_context,
            ignore_files_are_honoured,
            bad_patterns_are_errors,
            snapshots_show_what_changed,
            a_watch_tells_of_changes,
            a_watch_is_of_one_directory,
            a_watch_that_is_not_read_says_what_it_lost,
            an_execution_is_what_was_asked_for,
            bad_executions_are_errors,
            an_execution_is_followed,
            a_slow_follower_is_told_what_it_missed,
            a_killed_execution_ends,
            a_dropped_execution_does_not_go_on,
            limits_end_an_execution,
            outputs_are_bytes,
            a_program_shares_the_workspace
        ] $($arguments)* }
    };
}

/// The cases of a machine, for the macros above.
#[doc(hidden)]
#[macro_export]
macro_rules! with_machine_cases {
    ([$($then:tt)+] $($arguments:tt)*) => {
        $($then)+! { @cases [
            workspaces_are_apart,
            capabilities_are_those_of_the_workspaces,
            a_probe_says_what_an_execution_says
        ] $($arguments)* }
    };
}

macro_rules! run_cases {
    (@cases [$($case:ident),+] workspace $machine:ident, $at:ident) => {
        $(
            let work = open($machine, &format!("{}/{}", $at, stringify!($case))).await;
            $case(&*work).await;
        )+
    };
    (@cases [$($case:ident),+] machine $machine:ident, $at:ident) => {
        $($case($machine, &format!("{}/{}", $at, stringify!($case))).await;)+
    };
}

/// Runs all cases one after the other, each in a directory of its own below `at`, which must be empty.
///
/// # Panics
/// Where the machine does not do what it must.
pub async fn check_machine(machine: &dyn Machine, at: &str) {
    crate::with_workspace_cases!([run_cases] workspace machine, at);
    crate::with_machine_cases!([run_cases] machine machine, at);
}
