//! `aion-router import-mcp`.

use std::error::Error;
use std::ffi::OsString;
use std::time::Duration;

use aion_router::import::{McpOptions, McpServer, read_mcp_server};
use aion_service::secret;
use clap::{Args, ValueEnum};
use reqwest::redirect::Policy;
use serde_json::{Value, json};

/// The longest answer of a router that is read.
const MAX_ANSWER_BYTES: usize = 16 << 20;

/// Options of `aion-router import-mcp`.
#[derive(Debug, Args)]
pub(crate) struct ImportMcp {
    /// An MCP server that speaks streamable HTTP; its key, if it has one, is AION_MCP_API_KEY
    #[arg(
        long,
        value_name = "URL",
        conflicts_with = "program",
        required_unless_present = "program"
    )]
    url: Option<String>,
    /// A program that speaks MCP over its standard input and output, after `--`, with its arguments
    #[arg(value_name = "PROGRAM", last = true)]
    program: Vec<OsString>,
    /// The router that gets the tools; its key, if it has one, is AION_ROUTER_API_KEY. Without it they are printed
    /// as the document that `POST /v1/imports` takes
    #[arg(long, value_name = "URL", env = "AION_ROUTER_URL")]
    router: Option<String>,
    /// Who provides the tools
    #[arg(long, value_name = "NAME", default_value = "imported")]
    provider: String,
    /// How far their words may be believed
    #[arg(long, value_enum, default_value = "unverified")]
    provenance: Believed,
    /// What stands before every name
    #[arg(long, value_name = "TEXT", default_value = "")]
    prefix: String,
    /// How long the MCP server may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=600))]
    timeout: u64,
}

/// How far words may be believed.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Believed {
    /// Part of this system
    Builtin,
    /// From a provider that somebody has vouched for
    Verified,
    /// From anybody
    Unverified,
}

impl ImportMcp {
    pub(crate) fn run(&self) -> Result<(), Box<dyn Error>> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(self.import())
    }

    async fn import(&self) -> Result<(), Box<dyn Error>> {
        let options = McpOptions::default().with_timeout(Duration::from_secs(self.timeout));
        let document = read_mcp_server(&self.server(), &options).await?;
        match &self.router {
            None => println!("{}", serde_json::to_string_pretty(&document)?),
            Some(router) => println!("{}", self.send(router, document).await?),
        }
        Ok(())
    }

    fn server(&self) -> McpServer {
        match (&self.url, self.program.split_first()) {
            (None, Some((program, arguments))) => McpServer::Program {
                program: program.clone(),
                arguments: arguments.to_vec(),
            },
            (url, _) => McpServer::Address {
                url: url.clone().unwrap_or_default(),
                key: secret("AION_MCP_API_KEY"),
            },
        }
    }

    async fn send(&self, router: &str, document: Value) -> Result<String, Box<dyn Error>> {
        let provenance = self.provenance.to_possible_value();
        let body = json!({
            "format": "mcp", "document": document, "prefix": self.prefix, "provider": self.provider,
            "provenance": provenance.map(|value| value.get_name().to_owned()),
        });
        // Fails only where a provider is set already, and then that one is used.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(5))
            .timeout(Duration::from_secs(60))
            .redirect(Policy::none())
            .build()?;
        let url = format!("{}/v1/imports", router.trim_end_matches('/'));
        let mut request = client.post(url).header("content-type", "application/json");
        if let Some(key) = secret("AION_ROUTER_API_KEY") {
            request = request.bearer_auth(secrecy::ExposeSecret::expose_secret(&key));
        }
        let mut response = request.body(body.to_string()).send().await?;
        let status = response.status();
        let mut answer = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            answer.extend_from_slice(&chunk);
            if answer.len() > MAX_ANSWER_BYTES {
                return Err("the router's answer is too long".into());
            }
        }
        let answer = String::from_utf8_lossy(&answer);
        if !status.is_success() {
            return Err(format!("the router answered {status}: {answer}").into());
        }
        Ok(told(&serde_json::from_str(&answer)?))
    }
}

/// What became of the tools, in lines.
fn told(answer: &Value) -> String {
    let list = |name: &str| answer[name].as_array().cloned().unwrap_or_default();
    let mut lines = vec![format!("{} tools imported", list("ids").len())];
    for skipped in list("skipped") {
        lines.push(format!("skipped {}: {}", skipped["at"], skipped["reason"]));
    }
    if let Some(reason) = answer["not_embedded"].as_str() {
        lines.push(format!("without an embedding for now: {reason}"));
    }
    lines.join("\n")
}
