//! An execution as server-sent events.
//!
//! `stdout` and `stderr` have the offset and the bytes, `omitted` says what cannot be had any more, `ended` is
//! the last one. The id of each is the place after it, with which `Last-Event-ID` goes on.

use std::convert::Infallible;
use std::sync::Arc;

use aion_machine::wire::{Content, Omitted, Wrote};
use aion_machine::{ExecCursor, ExecEvent, ExecFollower};
use axum::response::sse::Event;
use futures::stream::{Stream, unfold};
use serde::Serialize;
use serde_json::json;
use tokio::sync::watch;

use super::{Done, Entry};

struct Reading {
    follower: ExecFollower,
    done: watch::Receiver<Option<Arc<Done>>>,
    ended: bool,
}

/// The events after a place.
pub(crate) fn stream(
    entry: &Entry,
    after: ExecCursor,
) -> impl Stream<Item = Result<Event, Infallible>> + use<> {
    let reading = Reading {
        follower: entry.handle.follow_from(after),
        done: entry.done.clone(),
        ended: false,
    };
    unfold(reading, |mut reading| async move {
        if reading.ended {
            return None;
        }
        let event = match reading.follower.next().await {
            Some(event) => output(event),
            None => {
                reading.ended = true;
                end(&mut reading.done).await?
            }
        };
        let id = reading.follower.cursor().to_string();
        Some((Ok(event.id(id)), reading))
    })
}

fn output(event: ExecEvent) -> Event {
    match event {
        ExecEvent::Output {
            stream,
            offset,
            bytes,
        } => {
            let content = Content::of(&bytes);
            named(stream.name(), &Wrote { offset, content })
        }
        ExecEvent::Omitted {
            stream,
            offset,
            bytes,
        } => named(
            "omitted",
            &Omitted {
                stream,
                offset,
                bytes,
            },
        ),
    }
}

/// None if the server is going down.
async fn end(done: &mut watch::Receiver<Option<Arc<Done>>>) -> Option<Event> {
    let done = done.wait_for(Option::is_some).await.ok()?.clone()?;
    Some(match done.as_ref() {
        Ok(ended) => named("ended", &json!({"result": ended})),
        Err(refusal) => named("ended", &json!({"problem": refusal})),
    })
}

/// Text made by serde_json has no line breaks, so that it is one `data` field.
fn named(name: &str, data: &impl Serialize) -> Event {
    Event::default()
        .event(name)
        .data(serde_json::to_string(data).unwrap_or_default())
}
