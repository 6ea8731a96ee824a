//! The server of the protocol: what it offers, and how a call is carried out.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use aion_service::{Limits, Service, TASK_STATE_HEADER};
use axum::Router;
use axum::body::Body;
use http::request::Parts;
use http::{HeaderName, Request, header};
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ErrorData, Implementation, ListToolsResult,
    PaginatedRequestParams, ServerCapabilities, ServerConfig, Tool,
};
use rmcp::service::{RequestContext, RoleServer};
use rmcp::{ServerHandler, ServiceExt};
use serde_json::Value;
use tower::ServiceExt as _;

use super::document::{self, Routed};
use super::progress::Watched;
use super::{answer, progress};
use crate::TaskState;

const INSTRUCTIONS: &str = "Files and programs of one working directory. Paths are relative to it and cannot \
    leave it. Programs are executed in a sandbox: no network, the system's directories read-only.";
/// Headers of the request that carries a call which count for the call too.
const CARRIED: [HeaderName; 2] = [
    HeaderName::from_static(TASK_STATE_HEADER),
    HeaderName::from_static("idempotency-key"),
];

/// The tools of a machine as a server of the Model Context Protocol, cheap to clone.
///
/// ```no_run
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// use aion_machine_server::{MachineOptions, TaskState, mcp::McpTools};
/// aion_machine::supervisor::run_if_requested(); // first in `main`, for `exec`
/// let tools = McpTools::new(MachineOptions::new("data/work"))?;
/// tools.for_task(TaskState::parse(r#"{"task_id": "t1"}"#)?).serve_stdio().await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct McpTools {
    tools: Arc<BTreeMap<String, Routed>>,
    router: Router,
    task: Option<TaskState>,
}

impl fmt::Debug for McpTools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("McpTools")
            .field("tools", &self.tools.keys())
            .field("task", &self.task)
            .finish_non_exhaustive()
    }
}

impl McpTools {
    /// The tools of a machine.
    ///
    /// # Errors
    /// [`OpenError`](crate::OpenError) if the directory or the journal cannot be opened.
    pub fn new(options: crate::MachineOptions) -> Result<Self, crate::OpenError> {
        let context = Arc::new(crate::context::Context::open(options)?);
        Ok(Self::of(crate::tools_only(&context)))
    }

    /// The tools of a service, each call being a request to it.
    pub(crate) fn of(service: Service) -> Self {
        // The document was written from maps with text keys, so it can be read.
        let document: Value = serde_json::from_str(&service.openapi_json()).unwrap_or_default();
        Self {
            tools: Arc::new(document::tools(&document)),
            router: service.into_router(&Limits::default()),
            task: None,
        }
    }

    /// Every call is of this task, whatever a header says.
    #[must_use]
    pub fn for_task(mut self, task: TaskState) -> Self {
        self.task = Some(task);
        self
    }

    /// Serves one client over standard input and output, until it goes away. Nothing else may be written to
    /// standard output meanwhile.
    ///
    /// # Errors
    /// If the client does not begin as the protocol says.
    pub async fn serve_stdio(self) -> std::io::Result<()> {
        let session = self.serve(rmcp::transport::stdio()).await;
        let ended = session.map_err(std::io::Error::other)?.waiting().await;
        ended.map(drop).map_err(std::io::Error::other)
    }

    fn request(
        &self,
        path: &str,
        call: CallToolRequestParams,
        context: &RequestContext<RoleServer>,
    ) -> Result<Request<Body>, ErrorData> {
        let body = Value::Object(call.arguments.unwrap_or_default()).to_string();
        let mut request = Request::post(path)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(body))
            .map_err(|e| ErrorData::internal_error(e.to_string(), None))?;
        if let Some(task) = &self.task {
            request.extensions_mut().insert(task.clone());
        }
        if let Some(parts) = context.extensions.get::<Parts>() {
            for name in CARRIED {
                for value in parts.headers.get_all(&name) {
                    request.headers_mut().append(&name, value.clone());
                }
            }
        }
        Ok(request)
    }

    async fn call(
        &self,
        call: CallToolRequestParams,
        context: &RequestContext<RoleServer>,
    ) -> Result<CallToolResult, ErrorData> {
        let Some(routed) = self.tools.get(&*call.name) else {
            let detail = format!(
                "there is no tool `{}`",
                call.name.chars().take(80).collect::<String>()
            );
            return Err(ErrorData::invalid_params(detail, None));
        };
        let mut request = self.request(&routed.path, call, context)?;
        let (watched, running) = Watched::new();
        if context.meta.get_progress_token().is_some() {
            request.extensions_mut().insert(watched);
        }
        let answer = self.router.clone().oneshot(request);
        tokio::select! {
            biased;
            // What the call executes ends with the request that is dropped here.
            () = context.ct.cancelled() => Err(ErrorData::internal_error("cancelled", None)),
            answer = answer => match answer {
                Ok(response) => answer::of_response(response).await,
            },
            never = progress::keep_telling(context, running) => match never {},
        }
    }
}

impl ServerHandler for McpTools {
    fn get_info(&self) -> ServerConfig {
        let about = Implementation::new("aion-machine", env!("CARGO_PKG_VERSION"));
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(about)
            .with_instructions(INSTRUCTIONS)
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let tools = self.tools.values().map(|routed| routed.tool.clone());
        Ok(ListToolsResult::with_all_items(tools.collect()))
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        self.tools.get(name).map(|routed| routed.tool.clone())
    }

    async fn call_tool(
        &self,
        call: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        self.call(call, &context).await.map(Into::into)
    }
}
