//! Executes programs in a sandbox and shows what holds them in and what they changed:
//! `cargo run -p aion-examples --example sandbox_exec`
//!
//! Expect: a count of lines; a file outside that cannot be written; a program that is killed with the
//! child it hid away; the difference of the tree before and after.
#![allow(clippy::print_stdout)]

use aion_machine::{
    ExecLimits, ExecRequest, LocalMachine, LocalOptions, Machine, RelPath, WorkspaceSpec, WriteRequest,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // First of all: this program is started again as the supervisor of what it executes.
    aion_machine::supervisor::run_if_requested();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(show())
}

async fn show() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::temp_dir().join(format!("sandbox-exec-{}", std::process::id()));
    std::fs::create_dir(&dir)?;
    let machine = LocalMachine::open_root(&dir, LocalOptions::default())?;
    let work = machine
        .open(&WorkspaceSpec::new(RelPath::parse("tasks/1")?))
        .await?;

    work.write(&RelPath::parse("notes.txt")?, WriteRequest::new("milk\nbread\n"))
        .await?;
    let before = work.snapshot().await?;

    let counted = work.exec(ExecRequest::new(["wc", "-l", "notes.txt"])).await?;
    println!("lines: {}", counted.stdout.text().trim());
    let held = &counted.enforcement;
    println!("tier: {:?}", held.tier());
    println!(
        "  files: {:?}, network: {:?}, processes: {:?}",
        held.files, held.network, held.processes
    );
    println!(
        "  memory: {:?}, count of processes: {:?}, uid: {}",
        held.memory, held.process_count, held.uid
    );
    for gap in &counted.enforcement.gaps {
        println!("  gap: {gap}");
    }

    let outside = work
        .exec(ExecRequest::shell("echo x > /etc/made-by-a-sandbox"))
        .await?;
    println!(
        "outside: exit code {:?}, {}",
        outside.exit_code,
        outside.stderr.text().trim()
    );

    let limits = ExecLimits::default().with_wall_ms(300);
    let hidden = ExecRequest::shell("setsid sleep 60 & sleep 60").with_limits(limits);
    let ended = work.exec(hidden).await?;
    println!(
        "timed out: {}, after {} ms, nothing left",
        ended.timed_out(),
        ended.duration_ms
    );

    work.exec(ExecRequest::shell("echo eggs >> notes.txt; date > today"))
        .await?;
    let after = work.snapshot().await?;
    for change in work.diff(before, after).await?.changes {
        println!("{:?} {}\n{}", change.kind, change.path, change.diff.text);
    }
    std::fs::remove_dir_all(dir)?;
    Ok(())
}
