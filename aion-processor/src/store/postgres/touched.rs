//! Which tasks a group of operations asks for, so that they are read together.

use aion_types::TaskId;

use crate::Op;
use crate::store::group::Unit;

/// The tasks that are named; what is left out costs a journey of its own.
pub(super) fn touched(units: &[Unit<'_>]) -> Vec<TaskId> {
    let mut ids = Vec::new();
    for unit in units {
        match unit {
            Unit::Op(write) => name(&write.op, &mut ids),
            Unit::Claim(req) => ids.extend(req.task),
            Unit::Due(_) => {}
        }
    }
    ids
}

fn name(op: &Op, ids: &mut Vec<TaskId>) {
    match op {
        Op::Create(new) => {
            ids.push(new.id);
            ids.extend(new.parent);
            ids.extend(new.fence.map(|fence| fence.task));
        }
        Op::Start(task) | Op::Append { task, .. } | Op::Cancel { task, .. } | Op::CancelTree { task, .. } => {
            ids.push(*task);
        }
        Op::CompleteAndClaim { fence, .. }
        | Op::Heartbeat { fence, .. }
        | Op::Step { fence, .. }
        | Op::Complete { fence, .. }
        | Op::Fail { fence, .. }
        | Op::Release { fence, .. }
        | Op::Return { fence, .. }
        | Op::Stop(fence) => ids.push(fence.task),
        Op::Gather { fence, tasks, .. } => {
            ids.push(fence.task);
            ids.extend(tasks);
        }
        Op::Acquire(want) => ids.push(want.fence.task),
        Op::Purge { root, .. } => ids.push(*root),
        Op::Import(copy) => {
            ids.push(copy.task.id);
            ids.extend(copy.task.parent_id);
        }
        _ => {}
    }
}
