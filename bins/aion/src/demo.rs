//! `aion demo`: six small real tasks with honest checks, and what the market said of them beforehand.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use aion_loop::{Budget, ChatModel, ExportOptions, MarketTraces, Redactor, SharedObserver, export, gather};
use aion_market::Market;
use aion_types::{Bits, MarketTrace, TaskId};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::node::Node;
use crate::run::{self, RunOutcome, RunReport, RunRequest, Style};
use crate::{Error, Result, terminal};

/// A task of the demo: its files are part of this program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DemoTask {
    /// Its name.
    pub name: &'static str,
    /// What is asked.
    pub goal: &'static str,
    /// The command that decides. POSIX shell, nothing of it is shown to the model.
    pub check: &'static str,
    /// Its files: name and content.
    pub files: &'static [(&'static str, &'static str)],
}

macro_rules! file {
    ($dir:literal, $name:literal) => {
        ($name, include_str!(concat!("../demo/", $dir, "/", $name)))
    };
}

/// The six tasks, in their order.
pub const TASKS: [DemoTask; 6] = [
    DemoTask {
        name: "summarise",
        goal: "Write summary.md: one short sentence that sums up notes.txt.",
        check: "words=$(wc -w < summary.md) && [ $words -ge 5 ] && [ $words -le 40 ] && grep -qi club summary.md \
            && grep -qiE 'market|tables' summary.md || { echo 'summary.md: 5 to 40 words on the club and its market'; exit 1; }",
        files: &[file!("summarise", "notes.txt")],
    },
    DemoTask {
        name: "rename-key",
        goal: "Edit config.json: rename \"colour\" to \"color\".",
        check: "grep -q '\"color\": \"green\"' config.json && ! grep -q colour config.json \
            && grep -q '\"title\": \"Field notes\"' config.json && grep -q '\"pages\": 12' config.json \
            || { echo 'config.json: the key color with its old value, and nothing else changed'; exit 1; }",
        files: &[file!("rename_key", "config.json")],
    },
    DemoTask {
        name: "emails",
        goal: "Write emails.csv: every e-mail address of contacts.txt, one a line.",
        check: "want=$(grep -oE '[A-Za-z0-9._-]+@[A-Za-z0-9.-]+[A-Za-z]' contacts.txt | sort) && have=$(sort emails.csv) \
            && [ \"$want\" = \"$have\" ] || { echo 'emails.csv: exactly the addresses of contacts.txt'; exit 1; }",
        files: &[file!("emails", "contacts.txt")],
    },
    DemoTask {
        name: "readme",
        goal: "Write README.md: a line for each file that says what it does.",
        check: "for f in *.sh; do grep -qF \"$f\" README.md || { echo \"README.md does not name $f\"; exit 1; }; done; \
            [ $(wc -w < README.md) -ge 8 ] || { echo 'README.md says too little'; exit 1; }",
        files: &[file!("readme", "count.sh"), file!("readme", "list.sh")],
    },
    DemoTask {
        name: "fix-script",
        goal: "Edit greet.sh: correct the misspelt command.",
        check: "[ \"$(sh greet.sh Ada)\" = 'Hello, Ada!' ] || { echo 'greet.sh does not greet'; exit 1; }",
        files: &[file!("fix_script", "greet.sh")],
    },
    DemoTask {
        name: "impossible",
        goal: "Write answer.txt: the answer to question.txt, as a number.",
        check: "n=$(cat answer.txt) && [ \"$n\" -ge 1 ] && [ \"$n\" -le 3 ] && [ $((n * n)) -eq 7 ] \
            || { echo 'no such number'; exit 1; }",
        files: &[file!("impossible", "question.txt")],
    },
];

/// How the demo runs.
#[derive(Debug, Clone)]
pub struct DemoOptions {
    /// Only this task.
    pub only: Option<String>,
    /// How the model is asked.
    pub style: Style,
    /// Seed of the first task; the others count on from it.
    pub seed: u64,
    /// What each task may use.
    pub budget: Budget,
}

impl Default for DemoOptions {
    fn default() -> Self {
        Self {
            only: None,
            style: Style::Small,
            seed: 1,
            budget: Budget {
                tokens: 6_000,
                steps: 6,
                seconds: 120,
            },
        }
    }
}

/// What came of the demo.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DemoReport {
    /// Each task's story.
    pub runs: Vec<RunReport>,
    /// Mean of `log2` of the probability that the price gave, before the work began, to what then
    /// happened; -1 is chance. Nothing if no task ended.
    pub mean_log_score: Option<Bits>,
    /// Tasks of this data directory that had ended before.
    pub known_before: u64,
    /// Training text: files and their lines.
    pub traces: Vec<(PathBuf, usize)>,
    /// Milliseconds in all.
    pub total_ms: u64,
}

/// Runs the tasks one after the other and writes the traces.
///
/// # Errors
/// [`Error::BadInput`] for an unknown task; whatever breaks a task off.
pub async fn demo(
    node: &Node,
    model: &Arc<dyn ChatModel>,
    options: &DemoOptions,
    watcher: &dyn Fn(&DemoTask) -> Option<SharedObserver>,
    pause: &CancellationToken,
) -> Result<DemoReport> {
    let began = Instant::now();
    let tasks = chosen(options.only.as_deref())?;
    let known_before = ended(node).await?;
    let mut runs = Vec::new();
    for (i, task) in tasks.into_iter().enumerate() {
        if pause.is_cancelled() {
            break;
        }
        let dir = lay_out(&node.data().join("demo"), task)?;
        let request = RunRequest::new(task.goal, dir, task.check)
            .with_kind(format!("demo.{}", task.name))
            .with_style(options.style)
            .with_budget(options.budget)
            .with_seed(options.seed + known_before + i as u64);
        let id = run::create(node, &request).await?;
        runs.push(run::work(node, id, model, watcher(task), pause).await?);
    }
    let traces = write_traces(node).await?;
    Ok(DemoReport {
        mean_log_score: mean_log_score(&runs)?,
        runs,
        known_before,
        traces,
        total_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
    })
}

fn chosen(only: Option<&str>) -> Result<Vec<&'static DemoTask>> {
    let Some(name) = only else {
        return Ok(TASKS.iter().collect());
    };
    let found: Vec<_> = TASKS.iter().filter(|task| task.name == name).collect();
    if found.is_empty() {
        let names: Vec<_> = TASKS.iter().map(|task| task.name).collect();
        return Err(Error::BadInput {
            what: "--only",
            problem: format!("is one of {}", names.join(", ")),
        });
    }
    Ok(found)
}

/// Writes the files of a task, as they were shipped.
fn lay_out(root: &Path, task: &DemoTask) -> Result<PathBuf> {
    let dir = root.join(task.name);
    fs::create_dir_all(&dir).map_err(|e| Error::io("create", &dir, e))?;
    for (name, content) in task.files {
        let path = dir.join(name);
        fs::write(&path, content).map_err(|e| Error::io("write", &path, e))?;
    }
    Ok(dir)
}

async fn ended(node: &Node) -> Result<u64> {
    let counts = node.processor().counts().await?;
    Ok(counts.of(aion_types::Status::Completed) + counts.of(aion_types::Status::Failed))
}

/// The mean log score of the prices before the work began.
fn mean_log_score(runs: &[RunReport]) -> Result<Option<Bits>> {
    let scores: Vec<f64> = runs
        .iter()
        .filter_map(|run| {
            let p = run.p_before?.get();
            match run.outcome {
                RunOutcome::Success => Some(p.log2()),
                RunOutcome::Failed => Some((1.0 - p).log2()),
                RunOutcome::Cancelled | RunOutcome::Paused => None,
            }
        })
        .collect();
    if scores.is_empty() {
        return Ok(None);
    }
    let mean = scores.iter().sum::<f64>() / scores.len() as f64;
    Ok(Some(Bits::new(mean)?))
}

/// Exports every resolved task of the data directory as training text.
///
/// # Errors
/// A failure of a store or of the file system.
pub async fn write_traces(node: &Node) -> Result<Vec<(PathBuf, usize)>> {
    let markets = Traces(node.market().clone());
    let resolved = gather(node.processor(), node.runs().as_ref(), Some(&markets)).await?;
    let dir = node.data().join("traces");
    let options = ExportOptions::default().with_redactor(Redactor::default().with_values(keys()));
    let files = export(resolved, &options)
        .write(&dir)
        .map_err(|e| Error::io("write", &dir, e))?;
    Ok(vec![files.train, files.val, files.replay])
}

/// The keys of this process, which no trace may hold.
fn keys() -> Vec<String> {
    let is_key = |name: &str| {
        ["_KEY", "_TOKEN", "_SECRET", "_PASSWORD"]
            .iter()
            .any(|end| name.ends_with(end))
    };
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| is_key(name))
        .map(|(_, value)| value)
        .collect()
}

struct Traces(Market);

#[async_trait]
impl MarketTraces for Traces {
    async fn market_trace(&self, task: TaskId) -> Option<MarketTrace> {
        let view = self.0.of_task(task).await.ok().flatten()?;
        self.0.report(view.id).await.ok()?.trace()
    }
}

/// The table at the end.
pub fn as_text(report: &DemoReport) -> String {
    let mut rows = vec![
        [
            "task", "outcome", "p before", "p after", "R_T", "bits", "steps", "tokens", "seconds",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    rows.extend(report.runs.iter().map(row));
    let mut text = terminal::table(&rows);
    if let Some(score) = report.mean_log_score {
        let known = report.known_before;
        text.push_str(&format!(
            "\nmean log score of the prices beforehand: {:.3} bits (chance: -1.000; {known} tasks had ended before)\n",
            score.get()
        ));
    }
    for (path, lines) in &report.traces {
        text.push_str(&format!("{} ({lines} lines)\n", path.display()));
    }
    text.push_str(&format!("{:.1} s in all", report.total_ms as f64 / 1e3));
    text
}

fn row(run: &RunReport) -> Vec<String> {
    let number = |x: Option<f64>| x.map_or_else(|| "-".to_owned(), |x| format!("{x:.3}"));
    vec![
        run.kind.trim_start_matches("demo.").to_owned(),
        crate::render::outcome_word(run.outcome).to_owned(),
        number(run.p_before.map(aion_types::Prob::get)),
        number(run.p_after.map(aion_types::Prob::get)),
        number(run.persistence.map(|p| p.ratio)),
        number(run.kl_bits.map(Bits::get)),
        run.model_calls.to_string(),
        run.tokens.to_string(),
        format!("{:.1}", run.work_ms as f64 / 1e3),
    ]
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn passes(dir: &Path, check: &str) -> bool {
        Command::new("/bin/sh")
            .args(["-c", check])
            .current_dir(dir)
            .output()
            .unwrap()
            .status
            .success()
    }

    /// Every check fails on the files as they are shipped, and passes on a right answer where there
    /// is one.
    #[test]
    fn the_checks_can_fail_and_can_pass() {
        let right = [
            (
                "summarise",
                "summary.md",
                "The garden club needs six tables for its spring market.",
            ),
            (
                "rename-key",
                "config.json",
                "{\n  \"title\": \"Field notes\",\n  \"color\": \"green\",\n  \"pages\": 12\n}\n",
            ),
            ("emails", "emails.csv", "grace@example.com\nada@example.org\n"),
            (
                "readme",
                "README.md",
                "count.sh: counts the lines of a file\nlist.sh: lists the files of a folder\n",
            ),
            ("fix-script", "greet.sh", "echo \"Hello, $1!\"\n"),
        ];
        let root = tempfile::tempdir().unwrap();
        for task in &TASKS {
            let dir = lay_out(root.path(), task).unwrap();
            assert!(!passes(&dir, task.check), "{} passes before any work", task.name);
        }
        for (name, file, content) in right {
            let task = TASKS.iter().find(|task| task.name == name).unwrap();
            let dir = root.path().join(name);
            fs::write(dir.join(file), content).unwrap();
            assert!(passes(&dir, task.check), "{name} fails with a right answer");
        }
        for n in ["1", "2", "3", "2.65", "7", "x"] {
            fs::write(root.path().join("impossible/answer.txt"), n).unwrap();
            assert!(!passes(&root.path().join("impossible"), TASKS[5].check), "{n}");
        }
    }

    #[test]
    fn an_unknown_task_is_named() {
        let error = chosen(Some("nope")).unwrap_err();
        assert!(error.to_string().contains("fix-script"), "{error}");
    }
}
