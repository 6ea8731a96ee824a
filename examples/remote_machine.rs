//! A machine on another host: its server, and the same traits on this side.
//! `cargo run -p aion-examples --example remote_machine`
//!
//! Expect: the same function works on this host's machine and on a remote one; output that arrives while a program
//! runs; a program that ends with the connection's own kill; an error that is the same on both sides.
#![allow(clippy::print_stdout)]

use aion_machine::{
    ExecEvent, ExecRequest, LocalMachine, LocalOptions, Machine, ReadOptions, RelPath, RemoteMachine,
    RemoteOptions, WorkspaceSpec, WriteRequest,
};
use aion_machine_server::{MachineOptions, service};
use aion_service::{Limits, ServeOptions, Server};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    // First of all: this program is started again as the supervisor of what it executes.
    aion_machine::supervisor::run_if_requested();
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(show())
}

async fn show() -> Result<(), Failure> {
    let dir = std::env::temp_dir().join(format!("remote-machine-{}", std::process::id()));
    // What `aion-machine-server` does, on a free port of loopback.
    let served = service(MachineOptions::new(dir.join("theirs")))?;
    let server = Server::bind(served.into_router(&Limits::default()), ServeOptions::loopback(0)).await?;
    let url = format!("http://{}", server.local_addr());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(server.run(async { drop(stopped.await) }));

    std::fs::create_dir_all(dir.join("ours"))?;
    let local = LocalMachine::open_root(dir.join("ours"), LocalOptions::default())?;
    let remote = RemoteMachine::connect(&url, RemoteOptions::default()).await?;
    work_on("here", &local).await?;
    work_on("there", &remote).await?;

    let _ = stop.send(());
    serving.await??;
    std::fs::remove_dir_all(dir)?;
    Ok(())
}

/// It does not know, and need not know, where the machine is; `place` is for people.
async fn work_on(place: &str, machine: &dyn Machine) -> Result<(), Failure> {
    println!("-- {place}: {:?}", machine.probe().await?.tier());
    let work = machine
        .open(&WorkspaceSpec::new(RelPath::parse("tasks/1")?))
        .await?;
    let notes = RelPath::parse("notes.txt")?;
    let wrote = work.write(&notes, WriteRequest::new("milk\nbread\n")).await?;
    println!("etag {}", wrote.etag);

    let execution = work
        .start(ExecRequest::shell("echo first; sleep 0.2; wc -l < notes.txt"))
        .await?;
    let mut follower = execution.handle().follow();
    while let Some(event) = follower.next().await {
        if let ExecEvent::Output { offset, bytes, .. } = event {
            println!("from byte {offset}: {}", String::from_utf8_lossy(&bytes).trim());
        }
    }
    println!("exit code {:?}", execution.wait().await?.exit_code);

    let endless = work.start(ExecRequest::new(["sleep", "600"])).await?;
    endless.handle().kill();
    println!("killed: {:?}", endless.wait().await?.ending);

    let missing = work
        .read(&RelPath::parse("none.txt")?, ReadOptions::default())
        .await;
    println!(
        "{place}, the error is: {}",
        missing.err().map_or("none", |error| error.code())
    );
    Ok(())
}
