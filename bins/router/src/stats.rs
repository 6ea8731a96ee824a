//! What the router has and has learned.

use aion_router::index::Index;
use aion_router::{Engine, Feature, Profile, Surface};
use aion_service::Json;
use axum::extract::State;

use crate::service::Parts;
use crate::wire::{MixtureView, StatsView, SurfaceStats, WeightView};

/// Says what the router has and has learned, by surface.
#[utoipa::path(
    get,
    path = "/v1/stats",
    operation_id = "router_stats",
    tag = "ranking",
    responses((status = 200, description = "What there is", body = StatsView)),
)]
pub(crate) async fn router_stats(State(parts): State<Parts>) -> Json<StatsView> {
    let embedder = parts.router.embedder();
    let (model, dimension) = (embedder.model_id().to_owned(), embedder.dim());
    Json(parts.router.read(|engine| {
        StatsView {
            items: engine.catalog().len(),
            catalog: engine.catalog().version().get(),
            outcomes: engine.history().outcomes(),
            embedder: model,
            dimension,
            surfaces: engine
                .catalog()
                .surfaces()
                .map(|surface| of_surface(engine, surface))
                .collect(),
        }
    }))
}

fn of_surface(engine: &Engine, surface: &Surface) -> SurfaceStats {
    let history = engine.history();
    let mixture = Profile::ALL.into_iter().zip(history.mixture(surface));
    let weights = Feature::ALL.into_iter().zip(history.weights(surface).values());
    SurfaceStats {
        surface: surface.as_str().to_owned(),
        items: engine.catalog().index(surface).map_or(0, Index::len),
        mixture: mixture
            .map(|(profile, weight)| MixtureView {
                profile: profile.into(),
                weight,
            })
            .collect(),
        weights: weights
            .map(|(feature, weight)| WeightView {
                feature: feature.as_str(),
                weight,
            })
            .collect(),
        vetoed: history.is_vetoed(surface),
    }
}
