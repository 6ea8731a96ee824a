//! The conformance suite of [`TaskStore`]: one named test a case, for our stores and for yours.
//!
//! ```
//! use aion_processor::{MemTaskStore, task_store_tests};
//!
//! // The second part is kept until the case ends, such as a temporary directory.
//! task_store_tests!(|clock, limits| async { (MemTaskStore::new(clock, limits), ()) });
//! ```

pub mod cases;
pub mod clocks;
pub mod endurance;
pub mod gates;
pub mod holding;
pub mod lines;
pub mod objects;
pub mod places;
pub mod reading;
pub mod steps;
pub mod trees;
pub mod waiting;
pub mod webhooks;

use std::future::Future;
use std::sync::Arc;

use aion_types::{Clock, EventKind, HandlerId, ManualClock, TaskId, TaskRecord, Timestamp};

use crate::{Backoff, ClaimReq, Lease, Limits, NewTask, Processor, TaskStore, WebhookLimits};

/// A store on a bench: its handle, and the clock that it was made with.
#[derive(Debug, Clone)]
pub struct Bench {
    /// The handle.
    pub processor: Processor,
    /// The clock.
    pub clock: ManualClock,
}

/// The limits under which the cases run: small, and without jitter.
pub fn limits() -> Limits {
    Limits::default()
        .with_max_depth(8)
        .with_max_payload_bytes(4_096)
        .with_poison_limit(3)
        .with_webhooks(
            WebhookLimits::default()
                .with_max_webhooks(3)
                .with_max_parked(6)
                .with_max_dead(2)
                .with_max_attempts(3)
                .with_backoff(Backoff {
                    first_ms: 5_000,
                    max_ms: 86_400_000,
                    jitter_percent: 0,
                }),
        )
        .with_backoff(Backoff {
            first_ms: 1_000,
            max_ms: 60_000,
            jitter_percent: 0,
        })
        .with_max_steps(20, 2_000, 8_000)
}

/// Runs a case on a fresh store, in a runtime of its own.
///
/// # Panics
/// If the case does.
pub fn run<S, K, M, C>(make: impl FnOnce(ManualClock, Limits) -> M, case: impl FnOnce(Bench) -> C)
where
    S: TaskStore,
    M: Future<Output = (S, K)>,
    C: Future<Output = ()>,
{
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let clock = ManualClock::at(Timestamp::from_ms(1_000_000));
    runtime.expect("a runtime can be built").block_on(async {
        let (store, kept) = make(clock.clone(), limits()).await;
        case(Bench {
            processor: Processor::over(Arc::new(store)),
            clock,
        })
        .await;
        drop(kept);
    });
}

impl Bench {
    /// A fresh id.
    pub fn id(&self) -> TaskId {
        TaskId::generate(self.clock.now())
    }

    /// The time by the store's clock.
    pub fn clock_now(&self) -> Timestamp {
        self.clock.now()
    }

    /// A new task of kind `test`.
    pub fn task(&self) -> NewTask {
        NewTask::new(self.id(), "test", "A task")
    }

    /// Creates it.
    ///
    /// # Panics
    /// If the store refuses.
    pub async fn create(&self, task: NewTask) -> TaskRecord {
        self.processor.create(task).await.expect("the task is created")
    }

    /// Claims one task for a minute.
    ///
    /// # Panics
    /// If there is none.
    pub async fn claim(&self) -> Lease {
        let leases = self
            .processor
            .claim(wish("worker"))
            .await
            .expect("the claim is answered");
        leases.into_iter().next().expect("a task is ready")
    }

    /// Creates a task below `parent` and claims exactly it.
    ///
    /// # Panics
    /// If the store refuses.
    pub async fn claimed(&self, task: NewTask) -> Lease {
        let id = self.create(task).await.id;
        let leases = self
            .processor
            .claim(wish("worker").with_task(id))
            .await
            .expect("the claim is answered");
        leases.into_iter().next().expect("the task is ready")
    }

    /// The task as it is now.
    ///
    /// # Panics
    /// If it is not there.
    pub async fn get(&self, task: TaskId) -> TaskRecord {
        self.processor.get(task).await.expect("the task is there")
    }

    /// What the log tells of a task.
    ///
    /// # Panics
    /// If the log cannot be read.
    pub async fn kinds(&self, task: TaskId) -> Vec<EventKind> {
        let query = crate::EventQuery {
            task: Some(task),
            limit: 1_000,
            ..Default::default()
        };
        let page = self.processor.events_of(query).await.expect("the log is read");
        page.events.into_iter().map(|event| event.kind).collect()
    }
}

/// A wish for one task of any kind, for a minute.
///
/// # Panics
/// If `handler` is no name.
pub fn wish(handler: &str) -> ClaimReq {
    ClaimReq::new(HandlerId::new(handler).expect("a name"))
}

/// Tests that a store keeps the books of webhooks right, as [`task_store_tests!`](crate::task_store_tests) does for
/// the rest. Not for stores over a wire: a sender works where the keys are.
#[macro_export]
macro_rules! webhook_store_tests {
    ($make:expr) => {
        $crate::task_store_tests!(@in webhooks
            $make;
            webhooks_are_made_and_changed, webhooks_are_limited, keys_are_rotated, one_sender_at_a_time,
            failures_keep_the_order_of_a_task, receivers_ask_for_time, what_fails_too_often_is_dead,
            too_much_holds_it_back, hopeless_receivers_are_switched_off, replays_begin_anew,
            late_words_are_not_about_others, one_event_of_a_task_has_a_time, quiet_days_are_no_failures,
            tests_are_sent_once, settles_are_checked,
        );
    };
}

/// Tests that a store is right: `task_store_tests!(|clock, limits| async { (store, kept) })`.
///
/// Each case is a test of its own, on a store of its own.
#[macro_export]
macro_rules! task_store_tests {
    ($make:expr) => {
        $crate::task_store_tests!(@in cases
            $make;
            a_new_task_is_ready, creating_twice_gives_the_first, a_taken_id_is_a_conflict,
            a_key_is_unique_below_its_parent, children_know_their_tree, depth_is_limited,
            malformed_tasks_are_refused, ended_parents_have_no_new_children, held_tasks_start_when_told,
            delayed_tasks_start_when_due, one_refusal_leaves_the_others, repeated_requests_change_nothing,
        );
        $crate::task_store_tests!(@in holding
            $make;
            claims_go_by_priority_then_age, what_was_given_back_stands_behind, claims_filter_queues_kinds_and_tasks, a_task_has_one_holder,
            epochs_grow, zombies_are_refused, zombies_make_no_tasks, heartbeats_extend_the_lease, silence_ends_the_lease,
            poison_is_limited, what_ends_by_itself_is_no_poison, deadlines_end_tasks, failing_backs_off, attempts_are_limited, releasing_costs_no_attempt,
            completing_twice_is_harmless, cancelling_asks_the_holder, cancelling_by_force_fences_the_holder,
            unheld_tasks_are_cancelled_at_once, ended_tasks_stay_ended, claims_are_limited,
        );
        $crate::task_store_tests!(@in waiting
            $make;
            gather_waits_for_all, what_is_claimed_with_the_gather_wakes_the_waiter, gather_of_ended_tasks_does_not_wait, gather_takes_descendants_only,
            all_fails_when_all_have_ended, fail_fast_fails_at_once, settle_goes_on, failures_rise_through_gathers,
            a_cancelled_waiter_stays_cancelled,
        );
        $crate::task_store_tests!(@in steps
            $make;
            a_step_is_recorded_once, steps_outlive_attempts, zombies_record_nothing, steps_are_bounded,
            steps_move_and_go_with_their_tree,
        );
        $crate::task_store_tests!(@in reading
            $make;
            messages_keep_everything, appending_with_a_key_happens_once, messages_are_paged_both_ways,
            large_messages_are_refused, tasks_are_searched_and_paged, foreign_cursors_are_refused,
            the_log_is_read_by_cursor, the_log_replays, counts_are_exact, evidence_is_gathered,
            hints_tell_of_commits, claims_wait_for_work, unknown_tasks_are_not_found,
        );
        $crate::task_store_tests!(@in lines
            $make;
            a_mutex_goes_round, a_semaphore_counts_units, a_semaphore_changes_its_size, grants_end_with_the_lease,
            waiting_keeps_grants, leaving_a_line_moves_it_up, waits_end_in_time, deadlocks_are_named,
            wrong_uses_are_refused, the_log_tells_of_grants,
        );
        $crate::task_store_tests!(@in gates
            $make;
            events_are_set_and_pulsed, a_crowd_passes_a_gate, passes_outlive_the_lease,
            a_timestamp_lock_opens_by_itself, a_queue_hands_out_items, items_go_back_to_their_place,
        );
        $crate::task_store_tests!(@in places
            $make;
            keys_bound_what_runs, keys_respect_priority, waiting_gives_the_place_away, bad_keys_are_refused,
            queues_share_fairly, many_queues_share_fairly, named_queues_take_turns, kinds_are_found_behind_many_queues,
            fair_claims_filter_kinds, completing_and_claiming_is_one,
            zombies_are_refused_in_batches, schedules_make_tasks, schedules_may_skip, bad_schedules_are_refused,
        );
        $crate::task_store_tests!(@in objects
            $make;
            objects_compare_and_set, versions_never_repeat, objects_are_bounded, calls_make_tasks, exclusive_calls_take_turns,
        );
        $crate::task_store_tests!(@in clocks
            $make;
            a_clock_set_back_ends_nothing, a_clock_set_forth_fences_the_holder, schedules_repeat_no_time,
            waits_survive_clocks,
        );
        $crate::task_store_tests!(@in trees
            $make;
            trees_are_cancelled, force_is_not_weakened, texts_and_times_are_searched, long_searches_go_on, trees_move_between_stores,
            copies_are_checked, copies_stop_at_the_first_claim, ended_trees_are_removed, removals_are_finished, old_trees_retire,
            what_changes_does_not_retire,
        );
    };
    (@in $group:ident $make:expr; $($case:ident),* $(,)?) => {
        $(
            #[test]
            fn $case() {
                $crate::testkit::run($make, $crate::testkit::$group::$case);
            }
        )*
    };
}
