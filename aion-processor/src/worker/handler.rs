//! A function of the user's as the pool calls it: JSON in, JSON out.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use aion_types::Json;
use futures::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Ctx, Failure};

type Call = dyn Fn(Ctx) -> BoxFuture<'static, Result<Json, Failure>> + Send + Sync;

/// What is done with the tasks of a kind.
#[derive(Clone)]
pub(super) struct Handler(Arc<Call>);

impl fmt::Debug for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handler")
    }
}

impl Handler {
    pub(super) fn new<P, R, F, T>(function: F) -> Self
    where
        P: DeserializeOwned + Send + 'static,
        R: Serialize,
        F: Fn(Ctx, P) -> T + Send + Sync + 'static,
        T: Future<Output = Result<R, Failure>> + Send + 'static,
    {
        let function = Arc::new(function);
        Self(Arc::new(move |ctx| {
            let function = function.clone();
            Box::pin(async move {
                let payload = from_json("the payload", &ctx.task().payload)?;
                let result = function(ctx, payload).await?;
                to_json("the result", &result)
            })
        }))
    }

    /// Runs the function, also its part before the first await, when the future is polled.
    pub(super) async fn call(self, ctx: Ctx) -> Result<Json, Failure> {
        (self.0)(ctx).await
    }
}

/// A value as it is stored. What cannot be stored now never can.
pub(super) fn to_json(what: &str, value: &impl Serialize) -> Result<Json, Failure> {
    let value = serde_json::to_value(value).and_then(serde_json::from_value);
    value.map_err(|error| Failure::never(format!("{what} is no JSON: {error}")))
}

/// What was stored, as a value. What does not fit now never will.
pub(super) fn from_json<T: DeserializeOwned>(what: &str, value: &Json) -> Result<T, Failure> {
    let value = serde_json::to_value(value).and_then(serde_json::from_value);
    value.map_err(|error| Failure::never(format!("{what} does not fit its type: {error}")))
}
