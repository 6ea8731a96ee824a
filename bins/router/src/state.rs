//! `GET /state`: what an agent should know of the router, in few words.

use aion_router::LiveRouter;
use aion_router::index::Index;
use aion_service::{Problem, StateQuery, StateSource};
use async_trait::async_trait;
use serde_json::{Map, Value, json};

/// Surfaces that are shown at most.
const SURFACES_SHOWN: usize = 16;

/// The state of the router.
#[derive(Debug)]
pub(crate) struct RouterState {
    router: LiveRouter,
}

impl RouterState {
    pub(crate) const fn new(router: LiveRouter) -> Self {
        Self { router }
    }
}

#[async_trait]
impl StateSource for RouterState {
    async fn state(&self, _: &StateQuery) -> Result<Value, Problem> {
        Ok(self.router.read(|engine| {
            let catalog = engine.catalog();
            let surfaces = catalog.surfaces().take(SURFACES_SHOWN);
            let items: Map<String, Value> = surfaces
                .map(|surface| {
                    let items = catalog.index(surface).map_or(0, Index::len);
                    (surface.as_str().to_owned(), items.into())
                })
                .collect();
            json!({ "router": { "items": items, "outcomes": engine.history().outcomes() } })
        }))
    }

    async fn ready(&self) -> Result<(), String> {
        self.router.is_ready().await.map_err(|error| error.to_string())
    }
}
