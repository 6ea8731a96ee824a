//! A program that runs: followed while it does, killed when asked, waited for at its end.
//!
//! A backend makes both ends by [`Execution::channel`]: the [`Execution`] it gives away, and the
//! [`ExecFeed`] into which it puts what the program writes and how it ended. Nothing in between needs a
//! file descriptor or a path of the host, so that the two ends may as well be on two hosts.
//!
//! What was written last is kept for replay, a bounded number of bytes of it. Any number of followers read
//! it at their own pace, from any [`ExecCursor`]; one that is too slow is told which bytes it missed.

mod capture;
mod feed;
mod follow;
mod replay;

use std::sync::Arc;

pub use self::feed::{ExecFeed, KillReason};
use self::feed::{Life, Shared};
pub use self::follow::{ExecCursor, ExecEvent, ExecFollower, OutputStream};
use crate::{ExecOutput, ExecRequest, Result};

/// A program that was started. Dropping it kills the program and all that it started.
///
/// ```
/// use aion_machine::{ExecEvent, ExecRequest, ExecStatus, Execution, OutputStream};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), aion_machine::Error> {
/// // What a backend does, with a program that only says "hi".
/// let (execution, feed) = Execution::channel(&ExecRequest::new(["say-hi"]));
/// feed.started();
/// feed.push(OutputStream::Stdout, b"hi\n");
/// feed.finish(Ok(ExecStatus::exited(0)));
///
/// // What its caller sees.
/// let mut follower = execution.handle().follow();
/// let Some(ExecEvent::Output { offset, bytes, .. }) = follower.next().await else { panic!() };
/// assert_eq!((offset, bytes.as_slice()), (0, &b"hi\n"[..]));
/// assert_eq!(follower.next().await, None);
/// assert_eq!(execution.wait().await?.stdout.text(), "hi\n");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "dropping an execution kills it"]
pub struct Execution {
    handle: ExecHandle,
}

impl Execution {
    /// Both ends of an execution: what the caller gets, and what the backend works with.
    pub fn channel(request: &ExecRequest) -> (Self, ExecFeed) {
        let shared = Arc::new(Shared::new(request));
        let handle = ExecHandle {
            shared: Arc::clone(&shared),
        };
        (Self { handle }, ExecFeed::new(shared))
    }

    /// What others may follow and kill it by, without keeping it alive.
    pub fn handle(&self) -> ExecHandle {
        self.handle.clone()
    }

    /// Calls this once, at the end or now if that has been, also when nobody waits for it, and before anybody sees
    /// that end. It is to be quick, for it runs where the backend does.
    pub fn when_ended(&self, hook: impl FnOnce(&Result<ExecOutput>) + Send + 'static) {
        self.handle.shared.when_ended(Box::new(hook));
    }

    /// Waits until the program was started.
    ///
    /// # Errors
    /// If it was not.
    pub async fn started(&self) -> Result<()> {
        let shared = &self.handle.shared;
        shared
            .until(|life| !matches!(life, Life::Starting | Life::Ending))
            .await;
        shared.take_failure_to_start()
    }

    /// Waits for the end. Nothing that the program started outlives this call.
    ///
    /// # Errors
    /// If it could not be started, or its end was not seen. A program that fails, runs out of time or
    /// is killed is not an error.
    pub async fn wait(self) -> Result<ExecOutput> {
        let shared = &self.handle.shared;
        shared.until_ended().await;
        shared.take_result()
    }
}

impl Drop for Execution {
    fn drop(&mut self) {
        self.handle.shared.kill(KillReason::Dropped);
    }
}

/// A way to follow and to kill an execution. It does not keep it alive.
#[derive(Debug, Clone)]
pub struct ExecHandle {
    shared: Arc<Shared>,
}

impl ExecHandle {
    /// Asks for the end of the program and all that it started. One that has ended stays as it is.
    pub fn kill(&self) {
        self.shared.kill(KillReason::Asked);
    }

    /// Follows the output from its beginning.
    pub fn follow(&self) -> ExecFollower {
        self.follow_from(ExecCursor::default())
    }

    /// Follows the output from where somebody else stopped.
    pub fn follow_from(&self, cursor: ExecCursor) -> ExecFollower {
        ExecFollower::new(Arc::clone(&self.shared), cursor)
    }

    /// How much was written so far.
    pub fn written(&self) -> ExecCursor {
        self.shared.state().replay.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Ending, Error, ExecStatus};

    fn request(replay: usize) -> ExecRequest {
        ExecRequest::new(["x"]).with_replay_bytes(replay)
    }

    #[tokio::test]
    async fn a_follower_waits_for_what_comes_and_ends_with_it() {
        let (execution, feed) = Execution::channel(&request(1 << 10));
        let mut follower = execution.handle().follow();
        let writing = tokio::spawn(async move {
            feed.started();
            for word in ["a", "b"] {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                feed.push(OutputStream::Stderr, word.as_bytes());
            }
            feed.finish(Ok(ExecStatus::exited(3)));
        });
        let mut seen = Vec::new();
        while let Some(ExecEvent::Output { bytes, .. }) = follower.next().await {
            seen.extend(bytes);
        }
        assert_eq!(seen, b"ab");
        let output = execution.wait().await.unwrap();
        assert_eq!((output.exit_code, output.stderr.total_bytes), (Some(3), 2));
        writing.await.unwrap();
    }

    #[tokio::test]
    async fn a_backend_that_goes_away_is_an_error_and_not_a_hang() {
        let (execution, feed) = Execution::channel(&request(0));
        drop(feed);
        assert_eq!(execution.started().await.unwrap_err().code(), "supervisor_failed");
        let (execution, feed) = Execution::channel(&request(0));
        feed.started();
        execution.started().await.unwrap();
        drop(feed);
        assert_eq!(execution.wait().await.unwrap_err().code(), "supervisor_failed");
        let (execution, feed) = Execution::channel(&request(0));
        feed.finish(Err(Error::NoSupervisor));
        assert_eq!(execution.started().await.unwrap_err().code(), "no_supervisor");
    }

    /// Who is told of the end may look at the execution, ask to be told once more, and even panic.
    #[tokio::test]
    async fn who_is_told_of_the_end_may_do_anything() {
        let (execution, feed) = Execution::channel(&request(0));
        let (tell, told) = std::sync::mpsc::channel();
        let (handle, again) = (execution.handle(), tell.clone());
        execution.when_ended(|_| panic!("at the end"));
        execution.when_ended(move |ended| {
            let code = ended.as_ref().ok().and_then(|output| output.exit_code);
            tell.send((code, handle.written().stdout)).unwrap();
        });
        feed.started();
        feed.push(OutputStream::Stdout, b"abc");
        feed.finish(Ok(ExecStatus::exited(5)));
        assert_eq!(told.recv().unwrap(), (Some(5), 3));
        let handle = execution.handle();
        execution.when_ended(move |_| again.send((None, handle.written().stdout)).unwrap());
        assert_eq!(told.recv().unwrap(), (None, 3));
        assert_eq!(execution.wait().await.unwrap().exit_code, Some(5));
    }

    #[tokio::test]
    async fn the_first_reason_to_kill_is_the_one_that_counts() {
        let limits = crate::ExecLimits::default().with_max_output_bytes(10);
        let (execution, feed) = Execution::channel(&request(0).with_limits(limits));
        feed.started();
        feed.push(OutputStream::Stdout, &[b'x'; 10]);
        assert_eq!(feed.kill_reason(), None);
        feed.push(OutputStream::Stderr, b"x");
        assert_eq!(feed.killed().await, KillReason::OutputLimit);
        execution.handle().kill();
        assert_eq!(feed.kill_reason(), Some(KillReason::OutputLimit));
        feed.finish(Ok(ExecStatus::signaled(9)));
        assert_eq!(execution.wait().await.unwrap().ending, Ending::OutputLimit);
        let (execution, feed) = Execution::channel(&request(0));
        drop(execution);
        assert_eq!(feed.killed().await, KillReason::Dropped);
    }
}
