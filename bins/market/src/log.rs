//! What happened to markets: of one by page, of all by page and as a stream.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use aion_market::{Logged, Market};
use aion_service::{Json, Path, Problem, Query};
use aion_types::MarketId;
use axum::extract::State;
use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use futures::Stream;
use http::HeaderMap;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::markets::page;
use crate::problem::{in_body, in_store};
use crate::wire::log::{
    EventType, ListHistory, ListLog, LogPage, LoggedEvent, MarketEvent, MarketEvents, StreamLog,
};

/// How often a stream looks at the log even if nobody told it to: somebody else may write to the store.
const POLL: Duration = Duration::from_secs(1);
/// Events that are read at once.
const PAGE: usize = 200;
/// Events that one page looks at in search of those of a type.
const MAX_SCANNED: usize = 10_000;
/// Streams at once.
const MAX_STREAMS: usize = 256;

/// Whoever waits for something new in the log.
#[derive(Debug, Clone)]
pub(crate) struct Streams {
    news: Arc<Notify>,
    places: Arc<Semaphore>,
}

impl Streams {
    pub(crate) fn new() -> Self {
        Self {
            news: Arc::default(),
            places: Arc::new(Semaphore::new(MAX_STREAMS)),
        }
    }

    /// Something was written.
    pub(crate) fn tell(&self) {
        self.news.notify_waiters();
    }
}

/// Lists what happened to a market, oldest first.
#[utoipa::path(
    get,
    path = "/v1/markets/{market_id}/events",
    operation_id = "list_market_events",
    tag = "events",
    params(("market_id" = String, Path, description = "The market", format = "uuid"), ListHistory),
    responses(
        (status = 200, description = "A page of its history", body = MarketEvents),
        (status = 404, description = "There is no such market", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The limit or the place is not valid", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn list_market_events(
    State(market): State<Market>,
    Path(id): Path<MarketId>,
    Query(list): Query<ListHistory>,
) -> Result<Json<MarketEvents>, Problem> {
    let limit = page(list.limit)?;
    check_place(list.after)?;
    market.get(id).await.map_err(in_body)?;
    let found = market
        .store()
        .events(id, list.after, limit)
        .await
        .map_err(in_store)?;
    let next = found.last().map_or(list.after, |stored| stored.seq);
    let events = found.into_iter().map(MarketEvent::from).collect();
    Ok(Json(MarketEvents { events, next }))
}

/// Lists what happened to all markets, in the order in which it took effect; whoever reads on from
/// `next` misses nothing.
#[utoipa::path(
    get,
    path = "/v1/events",
    operation_id = "list_all_market_events",
    tag = "events",
    params(ListLog),
    responses(
        (status = 200, description = "A page of the log; with `type` it may be empty before the end", body = LogPage),
        (status = 422, description = "The limit or the place is not valid", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn list_all_market_events(
    State(market): State<Market>,
    Query(list): Query<ListLog>,
) -> Result<Json<LogPage>, Problem> {
    let limit = page(list.limit)?;
    check_place(list.after)?;
    let (mut next, mut scanned, mut events) = (list.after, 0, Vec::new());
    while scanned < MAX_SCANNED {
        let found = market.store().log(next, PAGE).await.map_err(in_store)?;
        let last = found.len() < PAGE;
        scanned += found.len();
        for logged in found {
            next = logged.place;
            events.extend(wanted(list.kind, logged));
            if events.len() == limit {
                return Ok(Json(LogPage { events, next }));
            }
        }
        if last {
            break;
        }
    }
    Ok(Json(LogPage { events, next }))
}

/// Places are signed numbers of 64 bits in every store.
fn check_place(after: u64) -> Result<(), Problem> {
    if i64::try_from(after).is_ok() {
        return Ok(());
    }
    Err(Problem::unprocessable("invalid", "after is beyond any place").at("query:after"))
}

fn wanted(kind: Option<EventType>, logged: Logged) -> Option<LoggedEvent> {
    let fits = kind.is_none_or(|kind| EventType::from(&logged.stored.event) == kind);
    fits.then(|| logged.into())
}

/// Streams what happens to markets as server-sent events; `Last-Event-ID` goes on where a stream broke off.
#[utoipa::path(
    get,
    path = "/v1/stream",
    operation_id = "stream_market_events",
    tag = "events",
    params(StreamLog, ("last-event-id" = Option<String>, Header, description = "The `place` of the last event seen")),
    responses(
        (status = 200, description = "Events, each with its `place` as id", body = String, content_type = "text/event-stream"),
        (status = 400, description = "Last-Event-ID is no place of an event", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The place is not valid", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "Too many streams", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn stream_market_events(
    State(market): State<Market>,
    State(streams): State<Streams>,
    headers: HeaderMap,
    Query(list): Query<StreamLog>,
) -> Result<Sse<impl Stream<Item = Result<SseEvent, Infallible>>>, Problem> {
    check_place(list.after)?;
    let after = last_event_id(&headers)?.unwrap_or(list.after);
    let place = Arc::clone(&streams.places).try_acquire_owned();
    let place =
        place.map_err(|_| Problem::too_many("too_many_streams", "256 streams are open already", 5))?;
    let tail = Tail {
        market,
        news: streams.news,
        kind: list.kind,
        after,
        found: VecDeque::new(),
        _place: place,
    };
    let stream = futures::stream::unfold(tail, |mut tail| async move {
        let event = tail.next().await?;
        Some((Ok(sse(&event)), tail))
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(Duration::from_secs(15))))
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(value) = headers.get("last-event-id") else {
        return Ok(None);
    };
    let place = value.to_str().ok().and_then(|text| text.parse().ok());
    let place = place.filter(|place| i64::try_from(*place).is_ok());
    place.map(Some).ok_or_else(|| {
        Problem::bad_request("invalid_header", "Last-Event-ID is no place of an event")
            .at("header:last-event-id")
    })
}

/// A reader that waits at the end of the log.
struct Tail {
    market: Market,
    news: Arc<Notify>,
    kind: Option<EventType>,
    after: u64,
    found: VecDeque<Logged>,
    _place: OwnedSemaphorePermit,
}

impl Tail {
    /// The next event; none when the store is gone.
    async fn next(&mut self) -> Option<LoggedEvent> {
        loop {
            while let Some(logged) = self.found.pop_front() {
                self.after = logged.place;
                if let Some(event) = wanted(self.kind, logged) {
                    return Some(event);
                }
            }
            let news = Arc::clone(&self.news);
            let told = news.notified();
            match self.market.store().log(self.after, PAGE).await {
                Ok(found) => self.found.extend(found),
                Err(error) => {
                    tracing::warn!(%error, "a stream of events ends");
                    return None;
                }
            }
            if self.found.is_empty() {
                // Being told too early costs a wait of POLL at most.
                let _ = tokio::time::timeout(POLL, told).await;
            }
        }
    }
}

fn sse(event: &LoggedEvent) -> SseEvent {
    let head = SseEvent::default()
        .id(event.place.to_string())
        .event(event.kind.as_str());
    // Text made by serde_json has no line breaks, so that it is one `data` field.
    head.data(serde_json::to_string(event).unwrap_or_default())
}
