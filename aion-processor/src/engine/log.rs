//! What the log says of a change: enough to rebuild where the task stands.

use aion_types::{EventKind, Json, MessageRecord, Status, Timestamp};

use super::apply::Before;
use super::machine::Input;
use super::row::Row;
use crate::{GatherPolicy, Grant, StepRecord};

/// What the log keeps of a creation.
pub(super) fn created(row: &Row, title: &str) -> Json {
    let mut members = plan(row, title);
    members.extend(row.run_after.map(|at| ("run_after", moment(at))));
    Json::object(members)
}

/// What the log keeps of a task that was taken over: where it stood as well.
pub(super) fn imported(row: &Row, title: &str) -> Json {
    let mut members = plan(row, title);
    members.extend(row.run_after.map(|at| ("run_after", moment(at))));
    let mut state = vec![
        ("status", Json::from(row.status.as_str())),
        ("epoch", number(row.lease_epoch)),
        ("attempt", Json::Int(row.attempt.into())),
        ("crash_count", Json::Int(row.crash_count.into())),
        ("cancel_requested", Json::Bool(row.cancel_requested)),
    ];
    state.extend(row.finished_at.map(|at| ("finished_at", moment(at))));
    members.push(("imported", Json::object(state)));
    Json::object(members)
}

fn plan(row: &Row, title: &str) -> Vec<(&'static str, Json)> {
    let mut members = vec![
        ("kind", Json::from(row.kind.as_str())),
        ("queue", Json::from(row.queue.as_str())),
        ("title", Json::from(title)),
        ("priority", Json::Int(row.priority.into())),
        ("depth", Json::Int(row.depth.into())),
        ("max_attempts", Json::Int(row.max_attempts.into())),
    ];
    members.extend(row.parent_id.map(|id| ("parent_id", Json::Text(id.to_string()))));
    members.extend(row.deadline.map(|at| ("deadline", moment(at))));
    members
}

/// What the log keeps of a change: the status and what changed with it.
pub(super) fn changed(row: &Row, before: Before, kind: EventKind, input: Input, detail: Json) -> Json {
    let mut members = vec![("status", Json::from(row.status.as_str()))];
    match kind {
        EventKind::Claimed => {
            members.push(("epoch", number(row.lease_epoch)));
            members.push(("attempt", Json::Int(row.attempt.into())));
            let holder = row.handler_id.as_ref();
            members.extend(holder.map(|id| ("handler_id", Json::from(id.as_str()))));
        }
        EventKind::LeaseExpired => members.push(("crash_count", Json::Int(row.crash_count.into()))),
        EventKind::Failed if input == Input::Poison => {
            members.push(("crash_count", Json::Int(row.crash_count.into())));
        }
        EventKind::Failed if input == Input::Overdue => members.push(("epoch", number(row.lease_epoch))),
        EventKind::Cancelled => members.push(("epoch", number(row.lease_epoch))),
        _ if row.crash_count < before.crashes => {
            members.push(("crash_count", Json::Int(row.crash_count.into())));
        }
        _ => {}
    }
    if row.status == Status::Preparing {
        members.extend(row.run_after.map(|at| ("run_after", moment(at))));
    }
    match (kind, detail) {
        (_, Json::Null) => {}
        (EventKind::Blocked, detail) => members.push(("waits", detail)),
        (_, detail) => members.push(("error", detail)),
    }
    Json::object(members)
}

/// For whom a task waits, and under which policy.
pub(super) fn waits_for_tasks(open: &[&Row], policy: GatherPolicy) -> Json {
    let tasks = open.iter().map(|row| Json::Text(row.id.to_string())).collect();
    let policy = match policy {
        GatherPolicy::All => "all",
        GatherPolicy::FailFast => "fail_fast",
        GatherPolicy::Settle => "settle",
    };
    Json::object([("tasks", Json::List(tasks)), ("policy", Json::from(policy))])
}

/// What a task waits for in a line.
pub(super) fn waits_in_line(primitive: &str, place: u64, units: u32) -> Json {
    Json::object([
        ("primitive", Json::from(primitive)),
        ("place", number(place)),
        ("units", Json::Int(units.into())),
    ])
}

/// What a task got, or gave back.
pub(super) fn grant(grant: &Grant) -> Json {
    Json::object([
        ("primitive", Json::from(grant.primitive.as_str())),
        ("token", number(grant.token)),
        ("units", Json::Int(grant.units.into())),
    ])
}

/// What the log keeps of a message; the message itself is read from the task.
pub(super) fn message(message: &MessageRecord) -> Json {
    Json::object([
        ("seq", number(message.seq)),
        ("role", Json::from(message.role.as_str())),
    ])
}

/// What the log keeps of a step; what it gave is read from the task.
pub(super) fn step(step: &StepRecord) -> Json {
    Json::object([
        ("seq", number(step.seq)),
        ("name", Json::from(step.name.as_str())),
    ])
}

fn moment(at: Timestamp) -> Json {
    Json::Int(at.as_ms())
}

fn number(n: u64) -> Json {
    Json::Int(n.try_into().unwrap_or(i64::MAX))
}
