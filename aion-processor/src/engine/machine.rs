//! The state machine of a task: one pure function that says what is legal and what follows.

use aion_types::{EventKind, Status};

use crate::{Error, Result};

/// What can happen to a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Input {
    /// Its creator, or its start time, makes it ready.
    Start,
    /// A handler takes it.
    Claim,
    /// Its holder gives it back.
    Release,
    /// Its holder gives it back to rest for a while.
    ReleaseLater,
    /// An attempt failed, another follows at once.
    Retry,
    /// An attempt failed, another follows later.
    RetryLater,
    /// Its holder did not come back in time.
    Expire,
    /// Its holder did not come back, as too many before.
    Poison,
    /// Its holder waits for other tasks.
    Gather,
    /// Its holder waits for a primitive.
    Block,
    /// What it waited for is there.
    Wake,
    /// It ends well.
    Complete,
    /// It ends badly.
    Fail,
    /// Its deadline has passed.
    Overdue,
    /// Somebody asks its holder to stop.
    AskCancel,
    /// It ends by request.
    Cancel,
}

impl Input {
    /// Every input.
    pub const ALL: [Self; 16] = [
        Self::Start,
        Self::Claim,
        Self::Release,
        Self::ReleaseLater,
        Self::Retry,
        Self::RetryLater,
        Self::Expire,
        Self::Poison,
        Self::Gather,
        Self::Block,
        Self::Wake,
        Self::Complete,
        Self::Fail,
        Self::Overdue,
        Self::AskCancel,
        Self::Cancel,
    ];

    /// The word for it in "a task that is READY cannot ...".
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Claim => "be claimed",
            Self::Release | Self::ReleaseLater => "be released",
            Self::Retry | Self::RetryLater => "be retried",
            Self::Expire | Self::Poison => "lose its lease",
            Self::Gather | Self::Block => "wait for others",
            Self::Wake => "be woken",
            Self::Complete => "complete",
            Self::Fail | Self::Overdue => "fail",
            Self::AskCancel => "be asked to stop",
            Self::Cancel => "be cancelled",
        }
    }
}

/// What the caller must do along with a change of status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Effect {
    /// Put it at the end of the ready queue.
    Enqueue,
    /// Hand it out under the next epoch and count the attempt.
    TakeLease,
    /// End the lease.
    DropLease,
    /// Take back the attempt: it was not the task's fault.
    GiveBackAttempt,
    /// Count a holder that vanished.
    CountCrash,
    /// Count vanished holders anew: this one came back, and got somewhere.
    ForgetCrashes,
    /// Note the wish to stop.
    FlagCancel,
    /// Give back what it holds of primitives, except passes of gates unless it ends.
    GiveBackGrants,
    /// Tell the parent and whoever waits for it.
    NotifyTerminal,
}

/// A legal change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Move {
    /// Where the task stands afterwards.
    pub to: Status,
    /// What the log says.
    pub event: EventKind,
    /// What must be done along with it, in this order.
    pub effects: &'static [Effect],
}

/// What `input` does to a task in status `from`.
///
/// # Errors
/// [`Error::IllegalTransition`] if nothing legal.
///
/// ```
/// use aion_processor::machine::{Effect, Input, step};
/// use aion_types::Status;
///
/// let claimed = step(Status::Ready, Input::Claim)?;
/// assert_eq!((claimed.to, claimed.effects), (Status::Running, &[Effect::TakeLease][..]));
/// assert!(step(Status::Completed, Input::Claim).is_err());
/// # Ok::<(), aion_processor::Error>(())
/// ```
pub fn step(from: Status, input: Input) -> Result<Move> {
    use Effect::{
        CountCrash, DropLease, Enqueue, FlagCancel, ForgetCrashes, GiveBackAttempt, GiveBackGrants,
        NotifyTerminal, TakeLease,
    };
    use Status::{Blocked, Cancelled, Completed, Failed, Preparing, Ready, Running};
    let (to, event, effects): (_, _, &'static [Effect]) = match (from, input) {
        (Preparing, Input::Start) | (Blocked, Input::Wake) => (Ready, EventKind::Ready, &[Enqueue]),
        (Ready, Input::Claim) => (Running, EventKind::Claimed, &[TakeLease]),
        (Running, Input::Release) => (
            Ready,
            EventKind::Released,
            &[DropLease, GiveBackAttempt, ForgetCrashes, GiveBackGrants, Enqueue],
        ),
        (Running, Input::ReleaseLater) => (
            Preparing,
            EventKind::Released,
            &[DropLease, GiveBackAttempt, ForgetCrashes, GiveBackGrants],
        ),
        (Running, Input::Retry) => (
            Ready,
            EventKind::Retried,
            &[DropLease, ForgetCrashes, GiveBackGrants, Enqueue],
        ),
        (Running, Input::RetryLater) => (
            Preparing,
            EventKind::Retried,
            &[DropLease, ForgetCrashes, GiveBackGrants],
        ),
        (Running, Input::Expire) => (
            Ready,
            EventKind::LeaseExpired,
            &[DropLease, GiveBackAttempt, CountCrash, GiveBackGrants, Enqueue],
        ),
        (Running, Input::Poison) => (
            Failed,
            EventKind::Failed,
            &[
                DropLease,
                GiveBackAttempt,
                CountCrash,
                GiveBackGrants,
                NotifyTerminal,
            ],
        ),
        (Running, Input::Gather) => (
            Blocked,
            EventKind::Blocked,
            &[DropLease, GiveBackAttempt, ForgetCrashes],
        ),
        // No step ahead: after a crash the same wait comes again.
        (Running, Input::Block) => (Blocked, EventKind::Blocked, &[DropLease, GiveBackAttempt]),
        (Running, Input::Complete) => (
            Completed,
            EventKind::Completed,
            &[DropLease, GiveBackGrants, NotifyTerminal],
        ),
        (Running, Input::Fail | Input::Overdue) => (
            Failed,
            EventKind::Failed,
            &[DropLease, GiveBackGrants, NotifyTerminal],
        ),
        (Blocked, Input::Fail) | (Preparing | Ready | Blocked, Input::Overdue) => {
            (Failed, EventKind::Failed, &[GiveBackGrants, NotifyTerminal])
        }
        (Running, Input::AskCancel) => (Running, EventKind::CancelRequested, &[FlagCancel]),
        (Running, Input::Cancel) => (
            Cancelled,
            EventKind::Cancelled,
            &[DropLease, FlagCancel, GiveBackGrants, NotifyTerminal],
        ),
        (Preparing | Ready | Blocked, Input::Cancel) => (
            Cancelled,
            EventKind::Cancelled,
            &[FlagCancel, GiveBackGrants, NotifyTerminal],
        ),
        (from, input) => {
            return Err(Error::IllegalTransition {
                from,
                input: input.as_str(),
            });
        }
    };
    Ok(Move { to, event, effects })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A task that has ended never changes again.
    #[test]
    fn terminal_is_final() {
        for from in Status::ALL.into_iter().filter(|s| s.is_terminal()) {
            for input in Input::ALL {
                assert!(step(from, input).is_err(), "{from} {input:?}");
            }
        }
    }

    /// A lease is taken exactly on the way into RUNNING, and dropped exactly on the way out.
    #[test]
    fn running_is_leased() {
        for (from, input) in every() {
            let Ok(made) = step(from, input) else { continue };
            let (was, is) = (from == Status::Running, made.to == Status::Running);
            assert_eq!(
                made.effects.contains(&Effect::TakeLease),
                !was && is,
                "{from} {input:?}"
            );
            assert_eq!(
                made.effects.contains(&Effect::DropLease),
                was && !is,
                "{from} {input:?}"
            );
        }
    }

    /// Whoever waits is told exactly when a task ends, and the log's kind says so too.
    #[test]
    fn ends_are_told() {
        for (from, input) in every() {
            let Ok(made) = step(from, input) else { continue };
            assert_eq!(
                made.effects.contains(&Effect::NotifyTerminal),
                made.to.is_terminal()
            );
            assert_eq!(made.event.is_terminal(), made.to.is_terminal());
            assert_eq!(made.effects.contains(&Effect::Enqueue), made.to == Status::Ready);
        }
    }

    /// Grants go back exactly when a lease ends without waiting, and when a task ends.
    #[test]
    fn grants_end_with_the_lease() {
        for (from, input) in every() {
            let Ok(made) = step(from, input) else { continue };
            let loses = made.effects.contains(&Effect::DropLease) && made.to != Status::Blocked;
            assert_eq!(
                made.effects.contains(&Effect::GiveBackGrants),
                loses || made.to.is_terminal(),
                "{from} {input:?}"
            );
        }
    }

    /// Every status but PREPARING is reached, and every status that is not an end can be left.
    #[test]
    fn nothing_is_stuck() {
        let moves: Vec<_> = every()
            .filter_map(|(from, input)| Some((from, step(from, input).ok()?)))
            .collect();
        for status in Status::ALL {
            assert!(
                moves
                    .iter()
                    .any(|(from, made)| made.to == status && *from != status),
                "{status}"
            );
            assert_eq!(
                moves.iter().any(|(from, _)| *from == status),
                !status.is_terminal(),
                "{status}"
            );
        }
    }

    fn every() -> impl Iterator<Item = (Status, Input)> {
        Status::ALL
            .into_iter()
            .flat_map(|from| Input::ALL.map(|input| (from, input)))
    }
}
