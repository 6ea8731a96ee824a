//! The tools of a machine over the Model Context Protocol: a server and an agent's client in one process.
//! `cargo run -p aion-examples --example agent_tools_over_mcp`
//!
//! Expect: the list of tools with what each may do; a file written and edited; a program whose output arrives while it
//! runs; an error that says by its code what was wrong.
#![allow(clippy::print_stdout)]

use aion_machine_server::mcp::McpTools;
use aion_machine_server::{MachineOptions, TaskState};
use rmcp::model::{CallToolRequestParams, ProgressNotificationParam};
use rmcp::service::{NotificationContext, RunningService};
use rmcp::{ClientHandler, RoleClient, ServiceExt};
use serde_json::{Value, json};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// An agent's side: it shows what it hears of a call that runs.
struct Agent;

impl ClientHandler for Agent {
    async fn on_progress(&self, told: ProgressNotificationParam, _: NotificationContext<RoleClient>) {
        println!("  while it runs: {}", told.message.unwrap_or_default().trim());
    }
}

fn main() -> Result<(), Failure> {
    // First of all: this program is started again as the supervisor of what it executes.
    aion_machine::supervisor::run_if_requested();
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(show())
}

async fn show() -> Result<(), Failure> {
    let dir = std::env::temp_dir().join(format!("agent-tools-{}", std::process::id()));
    let tools = McpTools::new(MachineOptions::new(dir.join("work")))?;
    // All calls of this session are of one task, which has a directory of its own.
    let tools = tools.for_task(TaskState::parse(r#"{"task_id": "shopping"}"#)?);
    // A program would be given `tools.serve_stdio()`; here the two ends are joined in memory.
    let (ours, theirs) = tokio::io::duplex(64 << 10);
    let server = tokio::spawn(async move {
        tools.serve(theirs).await?.waiting().await?;
        Ok::<(), Failure>(())
    });
    let agent = Agent.serve(ours).await?;

    for tool in agent.list_all_tools().await? {
        let hints = tool.annotations.unwrap_or_default();
        let kind = match (hints.read_only_hint, hints.destructive_hint) {
            (Some(true), _) => "reads",
            (_, Some(false)) => "adds",
            _ => "changes",
        };
        println!("{:<15} {kind}", tool.name);
    }
    call(
        &agent,
        "write_file",
        json!({"path": "list.txt", "content": "milk\nbread\n"}),
    )
    .await?;
    let edit = json!({"path": "list.txt", "old": "milk", "new": "oat milk"});
    println!(
        "{}",
        call(&agent, "edit_file", edit).await?["diff"]
            .as_str()
            .unwrap_or_default()
    );
    let program = json!({"argv": ["sh", "-c", "echo counting; sleep 0.3; wc -l < list.txt"]});
    let ran = call(&agent, "exec", program).await?;
    println!("exec: exit code {}, under {}", ran["exit_code"], ran["tier"]);
    let outside = call(&agent, "read_file", json!({"path": "none.txt"})).await?;
    println!("error code: {}", outside["code"]);

    agent.cancel().await?;
    server.await??;
    std::fs::remove_dir_all(dir)?;
    Ok(())
}

/// What a tool answered: its structured content, or the problem document that its error is.
async fn call(
    agent: &RunningService<RoleClient, Agent>,
    tool: &'static str,
    arguments: Value,
) -> Result<Value, Failure> {
    let arguments = arguments.as_object().cloned().unwrap_or_default();
    let call = CallToolRequestParams::new(tool).with_arguments(arguments);
    let result = agent.call_tool(call).await?;
    if let Some(value) = result.structured_content {
        return Ok(value);
    }
    let text = result.content.first().and_then(|block| block.as_text());
    Ok(serde_json::from_str(&text.ok_or("an empty answer")?.text)?)
}
