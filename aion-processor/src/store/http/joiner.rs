//! Several callers, one request: what is asked while requests are on their way goes together in the
//! next one.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;

use super::calls::{Calls, Failed, Fate};
use super::mend::Mend;
use crate::wire::{Outcomes, unavailable};
use crate::{Error, Result};

/// Bytes that may wait; more is refused.
const MAX_WAITING_BYTES: usize = 64 << 20;
/// How long whoever finds the line full should wait.
const FULL_WAIT_MS: u64 = 50;

/// What the items of one caller gave.
type Answers<T> = Result<Vec<Result<T>>>;

/// What one caller asks for.
#[derive(Debug)]
struct Part<T> {
    /// Items of a JSON list, with commas between them.
    json: Vec<u8>,
    items: usize,
    /// Whether it may be sent again if nobody knows whether it took effect.
    repeatable: bool,
    reply: oneshot::Sender<Answers<T>>,
}

/// What waits, and how many requests are on their way.
#[derive(Debug)]
struct Line<T> {
    parts: VecDeque<Part<T>>,
    bytes: usize,
    flights: usize,
}

impl<T> Line<T> {
    /// Takes the parts that go together: the first, and what fits beside it. A part that nobody waits
    /// for any more is left out.
    fn load(&mut self, max_items: usize, max_bytes: usize) -> Vec<Part<T>> {
        let (mut load, mut items, mut bytes) = (Vec::new(), 0, 0);
        while let Some(part) = self.parts.front() {
            let (more_items, more_bytes) = (items + part.items, bytes + part.json.len());
            let abandoned = part.reply.is_closed();
            if !abandoned && !load.is_empty() && (more_items > max_items || more_bytes > max_bytes) {
                break;
            }
            let Some(part) = self.parts.pop_front() else { break };
            self.bytes -= part.json.len();
            if !abandoned {
                (items, bytes) = (more_items, more_bytes);
                load.push(part);
            }
        }
        load
    }
}

/// A path that takes a list and answers with a list.
pub(super) struct Joiner<T> {
    calls: Arc<Calls>,
    path: &'static str,
    member: &'static str,
    line: Mutex<Line<T>>,
}

impl<T> std::fmt::Debug for Joiner<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Joiner")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl<T: DeserializeOwned + Mend + Send + 'static> Joiner<T> {
    /// The list is sent to `path` as `member`.
    pub(super) fn new(calls: Arc<Calls>, path: &'static str, member: &'static str) -> Arc<Self> {
        let line = Line {
            parts: VecDeque::new(),
            bytes: 0,
            flights: 0,
        };
        Arc::new(Self {
            calls,
            path,
            member,
            line: Mutex::new(line),
        })
    }

    /// Sends so many items, which are `json` with commas between them, together with those of others. Whoever gives up
    /// before they are sent takes them back.
    pub(super) async fn ask(self: &Arc<Self>, json: Vec<u8>, items: usize, repeat: Repeat) -> Answers<T> {
        let (reply, answers) = oneshot::channel();
        let part = Part {
            json,
            items,
            repeatable: repeat == Repeat::Harmless,
            reply,
        };
        if let Some(flight) = self.join(part)? {
            tokio::spawn(flight.fly());
        }
        answers
            .await
            .unwrap_or_else(|_| Err(unavailable("the request was cut off".to_owned())))
    }

    /// Stands in line; gives a flight if another may start.
    fn join(self: &Arc<Self>, part: Part<T>) -> Result<Option<Flight<T>>> {
        let mut line = self.line();
        if line.bytes + part.json.len() > MAX_WAITING_BYTES && !line.parts.is_empty() {
            return Err(Error::Busy {
                retry_after_ms: FULL_WAIT_MS,
            });
        }
        line.bytes += part.json.len();
        line.parts.push_back(part);
        if line.flights >= self.calls.options().in_flight {
            return Ok(None);
        }
        line.flights += 1;
        Ok(Some(Flight {
            joiner: Arc::clone(self),
            landed: Landed::No,
        }))
    }

    fn line(&self) -> MutexGuard<'_, Line<T>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn body(&self, load: &[Part<T>]) -> Bytes {
        let bytes: usize = load.iter().map(|part| part.json.len() + 1).sum();
        let mut body = Vec::with_capacity(bytes + self.member.len() + 8);
        body.extend_from_slice(b"{\"");
        body.extend_from_slice(self.member.as_bytes());
        body.extend_from_slice(b"\":[");
        for (at, part) in load.iter().enumerate() {
            if at > 0 {
                body.push(b',');
            }
            body.extend_from_slice(&part.json);
        }
        body.extend_from_slice(b"]}");
        body.into()
    }

    /// Sends until every part has its answer. What is refused for its contents is sent part by part,
    /// so that nobody answers for another; what may have taken effect goes again only where that is
    /// harmless.
    async fn deliver(&self, load: Vec<Part<T>>) {
        let mut loads = vec![(load, 0)];
        while let Some((load, tries)) = loads.pop() {
            let failed = match self.send(&load).await {
                Ok(results) => {
                    hand_out(load, results);
                    continue;
                }
                Err(failed) => failed,
            };
            if failed.fate == Fate::Body && load.len() > 1 {
                loads.extend(load.into_iter().rev().map(|part| (vec![part], tries)));
                continue;
            }
            let Some(wait) = self.calls.wait(&failed, tries) else {
                fail(load, &failed.error);
                continue;
            };
            let (again, over): (Vec<_>, Vec<_>) = load
                .into_iter()
                .partition(|part| failed.fate != Fate::Unknown || part.repeatable);
            fail(over, &failed.error);
            if !again.is_empty() {
                tokio::time::sleep(wait).await;
                loads.push((again, tries + 1));
            }
        }
    }

    async fn send(&self, load: &[Part<T>]) -> Result<Vec<Result<T>>, Failed> {
        let answer = self.calls.post(self.path, self.body(load)).await?;
        let outcomes: Outcomes<T> = self.calls.read(&answer)?;
        let items: usize = load.iter().map(|part| part.items).sum();
        if outcomes.results.len() != items {
            let got = outcomes.results.len();
            return Err(Failed {
                error: unavailable(format!("the server gave {got} results for {items} items")),
                fate: Fate::Unknown,
            });
        }
        let mended = outcomes.results.into_iter().map(|outcome| {
            outcome.into_result().map(|mut answer| {
                answer.mend();
                answer
            })
        });
        Ok(mended.collect())
    }
}

/// Whether a request may be sent again if nobody knows whether it took effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// Doing it twice is as doing it once.
    Harmless,
    /// Doing it twice is something else.
    Never,
}

/// Sends what waits until nothing does.
struct Flight<T> {
    joiner: Arc<Joiner<T>>,
    landed: Landed,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Landed {
    No,
    Yes,
}

impl<T: DeserializeOwned + Mend + Send + 'static> Flight<T> {
    async fn fly(mut self) {
        loop {
            // Whoever was woken by the last answers comes along.
            tokio::task::yield_now().await;
            let Some(load) = self.next_load() else { return };
            self.joiner.deliver(load).await;
        }
    }

    /// The next parts. Without any it lands in the same moment, so that nobody counts on it any more.
    fn next_load(&mut self) -> Option<Vec<Part<T>>> {
        let options = self.joiner.calls.options();
        let mut line = self.joiner.line();
        let load = line.load(options.max_items, options.max_bytes);
        if load.is_empty() {
            line.flights -= 1;
            self.landed = Landed::Yes;
            return None;
        }
        Some(load)
    }
}

impl<T> Drop for Flight<T> {
    /// A flight that ends with its runtime leaves nobody waiting for it.
    fn drop(&mut self) {
        if self.landed == Landed::Yes {
            return;
        }
        let mut line = self.joiner.line.lock().unwrap_or_else(PoisonError::into_inner);
        line.flights -= 1;
        if line.flights == 0 {
            line.parts.clear();
            line.bytes = 0;
        }
    }
}

/// Gives every part its own results, in order.
fn hand_out<T>(load: Vec<Part<T>>, results: Vec<Result<T>>) {
    let mut results = results.into_iter();
    for part in load {
        // Whoever has gone away does not mind.
        let _ = part.reply.send(Ok(results.by_ref().take(part.items).collect()));
    }
}

fn fail<T>(load: Vec<Part<T>>, error: &Error) {
    for part in load {
        let _ = part.reply.send(Err(error.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Waiting = oneshot::Receiver<Answers<()>>;

    fn line(sizes: &[(usize, usize)]) -> (Line<()>, Vec<Waiting>) {
        let mut line = Line {
            parts: VecDeque::new(),
            bytes: 0,
            flights: 0,
        };
        let mut waiting = Vec::new();
        for (items, bytes) in sizes {
            let (reply, answers) = oneshot::channel();
            line.bytes += bytes;
            line.parts.push_back(Part {
                json: vec![b' '; *bytes],
                items: *items,
                repeatable: true,
                reply,
            });
            waiting.push(answers);
        }
        (line, waiting)
    }

    fn items(load: &[Part<()>]) -> Vec<usize> {
        load.iter().map(|part| part.items).collect()
    }

    #[test]
    fn parts_go_together_as_far_as_they_fit() {
        let (mut line, _waiting) = line(&[(2, 10), (3, 10), (4, 10), (900, 10), (1, 500), (1, 10)]);
        let loads: Vec<_> = std::iter::repeat_with(|| items(&line.load(8, 100)))
            .take_while(|load| !load.is_empty())
            .collect();
        assert_eq!(loads, [vec![2, 3], vec![4], vec![900], vec![1], vec![1]]);
        assert_eq!(line.bytes, 0);
    }

    #[test]
    fn whoever_has_gone_is_left_out() {
        let (mut line, mut waiting) = line(&[(1, 10), (2, 10), (3, 10)]);
        drop(waiting.remove(0));
        drop(waiting.remove(1));
        assert_eq!(items(&line.load(100, 100)), [2]);
        assert_eq!((line.parts.len(), line.bytes), (0, 0));
    }
}
