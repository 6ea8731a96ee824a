//! Executing `true`: what the confinement costs, with little and with much memory in this process, and over HTTP.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use super::{Plan, Sides, tools};
use crate::fuzz_http::Server;
use crate::peers::driver::Nothing;
use crate::peers::row::{Better, Row, median, ratio};
use crate::{Error, Result, command};

/// Processor time that an execution may take, in milliseconds.
const EXEC_GOAL_MS: f64 = 1.6;
/// How much more it may take when this process is large.
const RESIDENT_GOAL: f64 = 2.0;
const RESIDENT_BYTES: usize = 1 << 30;
/// Executions a second over HTTP.
const HTTP_GOAL: f64 = 300.0;
const HTTP_CLIENTS: usize = 8;
/// How long a server may take to start.
const PATIENCE: Duration = Duration::from_secs(20);
/// The strongest confinement.
const FULL_JAIL: &str = "Namespaces";

#[derive(Deserialize)]
struct Cost {
    cpu_s: f64,
    min_wall_s: f64,
    tier: String,
}

/// The median of processor times and the shortest wall time, in milliseconds.
#[derive(Default)]
struct Times {
    cpu_ms: Vec<f64>,
    wall_ms: Vec<f64>,
    tier: String,
}

impl Times {
    fn cpu(&self) -> f64 {
        median(&self.cpu_ms).unwrap_or(f64::NAN)
    }

    fn least_wall(&self) -> f64 {
        self.wall_ms.iter().copied().fold(f64::INFINITY, f64::min)
    }
}

fn turn(sides: &mut Sides<'_>, plan: Plan, executor: &str, times: &mut Times) -> Result<()> {
    let dir = sides.scratch.path().join("exec");
    std::fs::create_dir_all(&dir).map_err(|source| Error::File {
        path: dir.clone(),
        source,
    })?;
    let request = json!({ "do": "exec", "dir": dir, "executor": executor, "reps": plan.executions });
    let cost: Cost = sides.ours.ask(&request)?;
    times.cpu_ms.push(cost.cpu_s * 1e3);
    times.wall_ms.push(cost.min_wall_s * 1e3);
    times.tier = cost.tier;
    Ok(())
}

/// `true` in the jail, by a plain spawn, and by bubblewrap where it is installed.
pub(super) fn executions(sides: &mut Sides<'_>, plan: Plan) -> Result<Vec<Row>> {
    let bwrap = tools::find("bwrap")
        .map(|program| tools::version(&program))
        .transpose()?;
    let (mut jail, mut spawn, mut wrapped) = (Times::default(), Times::default(), Times::default());
    for _ in 0..plan.rounds {
        turn(sides, plan, "jail", &mut jail)?;
        turn(sides, plan, "spawn", &mut spawn)?;
        if bwrap.is_some() {
            turn(sides, plan, "bwrap", &mut wrapped)?;
        }
    }
    let kept = jail.cpu() <= EXEC_GOAL_MS && jail.tier == FULL_JAIL;
    let row = |peer: String, theirs: &Times| Row {
        work: "exec of `true`, CPU of all processes".to_owned(),
        peer,
        theirs: Some(theirs.cpu()),
        ratio: Some(ratio(Better::Lower, jail.cpu(), theirs.cpu())),
        kept: Some(kept),
        limit: format!("at most {EXEC_GOAL_MS} ms at {FULL_JAIL}"),
        agreement: format!(
            "tier {}; least wall: ours {:.2} ms, theirs {:.2} ms",
            jail.tier,
            jail.least_wall(),
            theirs.least_wall()
        ),
        rounds: plan.rounds,
        ..Row::alone("ms", jail.cpu())
    };
    let mut rows = vec![row("a plain spawn".to_owned(), &spawn)];
    rows.extend(bwrap.map(|label| row(label, &wrapped)));
    Ok(rows)
}

/// The same while this process holds a gigabyte.
pub(super) fn resident(sides: &mut Sides<'_>, plan: Plan) -> Result<Vec<Row>> {
    let (mut small, mut large, mut spawn) = (Times::default(), Times::default(), Times::default());
    for _ in 0..plan.rounds {
        turn(sides, plan, "jail", &mut small)?;
        let _: Nothing = sides
            .ours
            .ask(&json!({ "do": "resident", "bytes": RESIDENT_BYTES }))?;
        turn(sides, plan, "jail", &mut large)?;
        turn(sides, plan, "spawn", &mut spawn)?;
        let _: Nothing = sides.ours.ask(&json!({ "do": "resident", "bytes": 0 }))?;
    }
    Ok(vec![Row {
        work: "exec of `true` with 1 GiB resident, CPU of all processes".to_owned(),
        peer: "a plain spawn, the same memory".to_owned(),
        theirs: Some(spawn.cpu()),
        ratio: Some(ratio(Better::Lower, large.cpu(), spawn.cpu())),
        kept: Some(large.cpu() <= RESIDENT_GOAL * small.cpu()),
        limit: format!(
            "at most {RESIDENT_GOAL} times that without ({:.2} ms)",
            small.cpu()
        ),
        agreement: format!("tier {}", large.tier),
        rounds: plan.rounds,
        ..Row::alone("ms", large.cpu())
    }])
}

#[derive(Deserialize)]
struct Served {
    per_s: f64,
    p50_s: f64,
    p99_s: f64,
    ok: usize,
    body: String,
}

#[derive(Deserialize)]
struct Executed {
    tier: String,
}

/// `POST /v1/exec` of `true` to the server as it is shipped, by several clients at once.
pub(super) fn http(sides: &mut Sides<'_>, plan: Plan) -> Result<Vec<Row>> {
    let mut cargo = command::cargo(sides.root);
    cargo.args([
        "build",
        "--quiet",
        "--locked",
        "--release",
        "--package",
        "aion-machine-server",
    ]);
    let programs = command::executables(cargo.args(["--message-format", "json"]))?;
    let program = programs
        .iter()
        .find(|program| program.ends_with("aion-machine-server"));
    let program = program.ok_or_else(|| Error::Missing("the path of aion-machine-server".to_owned()))?;
    let dir = sides.scratch.path().join("http");
    std::fs::create_dir_all(&dir).map_err(|source| Error::File {
        path: dir.clone(),
        source,
    })?;
    let mut server = Server::start(program, &dir)?;
    let ask = |sides: &mut Sides<'_>, server: &Server, requests: usize| {
        let body = json!({ "argv": ["true"] }).to_string();
        let address = server.url().trim_start_matches("http://");
        sides.ours.ask::<Served>(&json!({
            "do": "post", "address": address, "path": "/v1/exec", "body": body, "clients": HTTP_CLIENTS,
            "requests": requests,
        }))
    };
    server.wait(PATIENCE)?;
    ask(sides, &server, HTTP_CLIENTS)?;
    let (mut per_s, mut p50, mut p99, mut tier) = (Vec::new(), Vec::new(), Vec::new(), String::new());
    for _ in 0..plan.rounds.min(5) {
        let served = ask(sides, &server, plan.requests)?;
        if served.ok < plan.requests {
            let said = format!("{} of {} answers 200: {}", served.ok, plan.requests, served.body);
            return Err(Error::Missing(said));
        }
        let done: Executed = serde_json::from_str(&served.body).map_err(|source| Error::Json {
            command: "the answer of the server".to_owned(),
            source,
        })?;
        tier = done.tier;
        per_s.push(served.per_s);
        p50.push(served.p50_s * 1e3);
        p99.push(served.p99_s * 1e3);
    }
    let rate = median(&per_s).unwrap_or(f64::NAN);
    Ok(vec![Row {
        work: format!("exec of `true` over HTTP, {HTTP_CLIENTS} at once"),
        kept: Some(rate >= HTTP_GOAL && tier.eq_ignore_ascii_case(FULL_JAIL)),
        limit: format!("at least {HTTP_GOAL}/s at {FULL_JAIL}"),
        agreement: format!(
            "tier {tier}; p50 {:.1} ms, p99 {:.1} ms",
            median(&p50).unwrap_or(f64::NAN),
            median(&p99).unwrap_or(f64::NAN)
        ),
        threads: HTTP_CLIENTS,
        rounds: per_s.len(),
        ..Row::alone("1/s", rate)
    }])
}
