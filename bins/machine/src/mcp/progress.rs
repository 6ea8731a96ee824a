//! Telling a caller that its call still runs.

use std::convert::Infallible;
use std::time::Duration;

use rmcp::model::ProgressNotificationParam;
use rmcp::service::{RequestContext, RoleServer};

/// How often a caller hears of a call that still runs.
const EVERY: Duration = Duration::from_secs(1);

/// Says every second how long the call has taken, if the caller asked for it; never ends.
pub(crate) async fn keep_telling(context: &RequestContext<RoleServer>) -> Infallible {
    let Some(token) = context.meta.get_progress_token() else {
        return std::future::pending().await;
    };
    let mut seconds = 0.0;
    loop {
        tokio::time::sleep(EVERY).await;
        seconds += EVERY.as_secs_f64();
        let running = ProgressNotificationParam::new(token.clone(), seconds)
            .with_message(format!("running for {seconds} s"));
        // Whoever does not listen any more cancels the call or loses its answer; neither is decided here.
        if context.peer.notify_progress(running).await.is_err() {
            return std::future::pending().await;
        }
    }
}
