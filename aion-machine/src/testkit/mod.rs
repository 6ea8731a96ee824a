//! The conformance kit: what every [`Workspace`](crate::Workspace) must do, as one test a case.
//!
//! ```ignore
//! // in tests/it/main.rs of a backend; the expression makes a fresh, empty workspace
//! aion_machine::workspace_tests!(my_backend, async { MyMachine::new().workspace() });
//! ```
//!
//! The expression gives something that holds the workspace alive and derefs to
//! `Arc<dyn Workspace>`; a bare `Arc<dyn Workspace>` will do.

mod cases;
mod executions;
mod memory;

pub use self::cases::*;
pub use self::executions::*;
pub use self::memory::MemoryWorkspace;

/// Makes a module of tests, one for each case of the kit.
#[macro_export]
macro_rules! workspace_tests {
    ($name:ident, $make:expr) => {
        $crate::workspace_tests!(@cases $name, $make, [
            a_written_file_reads_back,
            ranges_are_exact,
            writing_the_same_changes_nothing,
            create_new_does_not_replace,
            a_stale_etag_is_a_conflict,
            missing_parents_are_created_or_not,
            edits_are_all_or_nothing,
            an_ambiguous_edit_is_refused,
            a_directory_is_not_a_file,
            listings_are_sorted_and_cut,
            removing_needs_the_right_mode,
            renaming_does_not_replace_unasked,
            globs_find_names_in_order,
            greps_find_lines_with_context,
            ignore_files_are_honoured,
            bad_patterns_are_errors,
            snapshots_show_what_changed,
            an_execution_is_what_was_asked_for,
            bad_executions_are_errors,
            an_execution_is_followed,
            a_slow_follower_is_told_what_it_missed,
            a_killed_execution_ends,
            a_dropped_execution_does_not_go_on,
            limits_end_an_execution,
            outputs_are_bytes,
        ]);
    };
    (@cases $name:ident, $make:expr, [$($case:ident),+ $(,)?]) => {
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
