//! The program of `cargo xtask soak`: workers that are killed again and again, while the store is watched.
//!
//! `soak run` starts `soak work` as a process of its own, kills it, opens the store and holds it against what the
//! workers were promised ([`Audit`]). Every tenth life is long enough to see the store at a steady load. Tasks that
//! ended before the last audit are removed all the while, so that neither file nor memory may grow.
#![allow(clippy::print_stdout)] // this is a terminal program

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use aion_processor::testkit::endurance::{Audit, Notes, Report, Work, settled, sound};
use aion_processor::{
    Durability, PostgresOptions, PostgresTaskStore, Processor, SqliteOptions, SqliteTaskStore,
};
use aion_types::{Clock, SystemClock, Timestamp};
use clap::{Args, Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

type Failure = Box<dyn std::error::Error>;

/// Leases of the workers.
const LEASE_MS: u64 = 200;
/// How often the worker's process is looked at.
const LOOK: Duration = Duration::from_millis(250);
/// One life in so many is long.
const LONG_LIFE: u64 = 10;
/// Lives between two audits.
const AUDIT: u64 = 5;
/// Audits between two readings of the whole log.
const READ_LOG: u64 = 4;
/// One life in so many, the server dies as well.
const SERVER_DIES: u64 = 4;

#[derive(Debug, Parser)]
#[command(
    name = "soak",
    about = "Kill workers for hours and see that the store keeps its promises"
)]
struct Cli {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Kill, audit, report
    Run(Run),
    /// Work until killed
    Work(Place),
}

#[derive(Debug, Args)]
struct Run {
    /// How long it goes on
    #[arg(long, default_value_t = 5.0)]
    minutes: f64,
    /// A database's URL; without it a file is used
    #[arg(long)]
    url: Option<String>,
    /// A command that kills the database's server and starts it again
    #[arg(long, num_args = 1.., requires = "url")]
    kill_server: Vec<String>,
    /// One JSON document at the end instead of words
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Args)]
struct Place {
    /// Where notes are kept, and the file if there is no URL
    directory: PathBuf,
    /// A database's URL
    #[arg(long)]
    url: Option<String>,
    /// Remove trees that ended before this moment, in milliseconds since 1970
    #[arg(long, default_value_t = 0)]
    before_ms: i64,
}

impl Place {
    fn notes(&self) -> PathBuf {
        self.directory.join("notes")
    }

    fn file(&self) -> PathBuf {
        self.directory.join("processor.db")
    }

    async fn open(&self) -> Result<Processor, aion_processor::Error> {
        match &self.url {
            Some(url) => {
                let options = PostgresOptions::default().with_durability(Durability::Power);
                Ok(Processor::new(PostgresTaskStore::open(url, options).await?))
            }
            None => {
                let store = SqliteTaskStore::open(self.file(), SqliteOptions::default()).await?;
                Ok(Processor::new(store))
            }
        }
    }

    fn spawn(&self) -> std::io::Result<Child> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("work").arg(&self.directory);
        command.arg("--before-ms").arg(self.before_ms.to_string());
        command.args(self.url.iter().flat_map(|url| ["--url", url.as_str()]));
        command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()
    }
}

/// What was seen.
#[derive(Debug, Default, Serialize)]
struct Seen {
    store: &'static str,
    seconds: f64,
    kills: u64,
    server_kills: u64,
    audits: u64,
    acknowledged: u64,
    completed: u64,
    unanswered_there: u64,
    unanswered_absent: u64,
    /// Promises that were not kept: must be 0.
    lost: usize,
    faults: Vec<String>,
    rss_mib_max: f64,
    wal_mib_max: f64,
    /// Size of the database after a third of the time, and at the end.
    store_mib_third: f64,
    store_mib_end: f64,
    tasks_end: u64,
}

impl Seen {
    fn add(&mut self, report: Report) {
        self.audits += 1;
        self.acknowledged += report.acknowledged;
        self.completed += report.completed;
        self.unanswered_there += report.unanswered_there;
        self.unanswered_absent += report.unanswered_absent;
        self.faults.extend(report.faults);
        self.lost = self.faults.len();
    }

    fn fault(&mut self, fault: Option<String>) {
        self.faults.extend(fault);
        self.lost = self.faults.len();
    }

    fn line(&self) -> String {
        let Self {
            kills,
            server_kills,
            acknowledged,
            lost,
            rss_mib_max,
            wal_mib_max,
            store_mib_end,
            ..
        } = self;
        format!(
            "{kills} kills, {server_kills} of the server, {acknowledged} acknowledged, {lost} lost; \
             rss <= {rss_mib_max:.0} MiB, wal <= {wal_mib_max:.1} MiB, store {store_mib_end:.1} MiB"
        )
    }
}

struct Soak {
    place: Place,
    kill_server: Vec<String>,
    audit: Audit,
    seen: Seen,
    began: Instant,
    length: Duration,
    bar: ProgressBar,
}

impl Soak {
    async fn go(&mut self) -> Result<(), Failure> {
        let mut life = 0_u64;
        while self.began.elapsed() < self.length && self.seen.lost == 0 {
            life += 1;
            self.live(life)?;
            if life.is_multiple_of(AUDIT) {
                self.check().await?;
            }
        }
        self.check().await?;
        self.seen.seconds = self.began.elapsed().as_secs_f64();
        self.bar.finish_and_clear();
        Ok(())
    }

    /// One life of the workers, from start to kill.
    fn live(&mut self, life: u64) -> Result<(), Failure> {
        let long = life.is_multiple_of(LONG_LIFE);
        let length = Duration::from_millis(if long { 15_000 } else { 200 + life * 373 % 1_500 });
        let mut child = self.place.spawn()?;
        let began = Instant::now();
        let mut server_may_die = life.is_multiple_of(SERVER_DIES) && !self.kill_server.is_empty();
        while began.elapsed() < length && (self.began.elapsed() < self.length || !long) {
            std::thread::sleep(LOOK.min(length));
            self.measure(child.id());
            if std::mem::take(&mut server_may_die) {
                self.crash_server()?;
            }
            if let Some(status) = child.try_wait()? {
                self.seen
                    .fault(Some(format!("the workers ended by themselves: {status}")));
                return Ok(());
            }
        }
        child.kill()?;
        child.wait()?;
        self.seen.kills += 1;
        self.show();
        Ok(())
    }

    fn crash_server(&mut self) -> Result<(), Failure> {
        let (program, args) = self.kill_server.split_first().ok_or("no command")?;
        let status = Command::new(program).args(args).stdin(Stdio::null()).status()?;
        if !status.success() {
            return Err(format!("{program} failed: {status}").into());
        }
        self.seen.server_kills += 1;
        Ok(())
    }

    fn measure(&mut self, process: u32) {
        let seen = &mut self.seen;
        seen.rss_mib_max = seen.rss_mib_max.max(rss_mib(process).unwrap_or(0.0));
        let mut wal = self.place.file().into_os_string();
        wal.push("-wal");
        seen.wal_mib_max = seen.wal_mib_max.max(size_mib(Path::new(&wal)));
        self.show();
    }

    fn show(&self) {
        let gone = self.began.elapsed().min(self.length);
        self.bar.set_position(gone.as_secs());
        self.bar.set_message(self.seen.line());
    }

    /// Opens the store and holds it against the notes, which then begin anew.
    async fn check(&mut self) -> Result<(), Failure> {
        let processor = self.place.open().await?;
        let notes = std::fs::read_to_string(self.place.notes()).unwrap_or_default();
        let before = SystemClock.now();
        let report = self.audit.check(&processor, &notes).await?;
        self.seen.add(report);
        tokio::time::sleep(Duration::from_millis(LEASE_MS)).await;
        self.seen.fault(settled(&processor).await?);
        if self.seen.audits % READ_LOG == 1 {
            self.seen.fault(sound(&processor).await?);
        }
        let metrics = processor.metrics().await?;
        self.seen.store_mib_end = metrics.bytes as f64 / MIB;
        if self.began.elapsed() < self.length / 3 || self.seen.store_mib_third == 0.0 {
            self.seen.store_mib_third = self.seen.store_mib_end;
        }
        self.seen.tasks_end = processor.counts().await?.0.iter().sum();
        // Nobody works now, so nothing is noted meanwhile.
        std::fs::write(self.place.notes(), "")?;
        self.place.before_ms = before.as_ms();
        self.show();
        Ok(())
    }
}

const MIB: f64 = 1_048_576.0;

fn size_mib(path: &Path) -> f64 {
    std::fs::metadata(path).map_or(0.0, |file| file.len() as f64 / MIB)
}

/// Memory of a process, where the system tells.
fn rss_mib(process: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1_024.0)
}

fn bar(length: Duration) -> ProgressBar {
    let bar = ProgressBar::new(length.as_secs());
    let style = ProgressStyle::with_template("{elapsed_precise} [{bar:30}] {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

async fn run(args: Run) -> Result<bool, Failure> {
    let directory = tempfile::tempdir()?;
    let length = Duration::from_secs_f64(args.minutes * 60.0);
    let store = if args.url.is_some() { "postgres" } else { "sqlite" };
    let mut soak = Soak {
        place: Place {
            directory: directory.path().to_owned(),
            url: args.url,
            before_ms: 0,
        },
        kill_server: args.kill_server,
        audit: Audit::new(),
        seen: Seen {
            store,
            ..Seen::default()
        },
        began: Instant::now(),
        length,
        bar: bar(length),
    };
    soak.go().await?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&soak.seen)?);
    } else {
        println!("{store}: {} in {:.0} s", soak.seen.line(), soak.seen.seconds);
        for fault in &soak.seen.faults {
            println!("LOST: {fault}");
        }
    }
    Ok(soak.seen.lost == 0)
}

async fn work(place: Place) -> Result<bool, Failure> {
    let processor = place.open().await?;
    let notes = Notes::open(&place.notes())?;
    let mut work = Work::default().with_workers(16).with_lease_ms(LEASE_MS);
    if place.before_ms > 0 {
        work = work.with_removal_before(Timestamp::from_ms(place.before_ms));
    }
    work.run(&processor, &notes).await?;
    Ok(true)
}

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    let done = match Cli::parse().what {
        What::Run(args) => run(args).await,
        What::Work(place) => work(place).await,
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("soak: {error}");
            ExitCode::from(2)
        }
    }
}
