//! Changes below a directory as they happen: a bounded stream that says when it lost something.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::RelPath;

/// Most events that wait to be read.
pub const MAX_WATCH_EVENTS: usize = 65_536;

/// What to watch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct WatchRequest {
    /// The directory to watch, with all below it. `.git` is left out.
    pub path: RelPath,
    /// How many events may wait to be read, 1 to [`MAX_WATCH_EVENTS`].
    pub max_events: usize,
}

impl WatchRequest {
    /// Watches this directory.
    pub fn new(path: RelPath) -> Self {
        Self {
            path,
            max_events: 4096,
        }
    }

    /// Lets this many events wait.
    #[must_use]
    pub fn with_max_events(mut self, max_events: usize) -> Self {
        self.max_events = max_events;
        self
    }
}

/// Something happened.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum WatchEvent {
    /// There is something new at this path, or it has another content.
    Changed {
        /// Where, from the workspace root.
        path: RelPath,
    },
    /// What was at this path, with all below it, is no longer there.
    Removed {
        /// Where, from the workspace root.
        path: RelPath,
    },
    /// Events were lost, because there were too many or because not all directories can be watched:
    /// what is known of the tree is to be looked at again.
    Lost,
}

/// The receiving end. Dropping it ends the watch.
///
/// An event that repeats one that still waits to be read may be left out.
#[derive(Debug)]
pub struct Watch {
    shared: Arc<Shared>,
}

/// The sending end, for backends. Dropping it ends the stream.
#[derive(Debug)]
pub struct WatchSender {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    max_events: usize,
    filled: Notify,
    left: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    events: VecDeque<WatchEvent>,
    /// One end is gone.
    closed: bool,
    on_close: Option<OnClose>,
}

impl Queue {
    /// Whether the newest events say this already: bursts repeat what just happened. A removal ends
    /// the search, since what comes after it is news.
    fn repeats(&self, event: &WatchEvent) -> bool {
        let newest = self.events.iter().rev();
        let mut changed = newest
            .take_while(|e| matches!(e, WatchEvent::Changed { .. }))
            .take(64);
        self.events.back() == Some(event) || changed.any(|waiting| waiting == event)
    }
}

/// What the backend holds as long as somebody listens.
struct OnClose(#[allow(dead_code)] Box<dyn Send>); // only ever dropped

impl std::fmt::Debug for OnClose {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OnClose")
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch {
    /// Both ends of a watch; at most `max_events` wait in it.
    ///
    /// ```
    /// use aion_machine::{RelPath, Watch, WatchEvent};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), aion_machine::PathError> {
    /// let (sender, mut watch) = Watch::channel(2);
    /// let changed = |path| Ok::<_, aion_machine::PathError>(WatchEvent::Changed { path: RelPath::parse(path)? });
    /// for path in ["a", "a", "b", "c"] {
    ///     sender.send(changed(path)?);
    /// }
    /// assert_eq!(watch.next().await, Some(WatchEvent::Lost), "three do not fit into two");
    /// sender.send(changed("d")?);
    /// drop(sender);
    /// assert_eq!(watch.next().await, Some(changed("d")?));
    /// assert_eq!(watch.next().await, None);
    /// # Ok(())
    /// # }
    /// ```
    pub fn channel(max_events: usize) -> (WatchSender, Self) {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            max_events: max_events.clamp(1, MAX_WATCH_EVENTS),
            filled: Notify::new(),
            left: Notify::new(),
        });
        let sender = WatchSender {
            shared: Arc::clone(&shared),
        };
        (sender, Self { shared })
    }

    /// The next event; `None` when the backend ended the watch. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<WatchEvent> {
        loop {
            let filled = self.shared.filled.notified();
            {
                let mut queue = self.shared.queue();
                if let Some(event) = queue.events.pop_front() {
                    return Some(event);
                }
                if queue.closed {
                    return None;
                }
            }
            filled.await;
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let guard = {
            let mut queue = self.shared.queue();
            queue.closed = true;
            queue.events.clear();
            queue.on_close.take()
        };
        drop(guard);
        self.shared.left.notify_one();
    }
}

impl WatchSender {
    /// Hands an event over without waiting; if too many wait already, they become one [`WatchEvent::Lost`].
    pub fn send(&self, event: WatchEvent) {
        let mut queue = self.shared.queue();
        if queue.closed || queue.repeats(&event) {
            return;
        }
        if queue.events.len() == self.shared.max_events {
            queue.events.clear();
            queue.events.push_back(WatchEvent::Lost);
        } else {
            queue.events.push_back(event);
        }
        drop(queue);
        self.shared.filled.notify_one();
    }

    /// Whether nobody listens any more.
    pub fn is_closed(&self) -> bool {
        self.shared.queue().closed
    }

    /// Waits until nobody listens any more.
    pub async fn closed(&self) {
        loop {
            let left = self.shared.left.notified();
            if self.is_closed() {
                return;
            }
            left.await;
        }
    }

    /// Drops this when nobody listens any more: the way to wake a thread that waits on a descriptor.
    pub fn drop_when_closed(&self, guard: impl Send + 'static) {
        let mut queue = self.shared.queue();
        if !queue.closed {
            queue.on_close = Some(OnClose(Box::new(guard)));
        }
    }
}

impl Drop for WatchSender {
    fn drop(&mut self) {
        self.shared.queue().closed = true;
        self.shared.filled.notify_one();
    }
}
