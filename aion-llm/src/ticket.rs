//! A request under way: what its caller holds, and where the engine writes to.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::error::{Error, Result};
use crate::request::{Completion, StreamEvent};

/// What a [`Ticket`] hears.
#[derive(Debug)]
pub enum Progress<T = Completion> {
    /// A step.
    Event(StreamEvent),
    /// The end. Nothing comes after it.
    Done(T),
    /// The end, badly. Nothing comes after it.
    Failed(Error),
}

/// A request that the engine works on. Dropping it cancels the request before the next pass of the model.
///
/// Events wait here until they are taken, at most one for each token and chunk of the request, so that a slow listener
/// slows nobody else. They can be awaited on any executor ([`Ticket::next`]) or waited for by a thread
/// ([`Ticket::recv`]).
///
/// ```
/// use aion_llm::testkit::TinyModel;
/// use aion_llm::{Engine, EngineOptions, GenerateRequest, Progress, Prompt};
/// let engine = Engine::load(&TinyModel::random(1).endless().source(), EngineOptions::default().with_threads(1))?;
/// let ask = |text: &str| GenerateRequest::new(Prompt::Text(text.into())).with_max_tokens(4);
/// // Both are made in the same passes over the weights.
/// let (mut river, mut inn) = (engine.start(&ask("the river"))?, engine.start(&ask("the inn"))?);
/// while let Some(progress) = river.recv() {
///     if let Progress::Done(completion) = progress {
///         assert_eq!(completion.tokens.len(), 4);
///     }
/// }
/// assert_eq!(inn.wait()?.tokens.len(), 4);
/// # Ok::<(), aion_llm::Error>(())
/// ```
pub struct Ticket<T = Completion>(Arc<Channel<T>>);

/// The engine's end of a [`Ticket`].
pub(crate) struct Outlet<T>(Arc<Channel<T>>);

struct Channel<T> {
    state: Mutex<State<T>>,
    ready: Condvar,
    cancelled: AtomicBool,
}

struct State<T> {
    waiting: VecDeque<Progress<T>>,
    waker: Option<Waker>,
    ended: bool,
}

/// A ticket and where its progress is written to.
pub(crate) fn channel<T>() -> (Outlet<T>, Ticket<T>) {
    let channel = Arc::new(Channel {
        state: Mutex::new(State {
            waiting: VecDeque::new(),
            waker: None,
            ended: false,
        }),
        ready: Condvar::new(),
        cancelled: AtomicBool::new(false),
    });
    (Outlet(Arc::clone(&channel)), Ticket(channel))
}

impl<T> Channel<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Ticket<T> {
    /// Waits for the next step; none after the last.
    pub fn recv(&mut self) -> Option<Progress<T>> {
        let mut state = self.0.lock();
        loop {
            if let Some(progress) = state.waiting.pop_front() {
                return Some(progress);
            }
            if state.ended {
                return None;
            }
            state = self.0.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The next step, or the promise to wake the task when there is one.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Progress<T>>> {
        let mut state = self.0.lock();
        match state.waiting.pop_front() {
            Some(progress) => Poll::Ready(Some(progress)),
            None if state.ended => Poll::Ready(None),
            None => {
                state.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Awaits the next step; none after the last.
    pub async fn next(&mut self) -> Option<Progress<T>> {
        std::future::poll_fn(|context| self.poll_next(context)).await
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// Why the request failed.
    pub fn wait(mut self) -> Result<T> {
        while let Some(progress) = self.recv() {
            match progress {
                Progress::Event(_) => {}
                Progress::Done(result) => return Ok(result),
                Progress::Failed(error) => return Err(error),
            }
        }
        Err(Error::Closed)
    }

    /// Awaits the end.
    ///
    /// # Errors
    /// Why the request failed.
    pub async fn finish(mut self) -> Result<T> {
        while let Some(progress) = self.next().await {
            match progress {
                Progress::Event(_) => {}
                Progress::Done(result) => return Ok(result),
                Progress::Failed(error) => return Err(error),
            }
        }
        Err(Error::Closed)
    }

    /// Asks the engine to stop. A completion then ends with what there is of it, as
    /// [`FinishReason::Cancelled`](crate::FinishReason::Cancelled); anything else fails with [`Error::Cancelled`].
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::Relaxed);
    }
}

impl<T> Drop for Ticket<T> {
    fn drop(&mut self) {
        self.cancel();
    }
}

impl<T> fmt::Debug for Ticket<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.lock();
        f.debug_struct("Ticket")
            .field("waiting", &state.waiting.len())
            .field("ended", &state.ended)
            .finish_non_exhaustive()
    }
}

impl<T> Outlet<T> {
    /// Whether the caller wants no more of it.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::Relaxed)
    }

    pub(crate) fn event(&self, event: StreamEvent) {
        self.send(Progress::Event(event));
    }

    /// Ends the request, unless it has ended.
    pub(crate) fn end(&self, result: Result<T>) {
        self.send(match result {
            Ok(result) => Progress::Done(result),
            Err(error) => Progress::Failed(error),
        });
    }

    fn send(&self, progress: Progress<T>) {
        let mut state = self.0.lock();
        if state.ended {
            return;
        }
        state.ended = !matches!(progress, Progress::Event(_));
        state.waiting.push_back(progress);
        let waker = state.waker.take();
        drop(state);
        self.0.ready.notify_one();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Drop for Outlet<T> {
    /// A request that nobody works on any more has failed.
    fn drop(&mut self) {
        self.end(Err(Error::Closed));
    }
}

impl<T> fmt::Debug for Outlet<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outlet").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Bell(AtomicUsize);

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn steps_come_in_order_and_end_once() {
        let (outlet, mut ticket) = channel::<u32>();
        outlet.event(StreamEvent::Tail("a".into()));
        outlet.end(Ok(7));
        outlet.end(Err(Error::Closed));
        outlet.event(StreamEvent::Tail("b".into()));
        assert!(matches!(ticket.recv(), Some(Progress::Event(StreamEvent::Tail(text))) if text == "a"));
        assert!(matches!(ticket.recv(), Some(Progress::Done(7))));
        assert!(ticket.recv().is_none());
    }

    #[test]
    fn a_task_is_woken_once_there_is_something() {
        let (outlet, mut ticket) = channel::<u32>();
        let bell = Arc::new(Bell::default());
        let waker = Waker::from(Arc::clone(&bell));
        let mut context = Context::from_waker(&waker);
        assert!(ticket.poll_next(&mut context).is_pending());
        outlet.end(Ok(1));
        assert_eq!(bell.0.load(Ordering::SeqCst), 1);
        assert!(matches!(
            ticket.poll_next(&mut context),
            Poll::Ready(Some(Progress::Done(1)))
        ));
        assert!(matches!(ticket.poll_next(&mut context), Poll::Ready(None)));
    }

    #[test]
    fn a_thread_waits_until_the_other_end_is_dropped() {
        let (outlet, ticket) = channel::<u32>();
        let waiting = std::thread::spawn(move || ticket.wait());
        drop(outlet);
        assert!(matches!(waiting.join().unwrap(), Err(Error::Closed)));
    }

    #[test]
    fn dropping_the_ticket_cancels() {
        let (outlet, ticket) = channel::<u32>();
        assert!(!outlet.is_cancelled());
        drop(ticket);
        assert!(outlet.is_cancelled());
    }
}
