//! An agent run that is nothing but loop: the model costs nothing, and the one tool adds a number.
//!
//! A run of `n` steps is `n` answers of the model: `n - 1` calls of `add` with 1, 2, .., then a last word. Everything
//! around them is real: the task is claimed under a lease, tools are derived from the service's OpenAPI document,
//! arguments are validated, each call's intent is stored before it is dispatched through the service's router and
//! layers, and the state is read again and compared after it.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aion_loop::store::SqliteLoopStore;
use aion_loop::{
    Agent, Budget, ChatModel, ChatReply, ChatRequest, FinishReason, InProcessTransport, LoopStore,
    MemoryLoopStore, ModelError, OpenApiOptions, RunOptions, ServiceLimits, ServiceLink, Services, Usage,
};
use aion_processor::{ClaimReq, Limits, MemTaskStore, NewTask, Processor};
use aion_service::{Json, Limits as ServiceBounds, Problem, Service, StateQuery, StateSource};
use aion_types::{AgentId, Clock, HandlerId, Status, SystemClock, TaskId, ToolCall};
use async_trait::async_trait;
use axum::body::Body;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Shorthand for what may go wrong in a driver.
pub type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

/// Where runs and tasks are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// In this process.
    Memory,
    /// In SQLite files, written before each tool call.
    Sqlite,
}

/// The world: a total, and how often the model has answered.
#[derive(Debug, Default)]
struct World {
    total: AtomicU64,
    answered: AtomicU64,
    steps: AtomicU64,
}

/// Calls `add` with 1, 2, .., then says that it is done.
#[derive(Debug)]
struct Script {
    world: Arc<World>,
    tool: String,
}

#[async_trait]
impl ChatModel for Script {
    fn name(&self) -> &str {
        "script"
    }

    async fn chat(&self, _request: &ChatRequest) -> Result<ChatReply, ModelError> {
        let at = self.world.answered.fetch_add(1, Ordering::Relaxed) + 1;
        let last = at == self.world.steps.load(Ordering::Relaxed);
        let call = || ToolCall {
            id: format!("call-{at}"),
            name: self.tool.clone(),
            arguments: json!({ "number": at }).to_string(),
        };
        Ok(ChatReply {
            text: if last { "done".to_owned() } else { String::new() },
            reasoning: String::new(),
            tool_calls: if last { Vec::new() } else { vec![call()] },
            finish: if last {
                FinishReason::Stop
            } else {
                FinishReason::ToolCalls
            },
            usage: Usage::default(),
            model: None,
        })
    }
}

/// A number to add.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Number {
    number: u64,
}

/// The total after an addition.
#[derive(Debug, Serialize, ToSchema)]
struct Total {
    total: u64,
}

/// Adds a number to the total.
#[utoipa::path(post, path = "/add", operation_id = "add", request_body = Number, responses((status = 200, body = Total)))]
async fn add(State(world): State<Arc<World>>, Json(Number { number }): Json<Number>) -> Json<Total> {
    Json(Total {
        total: world.total.fetch_add(number, Ordering::Relaxed) + number,
    })
}

#[async_trait]
impl StateSource for World {
    async fn state(&self, _query: &StateQuery) -> Result<Value, Problem> {
        Ok(json!({ "total": self.total.load(Ordering::Relaxed) }))
    }
}

/// The agent with its world and its stores.
#[derive(Debug)]
pub struct Adder {
    world: Arc<World>,
    agent: Agent,
    processor: Processor,
    handler: HandlerId,
}

impl Adder {
    /// Sets everything up; `dir` holds the files of [`Durability::Sqlite`].
    ///
    /// # Errors
    /// When a store cannot be opened or no tool can be derived.
    pub async fn new(durability: Durability, dir: &Path) -> Result<Self> {
        let world = Arc::new(World::default());
        let routes = OpenApiRouter::new()
            .routes(routes!(add))
            .with_state(Arc::clone(&world));
        let state: Arc<dyn StateSource> = Arc::<World>::clone(&world);
        let router = Service::new("adder", 0, routes, state).into_router(&ServiceBounds::default());
        let transport = Arc::new(InProcessTransport::<_, Body>::new(router));
        let link = ServiceLink::in_process("adder", transport);
        let only = OpenApiOptions::default().with_only(["add"]);
        let services = Services::discover([(link, only)], ServiceLimits::default()).await?;
        let tool = services
            .tools()
            .iter()
            .next()
            .ok_or("no tool was derived")?
            .name
            .clone();
        let (store, processor) = stores(durability, dir).await?;
        let model = Arc::new(Script {
            world: Arc::clone(&world),
            tool,
        });
        let budget = Budget {
            tokens: u64::MAX / 4,
            steps: u32::MAX,
            seconds: 3600,
        };
        let options = RunOptions::default().with_budget(budget);
        let agent = Agent::new(AgentId::new("adder")?, model, services, store, options);
        Ok(Self {
            world,
            agent,
            processor,
            handler: HandlerId::new("adder")?,
        })
    }

    /// Works on one task in `steps` steps; the time from the claim to the end, and the total.
    ///
    /// # Errors
    /// When the task does not end as completed.
    pub async fn run(&self, steps: u64) -> Result<(Duration, u64)> {
        self.world.total.store(0, Ordering::Relaxed);
        self.world.answered.store(0, Ordering::Relaxed);
        self.world.steps.store(steps, Ordering::Relaxed);
        let task = TaskId::generate(SystemClock.now());
        self.processor
            .create(NewTask::new(task, "agent.run", "Add the numbers."))
            .await?;
        let started = Instant::now();
        let claim = ClaimReq::new(self.handler.clone())
            .with_task(task)
            .with_lease_ms(60_000);
        let lease = self
            .processor
            .claim(claim)
            .await?
            .pop()
            .ok_or("the task was not to be had")?;
        let end = self
            .agent
            .work(&self.processor, &lease, &CancellationToken::new())
            .await?;
        let took = started.elapsed();
        if end.status != Status::Completed {
            return Err(format!("the task ended as {:?}: {}", end.status, end.reason).into());
        }
        Ok((took, self.world.total.load(Ordering::Relaxed)))
    }
}

async fn stores(durability: Durability, dir: &Path) -> Result<(Arc<dyn LoopStore>, Processor)> {
    Ok(match durability {
        Durability::Memory => {
            let tasks = Processor::new(MemTaskStore::new(SystemClock, Limits::default()));
            (Arc::new(MemoryLoopStore::default()), tasks)
        }
        Durability::Sqlite => {
            let runs = SqliteLoopStore::open(dir.join("loop.db")).await?;
            (Arc::new(runs), Processor::open(dir.join("processor.db")).await?)
        }
    })
}
