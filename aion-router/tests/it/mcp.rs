//! Tools of running MCP servers: one of rmcp's over HTTP, and a program over its standard input and output that also
//! does what it should not.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aion_router::import::{Importer, McpError, McpOptions, McpServer, mcp_tools, read_mcp_server};
use rmcp::ServerHandler;
use rmcp::model::{
    ErrorData, ListToolsResult, PaginatedRequestParams, ServerCapabilities, ServerConfig, Tool,
};
use rmcp::service::{RequestContext, RoleServer};
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use secrecy::SecretString;
use serde_json::json;

/// A server with 25 tools, ten a page.
#[derive(Debug, Clone)]
struct Paged;

impl ServerHandler for Paged {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    async fn list_tools(
        &self,
        request: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let from: usize = request
            .and_then(|request| request.cursor)
            .map_or(0, |cursor| cursor.parse().unwrap());
        let schema =
            json!({"type": "object", "properties": {"city": {"type": "string", "description": "Where"}}});
        let schema = Arc::new(schema.as_object().unwrap().clone());
        let tools = (from..(from + 10).min(25)).map(|n| {
            Tool::new(
                format!("tool_{n}"),
                format!("Does the thing number {n}"),
                schema.clone(),
            )
        });
        let mut page = ListToolsResult::with_all_items(tools.collect());
        page.next_cursor = (from + 10 < 25).then(|| (from + 10).to_string());
        Ok(page)
    }
}

async fn start() -> String {
    let service: StreamableHttpService<Paged, LocalSessionManager> = StreamableHttpService::new(
        || Ok(Paged),
        Arc::default(),
        StreamableHttpServerConfig::default(),
    );
    let app = axum::Router::new().nest_service("/mcp", service);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    url
}

#[tokio::test]
async fn all_pages_of_a_server_become_items() {
    let server = McpServer::Address {
        url: start().await,
        key: Some(SecretString::from("k")),
    };
    let document = read_mcp_server(&server, &McpOptions::default()).await.unwrap();
    let imported = mcp_tools(&document, &Importer::default().with_prefix("far_")).unwrap();
    assert_eq!((imported.items.len(), imported.skipped.len()), (25, 0));
    assert_eq!(imported.items[24].fields().name, "far_tool_24");
    assert_eq!(imported.items[24].fields().parameters, "city: Where");
    for (options, what) in [
        (McpOptions::default().with_max_tools(24), "tools"),
        (McpOptions::default().with_max_pages(2), "pages of tools"),
        (McpOptions::default().with_max_bytes(900), "bytes of tools"),
    ] {
        let error = read_mcp_server(&server, &options).await.unwrap_err();
        assert!(
            matches!(error, McpError::TooMuch { what: found, .. } if found == what),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn addresses_without_a_server_are_refused() {
    let address = |url: &str| McpServer::Address {
        url: url.to_owned(),
        key: None,
    };
    let options = McpOptions::default().with_timeout(Duration::from_secs(5));
    let bad = read_mcp_server(&address("file:///etc/passwd"), &options).await;
    assert!(matches!(bad, Err(McpError::BadAddress(_))));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    // Somebody listens, and never answers.
    let slow = McpOptions::default().with_timeout(Duration::from_millis(200));
    assert!(matches!(
        read_mcp_server(&address(&url), &slow).await,
        Err(McpError::TooSlow(_))
    ));
    drop(listener);
    assert!(matches!(
        read_mcp_server(&address(&url), &options).await,
        Err(McpError::Greeting(_))
    ));
}

fn program(mood: &str) -> McpServer {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/mcp_server.py");
    McpServer::Program {
        program: "python3".into(),
        arguments: vec![script.into(), mood.into()],
    }
}

#[tokio::test]
async fn a_program_tells_its_tools_and_ends() {
    let document = read_mcp_server(&program("good"), &McpOptions::default())
        .await
        .unwrap();
    let names: Vec<&str> = document["tools"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tool| tool["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["add", "greet", "last"]);
    assert_eq!(
        document["tools"][0]["inputSchema"]["properties"]["a"]["type"],
        "number"
    );
}

#[tokio::test]
async fn programs_that_misbehave_cost_little_time() {
    let options = McpOptions::default().with_timeout(Duration::from_secs(3));
    let started = Instant::now();
    let missing = McpServer::Program {
        program: "/nowhere/at/all".into(),
        arguments: vec![],
    };
    assert!(matches!(
        read_mcp_server(&missing, &options).await,
        Err(McpError::Start(_))
    ));
    let error = |mood| read_mcp(mood, options);
    assert!(matches!(error("ends").await, McpError::Greeting(_)));
    assert!(matches!(error("refuses").await, McpError::Listing(_)));
    let pages = options.with_max_pages(20);
    let endless = read_mcp_server(&program("endless"), &pages).await.unwrap_err();
    assert!(
        matches!(endless, McpError::TooMuch { limit: 20, .. }),
        "{endless:?}"
    );
    let quick = options.with_timeout(Duration::from_millis(300));
    assert!(matches!(read_mcp("hangs", quick).await, McpError::TooSlow(_)));
    assert!(started.elapsed() < Duration::from_secs(20));
}

async fn read_mcp(mood: &str, options: McpOptions) -> McpError {
    read_mcp_server(&program(mood), &options).await.unwrap_err()
}
