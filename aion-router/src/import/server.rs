//! The tools of a running MCP server: a program that is started for it, or an address.

use std::ffi::OsString;
use std::time::Duration;

use rmcp::model::{ListToolsResult, PaginatedRequestParams};
use rmcp::service::RunningService;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::transport::{StreamableHttpClientTransport, TokioChildProcess};
use rmcp::{RoleClient, ServiceExt};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::MAX_PARTS;
use crate::net;

/// How long a server has to end after the last answer.
const GOODBYE: Duration = Duration::from_secs(2);

/// Where an MCP server is.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum McpServer {
    /// A program that speaks over its standard input and output. It gets this process's environment without the
    /// variables whose names begin with `AION_`, for keys are among those.
    Program {
        /// The program.
        program: OsString,
        /// What it is given.
        arguments: Vec<OsString>,
    },
    /// An address that speaks streamable HTTP, such as `http://127.0.0.1:8000/mcp`. Whoever chooses it chooses
    /// whom this process talks to: take none from a stranger.
    Address {
        /// The address.
        url: String,
        /// What is sent as a bearer token; in no message and no debug print.
        key: Option<SecretString>,
    },
}

/// How much of an MCP server is read, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct McpOptions {
    /// How long all of it may take.
    pub timeout: Duration,
    /// The most tools.
    pub max_tools: usize,
    /// The most pages of tools.
    pub max_pages: usize,
    /// The most bytes of all tools together, as JSON.
    pub max_bytes: usize,
}

impl Default for McpOptions {
    /// 30 seconds, 10,000 tools on 1,000 pages, 16 MiB.
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(30),
            max_tools: MAX_PARTS,
            max_pages: 1_000,
            max_bytes: 16 << 20,
        }
    }
}

impl McpOptions {
    /// Sets how long all of it may take.
    #[must_use]
    pub const fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets the most tools.
    #[must_use]
    pub const fn with_max_tools(mut self, tools: usize) -> Self {
        self.max_tools = tools;
        self
    }

    /// Sets the most pages of tools.
    #[must_use]
    pub const fn with_max_pages(mut self, pages: usize) -> Self {
        self.max_pages = pages;
        self
    }

    /// Sets the most bytes of all tools together.
    #[must_use]
    pub const fn with_max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }
}

/// Why an MCP server's tools were not read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum McpError {
    /// The program cannot be started.
    #[error("the MCP server cannot be started")]
    Start(#[source] std::io::Error),
    /// The address is none, or its client cannot be set up.
    #[error("{0:?} is no address of an MCP server")]
    BadAddress(String),
    /// The client cannot be set up.
    #[error("no client of the MCP server can be had")]
    Setup(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It does not answer as an MCP server does when it is greeted.
    #[error("the MCP server does not greet back")]
    Greeting(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It does not list its tools.
    #[error("the MCP server does not list its tools")]
    Listing(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It took too long.
    #[error("the MCP server did not list its tools within {0:?}")]
    TooSlow(Duration),
    /// It has too much to say.
    #[error("the MCP server has more than {limit} {what}")]
    TooMuch {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
}

/// The tools of a running MCP server, page by page, as the document that [`mcp_tools`](super::mcp_tools) reads. A
/// program that was started for it has ended afterwards, or is killed.
///
/// ```no_run
/// use aion_router::import::{Importer, McpOptions, McpServer, mcp_tools, read_mcp_server};
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let server = McpServer::Program { program: "my-mcp-server".into(), arguments: vec!["--stdio".into()] };
/// let document = read_mcp_server(&server, &McpOptions::default()).await?;
/// let imported = mcp_tools(&document, &Importer::default().with_prefix("mine_"))?;
/// # let _ = imported;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`McpError`]: nothing half read is given.
pub async fn read_mcp_server(server: &McpServer, options: &McpOptions) -> Result<Value, McpError> {
    let reading = async {
        let mut service = greet(server).await?;
        let tools = tools(&service, options).await;
        // Whatever it says to that, its tools are known.
        let _ = service.close_with_timeout(GOODBYE).await;
        tools
    };
    let done = tokio::time::timeout(options.timeout, reading).await;
    let tools = done.map_err(|_| McpError::TooSlow(options.timeout))??;
    Ok(json!({ "tools": tools }))
}

async fn greet(server: &McpServer) -> Result<RunningService<RoleClient, ()>, McpError> {
    let greeted = match server {
        McpServer::Program { program, arguments } => {
            let mut command = tokio::process::Command::new(program);
            command.args(arguments).kill_on_drop(true);
            for (name, _) in std::env::vars_os() {
                if name.as_encoded_bytes().starts_with(b"AION_") {
                    command.env_remove(name);
                }
            }
            ().serve(TokioChildProcess::new(command).map_err(McpError::Start)?)
                .await
        }
        McpServer::Address { url, key } => {
            let transport =
                StreamableHttpClientTransport::with_client(client(url)?, config(url, key.as_ref()));
            ().serve(transport).await
        }
    };
    greeted.map_err(|error| McpError::Greeting(Box::new(error)))
}

fn client(url: &str) -> Result<reqwest::Client, McpError> {
    net::address(url).map_err(McpError::BadAddress)?;
    net::client()
        .build()
        .map_err(|error| McpError::Setup(Box::new(error)))
}

fn config(url: &str, key: Option<&SecretString>) -> StreamableHttpClientTransportConfig {
    let config = StreamableHttpClientTransportConfig::with_uri(url);
    match key {
        Some(key) => config.auth_header(key.expose_secret()),
        None => config,
    }
}

async fn tools(
    service: &RunningService<RoleClient, ()>,
    options: &McpOptions,
) -> Result<Vec<Value>, McpError> {
    let (mut tools, mut bytes, mut cursor) = (Vec::new(), 0, None);
    for _ in 0..options.max_pages {
        let asked = PaginatedRequestParams::default().with_cursor(cursor);
        let page = service.list_tools(Some(asked)).await;
        let page: ListToolsResult = page.map_err(|error| McpError::Listing(Box::new(error)))?;
        for tool in page.tools {
            let tool = serde_json::to_value(tool).map_err(|error| McpError::Listing(Box::new(error)))?;
            bytes += tool.to_string().len();
            tools.push(tool);
        }
        check("tools", tools.len(), options.max_tools)?;
        check("bytes of tools", bytes, options.max_bytes)?;
        cursor = page.next_cursor;
        if cursor.is_none() {
            return Ok(tools);
        }
    }
    check("pages of tools", usize::MAX, options.max_pages)?;
    Ok(tools)
}

const fn check(what: &'static str, found: usize, limit: usize) -> Result<(), McpError> {
    if found > limit {
        return Err(McpError::TooMuch { what, limit });
    }
    Ok(())
}
