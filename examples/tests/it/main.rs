//! Every example runs and says what it promises; the store of `custom_store` passes the kit.
#![allow(clippy::unwrap_used)]

#[allow(dead_code)]
#[path = "../../custom_store.rs"]
mod custom_store;

use std::path::PathBuf;
use std::process::Command;

/// The programs that `cargo test` built beside this one.
fn example(name: &str) -> PathBuf {
    let path = std::env::current_exe().unwrap();
    let built = path
        .parent()
        .unwrap()
        .parent()
        .unwrap()
        .join("examples")
        .join(name);
    assert!(
        built.exists(),
        "{} is not built: use `cargo test -p aion-examples`",
        built.display()
    );
    built
}

#[test]
fn every_example_says_what_it_promises() {
    let promises = [
        ("durable_task", "a's late write: the lease"),
        ("worker_steps", "COMPLETED: \"a teapot shipped for receipt 17\""),
        ("gather", "COMPLETED: 35 words"),
        ("semaphore", "at most 2 at once"),
        ("enqueue_in_transaction", "COMPLETED: \"a teapot is on its way\""),
        ("lmsr_market", "anna  +0.678072 bits, profit +47.000363"),
        ("score_forecasters", "as granted: true"),
        ("calibrate", "saved and read back: the same, true"),
        (
            "custom_predictor",
            "names_a_file   +1.683 bits over a coin in 6 markets",
        ),
        ("replay_agent_runs", "the processor's database is unchanged"),
        ("chat_cpu", "SmolLM2"),
        ("constrained_json", "SmolLM2"),
        ("stream_with_persistence", "SmolLM2"),
        ("embed", "SmolLM2"),
        ("score_text", "SmolLM2"),
        ("serve_in_your_app", "4 sequences"),
        ("agent_loop_scripted", "COMPLETED"),
        ("sandbox_exec", "nothing left"),
        ("remote_machine", "there, the error is: not_found"),
        ("agent_tools_over_mcp", "while it runs: counting"),
        ("custom_backend", "d: too_large"),
        ("mount_in_your_axum_app", "201 Created"),
        ("custom_store", "claims  1"),
        ("round_trip", "the original is untouched: true"),
    ];
    for (name, promise) in promises {
        let output = Command::new(example(name)).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let failed = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}: {said}{failed}");
        assert!(said.contains(promise), "{name}: {said}");
    }
}
