//! Ours and its peers take turns at the same jobs.

use indicatif::ProgressBar;
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::Plan;
use super::programs::{Program, Programs, turn};
use crate::peers::row::{Better, Row, median, ratio};
use crate::{Error, Result};

/// Bytes of a payload.
const PAYLOAD: usize = 1_024;

/// A work, with ours and its peers.
pub(super) struct Contest {
    pub(super) name: &'static str,
    work: &'static str,
    ours: &'static [(&'static str, &'static str)],
    workers: usize,
    /// What ours must reach by itself, in jobs a second.
    floor: Option<f64>,
    on_postgres: Postgres,
    peers: &'static [Peer],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Postgres {
    Needed,
    Unused,
}

/// Somebody to be faster than.
struct Peer {
    program: Program,
    ask: &'static [(&'static str, &'static str)],
    workers: usize,
    /// How many times as fast ours should be.
    goal: f64,
}

pub(super) const CONTESTS: [Contest; 3] = [
    Contest {
        name: "sqlite-normal",
        work: "SQLite NORMAL: complete and claim, 64 workers",
        ours: &[("cycles", "sqlite"), ("durability", "process")],
        workers: 64,
        floor: Some(20_000.0),
        on_postgres: Postgres::Unused,
        peers: &[
            Peer {
                program: Program::Ours,
                ask: &[("cycles", "sqlite"), ("durability", "process"), ("step", "apart")],
                workers: 64,
                goal: 1.0,
            },
            Peer {
                program: Program::Queues,
                ask: &[("peer", "apalis_sqlite")],
                workers: 64,
                goal: 20.0,
            },
            Peer {
                program: Program::Python,
                ask: &[("peer", "honker")],
                workers: 1,
                goal: 3.0,
            },
            Peer {
                program: Program::Python,
                ask: &[("peer", "honker_batch")],
                workers: 1,
                goal: 0.8,
            },
        ],
    },
    Contest {
        name: "sqlite-full",
        work: "SQLite FULL: complete and claim, 64 workers",
        ours: &[("cycles", "sqlite"), ("durability", "power")],
        workers: 64,
        floor: None,
        on_postgres: Postgres::Unused,
        peers: &[
            Peer {
                program: Program::Ours,
                ask: &[("cycles", "sqlite"), ("durability", "power"), ("step", "apart")],
                workers: 64,
                goal: 1.0,
            },
            Peer {
                program: Program::Ours,
                ask: &[
                    ("cycles", "sqlite_unbatched"),
                    ("durability", "power"),
                    ("step", "apart"),
                ],
                workers: 64,
                goal: 20.0,
            },
            Peer {
                program: Program::Effectum,
                ask: &[],
                workers: 64,
                goal: 5.0,
            },
        ],
    },
    Contest {
        name: "postgres",
        work: "Postgres, synchronous_commit on: complete and claim, 64 workers",
        ours: &[("cycles", "postgres"), ("durability", "power")],
        workers: 64,
        floor: None,
        on_postgres: Postgres::Needed,
        peers: &[
            Peer {
                program: Program::Ours,
                ask: &[("cycles", "postgres"), ("durability", "power"), ("step", "apart")],
                workers: 64,
                goal: 1.0,
            },
            Peer {
                program: Program::Queues,
                ask: &[("peer", "graphile")],
                workers: 64,
                goal: 1.0,
            },
            Peer {
                program: Program::Queues,
                ask: &[("peer", "skip_locked")],
                workers: 8,
                goal: 10.0,
            },
            Peer {
                program: Program::Python,
                ask: &[("peer", "procrastinate")],
                workers: 64,
                goal: 50.0,
            },
        ],
    },
];

/// What a side did in a turn.
#[derive(Debug, Clone, Deserialize)]
struct Ran {
    label: String,
    done: usize,
    seconds: f64,
    bytes: usize,
    p99_ms: Option<f64>,
}

/// The turns of a side, or why there are no more.
#[derive(Default)]
struct Turns {
    rates: Vec<f64>,
    p99_ms: Vec<f64>,
    label: String,
    agreement: String,
    failed: Option<String>,
}

impl Contest {
    pub(super) fn turns(&self, plan: Plan) -> usize {
        (self.peers.len() + 1) * plan.rounds
    }

    /// The sides: ours first.
    fn sides(&self) -> Vec<Peer> {
        let ours = Peer {
            program: Program::Ours,
            ask: self.ours,
            workers: self.workers,
            goal: 1.0,
        };
        let peers = self.peers.iter().map(|peer| Peer { ..*peer });
        std::iter::once(ours).chain(peers).collect()
    }
}

/// Where contests are held.
pub(super) struct Ring<'a> {
    pub(super) plan: Plan,
    pub(super) scratch: &'a TempDir,
    pub(super) bar: &'a ProgressBar,
    /// What a durable write costs here now.
    pub(super) fsync_us: f64,
}

impl Ring<'_> {
    /// A row for each peer, in which a failure is said in words.
    pub(super) fn hold(&self, contest: &Contest, programs: &mut Programs) -> Result<Vec<Row>> {
        self.bar.set_message(contest.name);
        let sides = contest.sides();
        let mut turns: Vec<Turns> = sides.iter().map(|_| Turns::default()).collect();
        for round in 0..self.plan.rounds {
            for at in 0..sides.len() {
                // Another one begins each time.
                let at = (at + round) % sides.len();
                if turns[at].failed.is_none() {
                    match self.turn(contest, &sides[at], programs) {
                        Ok(ran) => turns[at].add(&ran, self.plan),
                        Err(error) if at == 0 && contest.on_postgres == Postgres::Unused => {
                            return Err(error);
                        }
                        Err(error) => turns[at].failed = Some(words(&error)),
                    }
                }
                self.bar.inc(1);
            }
        }
        let ours = &turns[0];
        Ok(sides[1..]
            .iter()
            .zip(&turns[1..])
            .map(|(peer, theirs)| self.row(contest, peer, ours, theirs))
            .collect())
    }

    fn turn(&self, contest: &Contest, side: &Peer, programs: &mut Programs) -> Result<Ran> {
        let dir = turn(self.scratch)?;
        let mut request = json!({
            "dir": dir.path(),
            "jobs": self.plan.jobs,
            "payload": PAYLOAD,
            "workers": side.workers,
            "most_s": self.plan.most_s,
        });
        for (name, value) in side.ask {
            request[*name] = Value::from(*value);
        }
        if contest.on_postgres == Postgres::Unused {
            return programs.ask(side.program, &request);
        }
        let url = programs.make_database()?;
        request["url"] = url
            .ok_or_else(|| Error::Missing("a PostgreSQL server: AION_TEST_POSTGRES names none".to_owned()))?
            .into();
        let ran = programs.ask(side.program, &request);
        programs.drop_database()?;
        ran
    }

    fn row(&self, contest: &Contest, peer: &Peer, ours: &Turns, theirs: &Turns) -> Row {
        let rate = |turns: &Turns| median(&turns.rates);
        let (our_rate, their_rate) = (rate(ours), rate(theirs));
        let both = our_rate.zip(their_rate);
        let gain = both.map(|(ours, theirs)| ratio(Better::Higher, ours, theirs));
        let floor = contest
            .floor
            .is_none_or(|floor| our_rate.is_some_and(|rate| rate >= floor));
        Row {
            work: contest.work.to_owned(),
            unit: "cycles/s",
            ours: our_rate.unwrap_or(f64::NAN),
            peer: if theirs.label.is_empty() {
                named(peer)
            } else {
                theirs.label.clone()
            },
            theirs: their_rate,
            ratio: gain,
            goal_ratio: Some(peer.goal),
            kept: Some(floor && gain.is_some_and(|gain| gain >= peer.goal)),
            limit: self.limit(contest, ours, theirs),
            agreement: format!("ours {}; theirs {}", ours.agreement, theirs.agreement),
            threads: contest.workers,
            rounds: theirs.rates.len(),
        }
    }

    fn limit(&self, contest: &Contest, ours: &Turns, theirs: &Turns) -> String {
        let mut words = vec![format!("fdatasync p50 {:.0} us", self.fsync_us)];
        words.extend(contest.floor.map(|floor| format!("at least {floor:.0}")));
        words.extend(median(&ours.p99_ms).map(|ms| format!("p99 of a cycle {ms:.1} ms")));
        words.extend(ours.failed.iter().map(|why| format!("ours FAILED: {why}")));
        words.extend(theirs.failed.iter().map(|why| format!("theirs FAILED: {why}")));
        words.join("; ")
    }
}

impl Turns {
    fn add(&mut self, ran: &Ran, plan: Plan) {
        let whole = ran.done == plan.jobs;
        self.rates.push(ran.done as f64 / ran.seconds);
        self.p99_ms.extend(ran.p99_ms);
        self.label.clone_from(&ran.label);
        self.agreement = format!("{} of {} done", ran.done, plan.jobs);
        if whole && ran.bytes != plan.jobs * PAYLOAD {
            self.failed = Some(format!(
                "handlers saw {} bytes, not {}",
                ran.bytes,
                plan.jobs * PAYLOAD
            ));
        }
        if !whole && ran.seconds < plan.most_s {
            self.failed = Some(format!("{} jobs were lost", plan.jobs - ran.done));
        }
    }
}

fn named(peer: &Peer) -> String {
    let name = peer.ask.first().map_or("effectum", |(_, name)| *name);
    name.to_owned()
}

/// An error with its causes, in one line.
pub(super) fn words(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text.split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .chars()
        .take(300)
        .collect()
}
