//! Programs to read, one file each, at most 120 lines, all of them runnable offline:
//! `cargo run -p aion-examples --example NAME`.
//!
//! | name | what it shows |
//! |---|---|
//! | `durable_task` | a claim, a lost lease, and a task that survives it |
//! | `worker_steps` | a function whose steps are done once, through a crash |
//! | `gather` | children, and waiting for them without a slot |
//! | `semaphore` | a bound on what runs at once |
//! | `enqueue_in_transaction` | a task that comes with your own rows or not at all |
//! | `lmsr_market` | trades, their cost, and the bits that they earn |
//! | `score_forecasters` | a leaderboard of proper scores, its diagram, and trust that follows |
//! | `calibrate` | what a forecast stands for, learned and tried on tasks that it has not seen |
//! | `chat_cpu` | the local model, and the persistence of what it says |
//! | `stream_with_persistence` | tokens as they come, coloured by how well the model foresaw them |
//! | `embed` | sentences as vectors, several at once |
//! | `score_text` | what the model says of each token of a given text |
//! | `serve_in_your_app` | the model server in your own program, on an engine that both use |
//! | `agent_loop_scripted` | the loop with a scripted model and a service of your own |
//! | `sandbox_exec` | a program shut in, and what holds it |
//! | `remote_machine` | one function on this host's machine and on another's |
//! | `agent_tools_over_mcp` | a client that lists and calls the tools of a machine |
//! | `custom_backend` | a machine of your own that passes the kit and is served |
//! | `mount_in_your_axum_app` | services as routers of your own program |
//! | `custom_store` | a task store of your own that passes the kit |
//! | `round_trip` | one task through all of it |

/// The README: its programs compile as documentation tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
#[derive(Debug)]
pub struct Readme;
