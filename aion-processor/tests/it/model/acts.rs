//! What is done to both stores, in a form that can be drawn at random and made smaller.

use aion_processor::{CancelMode, GatherPolicy, Retry, Return, Start};
use aion_types::Timestamp;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// Tasks that may be created.
pub(crate) const SLOTS: u8 = 24;
/// When the clock starts.
pub(crate) const START_MS: i64 = 1_000_000;
/// Primitives: a semaphore of three, a mutex, an event, a timestamp lock, a queue.
pub(crate) const PRIMITIVES: [&str; 5] = ["semaphore", "mutex", "event", "gate", "queue"];

/// Something to do. Tasks are picked by number when it is done: a holder's writes mostly go to a task
/// that runs, what a gather lists mostly lies below it.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Apply(Vec<Act>),
    Claim {
        max: u32,
        queue: Option<u8>,
        kind: Option<u8>,
        task: Option<u8>,
        lease_ms: u64,
        fair: Fair,
    },
    /// A parent that gathers children, which then end one after the other.
    Family {
        slot: u8,
        policy: GatherPolicy,
        ends: Vec<End>,
    },
    Due(u32),
    Sleep(i64),
    Purge(u8),
}

/// Whether queues share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fair {
    Yes,
    No,
}

/// How a child of a family ends, or what happens meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Complete,
    Fail,
    Cancel,
    CancelParent,
    Leave,
}

#[derive(Debug, Clone)]
pub(crate) enum Act {
    Create {
        slot: u8,
        parent: Option<u8>,
        priority: i32,
        queue: u8,
        start: Start,
        key: Option<u8>,
        attempts: u32,
        concurrency: Option<u8>,
        by: Option<(u8, Age)>,
        deadline: Option<i64>,
    },
    Start(u8),
    Heartbeat(u8, Age),
    Append(u8, Option<Age>, Option<u8>),
    Record(u8, Age, u8, i64),
    Complete(u8, Age),
    CompleteAndClaim(u8, Age),
    Fail(u8, Age, Retry),
    Release(u8, Age, u64),
    Cancel(u8, CancelMode),
    CancelTree(u8, CancelMode),
    Stop(u8, Age),
    Gather(u8, Age, Vec<u8>, GatherPolicy),
    Acquire {
        slot: u8,
        age: Age,
        primitive: u8,
        units: u32,
        patience: Option<i64>,
    },
    Return(u8, Age, u8, Return),
    Signal(u8, Told),
    Put(u8, Option<u64>),
    Drop(u8, Option<u64>),
    Call(u8, u8, Fair),
    Weigh(u8, u32),
}

/// What a primitive is told; what does not fit its kind is refused.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Told {
    Set,
    Reset,
    Pulse,
    Shut(i64),
    Item(u8),
}

/// Whether the writer holds the lease, or held it once.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Age {
    Current,
    Old,
}

fn slot() -> impl Strategy<Value = u8> {
    0..SLOTS
}

fn age() -> impl Strategy<Value = Age> {
    prop_oneof![9 => Just(Age::Current), 1 => Just(Age::Old)]
}

fn fair() -> impl Strategy<Value = Fair> {
    prop_oneof![2 => Just(Fair::No), 1 => Just(Fair::Yes)]
}

fn mode() -> impl Strategy<Value = CancelMode> {
    prop_oneof![Just(CancelMode::Ask), Just(CancelMode::Force)]
}

fn policy() -> impl Strategy<Value = GatherPolicy> {
    prop_oneof![
        Just(GatherPolicy::All),
        Just(GatherPolicy::FailFast),
        Just(GatherPolicy::Settle)
    ]
}

fn start() -> impl Strategy<Value = Start> {
    prop_oneof![
        6 => Just(Start::Now),
        1 => Just(Start::Held),
        1 => (0_i64..400).prop_map(|ms| Start::At(Timestamp::from_ms(START_MS + ms))),
    ]
}

fn create() -> impl Strategy<Value = Act> {
    (
        (
            slot(),
            option::of(slot()),
            option::weighted(0.3, (slot(), age())),
            option::weighted(0.2, 0..600_i64),
        ),
        0..3_i32,
        0..3_u8,
        start(),
        option::weighted(0.1, 0..3_u8),
        1..4_u32,
        option::weighted(0.3, 0..2_u8),
    )
        .prop_map(
            |((slot, parent, by, deadline), priority, queue, start, key, attempts, concurrency)| {
                Act::Create {
                    slot,
                    parent,
                    priority,
                    queue,
                    start,
                    key,
                    attempts,
                    concurrency,
                    by,
                    deadline,
                }
            },
        )
}

fn told() -> impl Strategy<Value = Told> {
    prop_oneof![
        Just(Told::Set),
        Just(Told::Reset),
        Just(Told::Pulse),
        (0..300_i64).prop_map(Told::Shut),
        any::<u8>().prop_map(Told::Item),
    ]
}

/// What tasks do among themselves.
fn tree_act() -> impl Strategy<Value = Act> {
    let retry = prop_oneof![
        Just(Retry::Never),
        Just(Retry::Backoff),
        (0..300_u64).prop_map(Retry::AfterMs)
    ];
    prop_oneof![
        8 => create(),
        1 => slot().prop_map(Act::Start),
        1 => (slot(), age()).prop_map(|(slot, age)| Act::Heartbeat(slot, age)),
        3 => (slot(), option::of(age()), option::of(0..3_u8)).prop_map(|(slot, age, key)| Act::Append(slot, age, key)),
        2 => (slot(), age(), 0..4_u8, 0..9_i64).prop_map(|(slot, age, step, n)| Act::Record(slot, age, step, n)),
        3 => (slot(), age()).prop_map(|(slot, age)| Act::Complete(slot, age)),
        1 => (slot(), age()).prop_map(|(slot, age)| Act::CompleteAndClaim(slot, age)),
        3 => (slot(), age(), retry).prop_map(|(slot, age, retry)| Act::Fail(slot, age, retry)),
        1 => (slot(), age(), 0..100_u64).prop_map(|(slot, age, ms)| Act::Release(slot, age, ms)),
        1 => (slot(), mode()).prop_map(|(slot, mode)| Act::Cancel(slot, mode)),
        1 => (slot(), mode()).prop_map(|(slot, mode)| Act::CancelTree(slot, mode)),
        1 => (slot(), age()).prop_map(|(slot, age)| Act::Stop(slot, age)),
        4 => (slot(), age(), vec(slot(), 0..5), policy()).prop_map(|(slot, age, all, policy)| Act::Gather(slot, age, all, policy)),
    ]
}

/// What tasks do with primitives and objects.
fn line_act() -> impl Strategy<Value = Act> {
    let acquire = (
        slot(),
        age(),
        0..5_u8,
        1..4_u32,
        option::weighted(0.3, -50..200_i64),
    )
        .prop_map(|(slot, age, primitive, units, patience)| Act::Acquire {
            slot,
            age,
            primitive,
            units,
            patience,
        });
    let how = prop_oneof![Just(Return::Done), Just(Return::Undone)];
    prop_oneof![
        8 => acquire,
        4 => (slot(), age(), 0..5_u8, how).prop_map(|(slot, age, primitive, how)| Act::Return(slot, age, primitive, how)),
        4 => (0..5_u8, told()).prop_map(|(primitive, told)| Act::Signal(primitive, told)),
        1 => (0..2_u8, option::of(0..5_u64)).prop_map(|(object, version)| Act::Put(object, version)),
        1 => (0..2_u8, option::of(0..5_u64)).prop_map(|(object, version)| Act::Drop(object, version)),
        1 => (slot(), 0..2_u8, fair()).prop_map(|(slot, object, mode)| Act::Call(slot, object, mode)),
        1 => (0..3_u8, 1..4_u32).prop_map(|(queue, weight)| Act::Weigh(queue, weight)),
    ]
}

fn family() -> impl Strategy<Value = Step> {
    let end = prop_oneof![
        4 => Just(End::Complete),
        3 => Just(End::Fail),
        1 => Just(End::Cancel),
        1 => Just(End::CancelParent),
        1 => Just(End::Leave),
    ];
    (slot(), policy(), vec(end, 1..5)).prop_map(|(slot, policy, ends)| Step::Family { slot, policy, ends })
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
    let claim = (
        1..4_u32,
        option::weighted(0.3, 0..3_u8),
        option::weighted(0.3, 0..2_u8),
        option::weighted(0.2, slot()),
    );
    prop_oneof![
        5 => vec(tree_act(), 1..4).prop_map(Step::Apply),
        4 => vec(line_act(), 1..4).prop_map(Step::Apply),
        6 => (claim, 1..500_u64, fair()).prop_map(|((max, queue, kind, task), lease_ms, fair)|
            Step::Claim { max, queue, kind, task, lease_ms, fair }),
        2 => family(),
        2 => (1..5_u32).prop_map(Step::Due),
        // Clocks are set back, too.
        2 => (-100..300_i64).prop_map(Step::Sleep),
        1 => slot().prop_map(Step::Purge),
    ]
}
