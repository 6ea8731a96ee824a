//! Hints that something was committed, as a stream.

use std::convert::Infallible;
use std::time::Duration;

use aion_processor::{Error, Processor, Wake};
use aion_service::Query as Parameters;
use aion_types::Status;
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::stream::{self, Stream, StreamExt};
use serde::Deserialize;
use utoipa::IntoParams;

use super::at_most;
use super::problem::StoreProblem;
use super::schemas::StoreHint;
use crate::events::last_seq;

/// How far the listener has seen the log.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Since {
    /// The last event that the listener knows of; if there are later ones, the first hint comes at once.
    #[serde(default)]
    #[param(maximum = 9_223_372_036_854_775_807_i64)]
    after: u64,
}

/// Streams hints that something was committed, as server-sent events. Some may be lost: look now and then as well.
#[utoipa::path(
    get,
    path = "/v1/store/wake",
    operation_id = "store_wake",
    tag = "store",
    params(Since),
    responses(
        (status = 200, description = "Hints", body = StoreHint, content_type = "text/event-stream"),
        (status = 400, description = "The parameter is no number", body = StoreProblem, content_type = "application/problem+json"),
        (status = 422, description = "No event can have this number", body = StoreProblem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn store_wake(
    State(processor): State<Processor>,
    Parameters(since): Parameters<Since>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, StoreProblem> {
    at_most("after", since.after, i64::MAX.unsigned_abs())?;
    // Subscribed first, so that nothing falls between what there is and what comes.
    let coming = processor.wake();
    let there = there(&processor).await?;
    let first = stream::iter((there.last_seq > since.after).then_some(there));
    let stream = first.chain(coming).map(|wake| Ok(event(wake)));
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(Duration::from_secs(15))))
}

/// The end of the log, and the tasks that are ready.
async fn there(processor: &Processor) -> Result<Wake, Error> {
    let last_seq = last_seq(processor).await?;
    let ready = processor.counts().await?.of(Status::Ready);
    Ok(Wake {
        last_seq,
        ready: u32::try_from(ready).unwrap_or(u32::MAX),
    })
}

fn event(wake: Wake) -> Event {
    // Text made by serde_json has no line breaks, so that it is one `data` field.
    Event::default().data(serde_json::to_string(&wake).unwrap_or_default())
}
