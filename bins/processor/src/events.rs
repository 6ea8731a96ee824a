//! The log: by page, and as a stream.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use aion_processor::{EventQuery, Page, Processor, Query as StoreQuery, Wake};
use aion_service::{Json, Problem, Query};
use aion_types::EventRecord;
use axum::extract::State;
use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use futures::StreamExt;
use futures::stream::{BoxStream, Stream};
use http::HeaderMap;

use crate::problem::in_query;
use crate::tasks::at_least_one;
use crate::wire::{Event, EventList, ListEvents, StreamEvents, StreamedEvent};

/// How often a stream looks at the log even if nobody told it to.
const POLL: Duration = Duration::from_secs(2);
/// Events that a stream reads at once.
const PAGE: u32 = 100;

/// Lists what happened to tasks, in the order in which it took effect.
#[utoipa::path(
    get,
    path = "/v1/events",
    operation_id = "list_events",
    tag = "events",
    params(ListEvents),
    responses(
        (status = 200, description = "A page of the log", body = EventList),
        (status = 422, description = "The limit is not valid, or `after` is behind the end of the log", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn list_events(
    State(processor): State<Processor>,
    Query(list): Query<ListEvents>,
) -> Result<Json<EventList>, Problem> {
    let query = EventQuery {
        after: list.after,
        task: list.task_id,
        limit: at_least_one(list.limit)?,
    };
    let page = processor.events_of(query).await.map_err(in_query)?;
    if page.events.is_empty() {
        is_in_log(&processor, list.after, "query:after").await?;
    }
    let events = page.events.into_iter().map(Into::into).collect();
    Ok(Json(EventList {
        events,
        next: page.next,
    }))
}

/// Streams what happens to tasks as server-sent events; `Last-Event-ID` goes on where a stream broke off.
#[utoipa::path(
    get,
    path = "/v1/events/stream",
    operation_id = "stream_events",
    tag = "events",
    params(StreamEvents, ("last-event-id" = Option<String>, Header, description = "The `seq` of the last event seen")),
    responses(
        (status = 200, description = "Events, each with its `seq` as id", body = StreamedEvent, content_type = "text/event-stream"),
        (status = 400, description = "Last-Event-ID is no number", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The log does not go that far: it is another one, or an older copy", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn stream_events(
    State(processor): State<Processor>,
    headers: HeaderMap,
    Query(wanted): Query<StreamEvents>,
) -> Result<Sse<impl Stream<Item = Result<SseEvent, Infallible>>>, Problem> {
    let (after, place) = match last_event_id(&headers)? {
        Some(seq) => (seq, "header:last-event-id"),
        None => (wanted.after, "query:after"),
    };
    is_in_log(&processor, after, place).await?;
    let query = EventQuery {
        after,
        task: wanted.task_id,
        limit: PAGE,
    };
    let tail = Tail {
        hints: processor.wake(),
        processor,
        query,
        found: VecDeque::new(),
    };
    let stream = futures::stream::unfold(tail, |mut tail| async move {
        let event = tail.next().await?;
        Some((Ok(sse(event)), tail))
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(Duration::from_secs(15))))
}

/// Refuses to go on from where the log has not come yet: what lies between would never be told.
async fn is_in_log(processor: &Processor, after: u64, place: &str) -> Result<(), Problem> {
    if after == 0 {
        return Ok(());
    }
    let last = last_seq(processor).await.map_err(in_query)?;
    if after <= last {
        return Ok(());
    }
    let detail = format!("the log ends at {last}, before {after}");
    Err(Problem::unprocessable("cursor_ahead", detail).at(place))
}

/// The end of the log.
pub(crate) async fn last_seq(processor: &Processor) -> aion_processor::Result<u64> {
    Ok(match processor.store().read(StoreQuery::Metrics).await? {
        Page::Metrics(metrics) => metrics.last_seq,
        _ => 0,
    })
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(value) = headers.get("last-event-id") else {
        return Ok(None);
    };
    let seq = value.to_str().ok().and_then(|text| text.parse().ok());
    seq.map(Some).ok_or_else(|| {
        Problem::bad_request("invalid_header", "Last-Event-ID is no number").at("header:last-event-id")
    })
}

/// A reader that waits at the end of the log.
struct Tail {
    processor: Processor,
    hints: BoxStream<'static, Wake>,
    query: EventQuery,
    found: VecDeque<EventRecord>,
}

impl Tail {
    /// The next event; none when the store is gone.
    async fn next(&mut self) -> Option<EventRecord> {
        loop {
            if let Some(event) = self.found.pop_front() {
                return Some(event);
            }
            match self.processor.events_of(self.query).await {
                Ok(page) => {
                    self.query.after = page.next;
                    self.found.extend(page.events);
                }
                Err(error) => {
                    tracing::warn!(%error, "a stream of events ends");
                    return None;
                }
            }
            if self.found.is_empty() {
                // A missed hint costs a wait of POLL at most.
                let _ = tokio::time::timeout(POLL, self.hints.next()).await;
            }
        }
    }
}

fn sse(record: EventRecord) -> SseEvent {
    let (seq, kind) = (record.seq, record.kind);
    let event = SseEvent::default().id(seq.to_string()).event(kind.as_str());
    // Text made by serde_json has no line breaks, so that it is one `data` field.
    event.data(serde_json::to_string(&Event::from(record)).unwrap_or_default())
}
