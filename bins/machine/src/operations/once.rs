//! A change that happens once for its key.

use std::sync::Arc;

use aion_machine::Error;
use aion_service::Problem;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::recorded::as_part;
use crate::context::{Context, IdempotencyKey, Keyed, begin, settle};
use crate::problem::Refusal;
use crate::task::TaskState;

/// Carries a change out, once for its key.
///
/// With a key it goes on when the client goes away, so that the same request a moment later gets the answer. One that
/// the end of the server broke off is not begun again: nobody knows how far it came.
pub(super) async fn once<A: Serialize + DeserializeOwned + Send + 'static>(
    context: &Arc<Context>,
    (operation, key): (&'static str, &IdempotencyKey),
    task: &TaskState,
    body: &impl Serialize,
    change: impl Future<Output = Result<A, Error>> + Send + 'static,
) -> Result<A, Refusal> {
    let mut claim = match context.claim::<A>(key, operation, task, body)? {
        Keyed::Answered(answer) => return Ok(answer),
        Keyed::Run(None, _) => return Ok(change.await?),
        Keyed::Run(claim, None) => claim,
        Keyed::Run(_, Some(_)) | Keyed::Unknown => return Err(outcome_unknown().into()),
    };
    let keyed = async move {
        begin(&mut claim, None).await?;
        settle(claim, change.await.map_err(Refusal::from)).await
    };
    let done = tokio::spawn(as_part(keyed)).await;
    done.unwrap_or_else(|lost| Err(Problem::internal(lost).into()))
}

fn outcome_unknown() -> Problem {
    let detail =
        "this change was begun and what came of it was not seen; it is not made again under this key";
    Problem::conflict("outcome_unknown", detail)
}
