//! `aion up`: every service and the state of all of them on one port, from one process and one
//! data directory.
//!
//! Each service has its paths below its name (`/processor/v1/tasks`, `/machine/v1/exec`, ...); the
//! OpenAI paths (`/v1/chat/completions`, ...) are at the root too, and the root's `/state` and
//! `/readyz` are those of all services together.

use std::sync::Arc;
use std::time::Duration;

use aion_llm::Engine;
use aion_llm_server::LlmOptions;
use aion_loop_server::{Models, Runner};
use aion_market::{ObserverOptions, Predictor};
use aion_market_server::{Follower, MarketService, panel};
use aion_processor_server::{Deliverer, DelivererOptions, HttpSender, Retention, TargetPolicy};
use aion_router::ByteTokens;
use aion_service::{Limits, ServeOptions, Server, Service, StateSource};
use aion_types::HandlerId;
use axum::Router;
use utoipa_axum::router::OpenApiRouter;

use crate::feed::ProcessorFeed;
use crate::forecaster::language_model;
use crate::model::{ModelCache, ModelSource};
use crate::node::Node;
use crate::run::{in_process, load_engine};
use crate::{Result, terminal};

/// The port of everything together.
pub const DEFAULT_PORT: u16 = 9300;
/// How often time is kept and the market looks at the tasks.
const BEAT: Duration = Duration::from_secs(1);

/// How often trees that have been kept for long enough are looked for.
const RETIRE: Duration = Duration::from_secs(60);

/// Where the local model comes from: loaded in the background, absent until then.
#[derive(Debug, Clone)]
pub struct UpModel {
    /// The model.
    pub source: ModelSource,
    /// Where it is looked for. Nothing is fetched.
    pub cache: ModelCache,
    /// How many times a day a language model forecasts in the market: this one, unless the environment names
    /// a server.
    pub forecasts_per_day: u32,
}

impl UpModel {
    fn load(&self) -> Result<Engine, String> {
        let path = self
            .cache
            .find(&self.source)
            .map_err(|error| aion_service::chain(&error))?;
        load_engine(&path).map_err(|error| aion_service::chain(&error))
    }
}

/// Serves until SIGTERM or Ctrl-C. Trees of tasks are kept for so long after their end; for ever if that is not said.
///
/// # Errors
/// A store that cannot be opened, an address that cannot be bound.
pub async fn up(
    node: &Node,
    model: UpModel,
    targets: TargetPolicy,
    kept: Option<Duration>,
    options: ServeOptions,
) -> Result<()> {
    let llm = llm(&model);
    let (state, openai) = (llm.state(), llm.into_router(&options.limits));
    let market = market(node, forecaster(node, &model, &openai)?)?;
    let following = market.follow(BEAT);
    let language = Part::of("llm", state, openai);
    let delivering = deliverer(node, targets.clone())?.start();
    let router = router(node, &model, language, market, targets, &options.limits)?;
    let server = Server::bind(router, options).await?;
    terminal::line(&format!("listening on http://{}", server.local_addr()));
    let ended = tokio::select! {
        ended = server.run(aion_service::stop_signal()) => ended,
        () = node.processor().keep_time(BEAT) => Ok(()),
        () = following => Ok(()),
        () = retire(node, kept) => Ok(()),
    };
    delivering.stop().await;
    Ok(ended?)
}

/// Removes trees that have been kept for long enough, for as long as it is polled.
async fn retire(node: &Node, kept: Option<Duration>) {
    match kept {
        Some(kept) => {
            Retention::new(node.processor().clone(), kept, None)
                .run(RETIRE)
                .await;
        }
        None => std::future::pending().await,
    }
}

/// Who sends the processor's webhooks. Its name stays the same, for one process has the data directory.
fn deliverer(node: &Node, targets: TargetPolicy) -> Result<Deliverer> {
    let options = DelivererOptions::new(HandlerId::new("aion-up")?);
    let sender = HttpSender::new(targets)?;
    Ok(Deliverer::new(node.processor().clone(), sender, options))
}

/// The language model that forecasts, if it may.
fn forecaster(node: &Node, model: &UpModel, openai: &Router) -> Result<Option<Arc<dyn Predictor>>> {
    let env = |name: &str| std::env::var(name).ok();
    let name = model.source.to_string();
    language_model(model.forecasts_per_day, node.clock(), openai, &name, env)
}

/// The market with its predictors, following the processor of this process.
fn market(node: &Node, llm: Option<Arc<dyn Predictor>>) -> Result<MarketService> {
    let feed = Arc::new(ProcessorFeed::new(node.processor().clone()));
    let asked = panel(node.market(), llm)?;
    let follower = Follower::new(node.market(), feed, asked, ObserverOptions::default());
    let service = MarketService::new(node.market().clone(), node.trust().ledger().clone());
    Ok(service.with_follower(follower))
}

/// All services as one router.
fn router(
    node: &Node,
    model: &UpModel,
    language: Part,
    market: MarketService,
    targets: TargetPolicy,
    limits: &Limits,
) -> Result<Router> {
    let mut parts = vec![Part::of(
        "machine",
        node.machine_state(),
        node.machine_router().clone(),
    )];
    let openai = language.router.clone();
    let runner = runner(node, &openai, &model.source.to_string())?;
    parts.push(language);
    for service in [
        aion_processor_server::service_with(node.processor().clone(), targets),
        market.into_service(),
        aion_loop_server::service(runner),
        aion_router_server::service(node.catalog().clone(), Arc::new(ByteTokens)),
    ] {
        let (name, state) = (service.name(), service.state());
        parts.push(Part::of(name, state, service.into_router(limits)));
    }
    let states = parts.iter().map(|part| {
        Service::new(
            part.name,
            DEFAULT_PORT,
            OpenApiRouter::new(),
            Arc::clone(&part.state),
        )
    });
    let front = Service::combine("aion", DEFAULT_PORT, states).into_router(limits);
    let whole = parts.into_iter().fold(front, |whole, part| {
        whole.nest(&format!("/{}", part.name), part.router)
    });
    Ok(whole.nest("/v1", below_v1(openai)))
}

/// One service of the whole.
struct Part {
    name: &'static str,
    state: Arc<dyn StateSource>,
    router: Router,
}

impl Part {
    fn of(name: &'static str, state: Arc<dyn StateSource>, router: Router) -> Self {
        Self { name, state, router }
    }
}

fn llm(model: &UpModel) -> Service {
    let model = model.clone();
    aion_llm_server::service_loading(move || model.load(), LlmOptions::default())
}

/// The loop of this process: tasks of the processor, tools of the machine, the local model.
fn runner(node: &Node, openai: &Router, name: &str) -> Result<Runner> {
    let chat = in_process(openai.clone(), name)?;
    let runs = Arc::clone(node.runs());
    Ok(Runner::new(
        node.processor().clone(),
        runs,
        node.services().clone(),
        Models::one(chat),
    ))
}

/// The same router for requests whose `/v1` was taken off by nesting.
fn below_v1(inner: Router) -> Router {
    Router::new().fallback(move |mut request: axum::extract::Request| {
        let inner = inner.clone();
        async move {
            let path = request
                .uri()
                .path_and_query()
                .map_or_else(|| "/v1".to_owned(), |rest| format!("/v1{rest}"));
            if let Ok(uri) = path.parse() {
                *request.uri_mut() = uri;
            }
            tower::ServiceExt::oneshot(inner, request).await
        }
    })
}
