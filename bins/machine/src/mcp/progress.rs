//! Telling a caller that its call still runs, and what its program writes.

use std::convert::Infallible;
use std::time::Duration;

use aion_machine::{ExecEvent, ExecFollower, ExecHandle, Execution};
use rmcp::model::{ProgressNotificationParam, ProgressToken};
use rmcp::service::{RequestContext, RoleServer};
use tokio::sync::watch;
use tokio::time::Instant;

/// How often a caller hears of a call that still runs and says nothing.
const EVERY: Duration = Duration::from_secs(1);
/// How long there is between two messages at least.
const PAUSE: Duration = Duration::from_millis(50);
/// How much of an output one message has, in characters.
const MAX_SHOWN: usize = 4000;
/// How much of an output is kept for a caller that is slow, in bytes.
pub(crate) const REPLAY_BYTES: usize = 256 << 10;

/// Where a handler says what it executes, for the caller to hear of it.
#[derive(Debug, Clone)]
pub(crate) struct Watched(watch::Sender<Option<ExecHandle>>);

impl Watched {
    pub(super) fn new() -> (Self, watch::Receiver<Option<ExecHandle>>) {
        let (sender, receiver) = watch::channel(None);
        (Self(sender), receiver)
    }

    pub(crate) fn runs(&self, execution: &Execution) {
        self.0.send_replace(Some(execution.handle()));
    }
}

/// Tells the caller, if it asked for it; never ends.
pub(super) async fn keep_telling(
    context: &RequestContext<RoleServer>,
    mut running: watch::Receiver<Option<ExecHandle>>,
) -> Infallible {
    let Some(token) = context.meta.get_progress_token() else {
        return std::future::pending().await;
    };
    let begun = Instant::now();
    let mut follower = None;
    loop {
        let words = tokio::select! {
            () = tokio::time::sleep(EVERY) => format!("running for {} s", begun.elapsed().as_secs()),
            words = next_words(&mut running, &mut follower) => words,
        };
        // Whoever does not listen any more cancels the call or loses its answer; neither is decided here.
        if tell(context, &token, begun, words).await.is_err() {
            return std::future::pending().await;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn tell(
    context: &RequestContext<RoleServer>,
    token: &ProgressToken,
    begun: Instant,
    words: String,
) -> Result<(), rmcp::ServiceError> {
    let seconds = begun.elapsed().as_secs_f64();
    let told = ProgressNotificationParam::new(token.clone(), seconds).with_message(words);
    context.peer.notify_progress(told).await
}

/// What the program wrote next; never comes if it does not write any more. Dropping the future loses nothing.
async fn next_words(
    running: &mut watch::Receiver<Option<ExecHandle>>,
    follower: &mut Option<ExecFollower>,
) -> String {
    if follower.is_none() {
        let handle = running.wait_for(Option::is_some).await;
        *follower = handle.ok().and_then(|handle| Some(handle.as_ref()?.follow()));
    }
    let event = match follower {
        Some(follower) => follower.next().await,
        None => None,
    };
    match event {
        Some(ExecEvent::Output { bytes, .. }) => {
            let text = String::from_utf8_lossy(&bytes);
            text.chars().take(MAX_SHOWN).collect()
        }
        Some(ExecEvent::Omitted { bytes, .. }) => format!("[... {bytes} bytes omitted ...]"),
        None => std::future::pending().await,
    }
}
