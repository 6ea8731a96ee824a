//! Prompts that a model of a hundred million parameters can follow.
//!
//! Such a model does not choose tools and does not plan: it continues patterns. So its prompt is a
//! pattern. The files that the goal names stand in it, worked examples of the same tool come before
//! it, nearest to the goal last, and the grammar leaves open only what is to be decided: the tool is
//! the ranker's first choice, paths are those that the goal names, and an edit replaces a word that
//! its file has once. Every answer is still checked
//! against the tool's own schema by the loop, and a check decides about the task.

mod examples;
mod grammar;

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::Arc;

use aion_loop::{ChatMessage, ChatModel, ChatReply, ChatRequest, FINISH, ModelError, ToolRanker, Toolset};
use aion_machine::{ReadOptions, RelPath, Workspace};
use aion_types::Role;
use async_trait::async_trait;

use examples::Example;
use grammar::Open;

const SYSTEM: &str = "You work on files. Answer with one action as JSON.";
/// Bytes of examples in a prompt.
const EXAMPLE_BYTES: usize = 800;
/// Files in a prompt when the goal names none that is there.
const MAX_FILES: usize = 4;
/// Words that an edit may choose from.
const MAX_WORDS: usize = 100;
/// Bytes of each file in a prompt.
const MAX_FILE_BYTES: usize = 700;

/// A model whose prompts are built for it from the goal and the files of one task.
#[derive(Debug)]
pub struct SmallModel {
    inner: Arc<dyn ChatModel>,
    goal: String,
    work: Arc<dyn Workspace>,
    original: BTreeSet<String>,
}

impl SmallModel {
    /// Asks `inner` about `goal`, with the files of `work`; `original` are those it began with.
    /// Files are read through the machine: what a task makes of them cannot lead out of its directory.
    pub fn new(
        inner: Arc<dyn ChatModel>,
        goal: impl Into<String>,
        work: Arc<dyn Workspace>,
        original: BTreeSet<String>,
    ) -> Self {
        Self {
            inner,
            goal: goal.into(),
            work,
            original,
        }
    }

    /// The request as the model sees it.
    async fn reshape(&self, request: &ChatRequest) -> ChatRequest {
        let Some(asked) = &request.response_schema else {
            return request.clone();
        };
        let choice = grammar::first_choice(&asked.schema, FINISH);
        let tool = choice.as_ref().map_or("", |choice| choice.tool.as_str());
        let mut messages = vec![ChatMessage::new(Role::System, SYSTEM)];
        for example in examples::nearest(&self.goal, tool, EXAMPLE_BYTES) {
            messages.push(ChatMessage::new(
                Role::User,
                prompt(&example.files, &example.goal),
            ));
            messages.push(ChatMessage::new(Role::Assistant, example.answer()));
        }
        messages.push(ChatMessage::new(
            Role::User,
            prompt(&self.files().await, &self.goal),
        ));
        let mut shaped = ChatRequest {
            messages,
            seed: Some(varied(request)),
            ..request.clone()
        };
        if let (Some(schema), Some(choice)) = (&mut shaped.response_schema, &choice) {
            let paths = self.paths(tool);
            let words = self.words(&paths).await;
            schema.schema = choice.narrowed(&Open { paths, words });
        }
        shaped
    }

    /// The files that the goal names, or the first few.
    async fn files(&self) -> Vec<(String, String)> {
        let named: Vec<String> = names_in(&self.goal)
            .into_iter()
            .filter(|name| self.original.contains(name))
            .collect();
        let shown: Vec<&String> = if named.is_empty() {
            self.original.iter().take(MAX_FILES).collect()
        } else {
            named.iter().take(MAX_FILES).collect()
        };
        let mut files = Vec::new();
        for name in shown {
            files.push((name.clone(), self.head(name).await));
        }
        files
    }

    /// The beginning of a file; nothing of what is no regular file of the task's directory.
    async fn head(&self, name: &str) -> String {
        let Ok(path) = RelPath::parse(name) else {
            return String::new();
        };
        let options = ReadOptions::default().with_max_bytes(MAX_FILE_BYTES);
        match self.work.read(&path, options).await {
            Ok(read) => read.text_lossy(),
            Err(_) => String::new(),
        }
    }

    /// Where a tool may go: to new files that the goal names when it writes, to old ones otherwise.
    fn paths(&self, tool: &str) -> Vec<String> {
        let named = names_in(&self.goal);
        let wants_new = tool == "write_file";
        let fitting: Vec<String> = named
            .iter()
            .filter(|name| self.original.contains(*name) != wants_new)
            .cloned()
            .collect();
        if fitting.is_empty() { named } else { fitting }
    }

    /// The words that the one file of `paths` has once: what an edit of it can replace.
    async fn words(&self, paths: &[String]) -> Vec<String> {
        let [path] = paths else { return Vec::new() };
        let text = self.head(path).await;
        let mut words: Vec<String> = Vec::new();
        for word in text.split(|c: char| !c.is_alphanumeric() && c != '_') {
            let once = text.matches(word).count() == 1;
            if word.chars().nth(1).is_some() && once && words.len() < MAX_WORDS {
                words.push(word.to_owned());
            }
        }
        words
    }
}

#[async_trait]
impl ChatModel for SmallModel {
    fn name(&self) -> &str {
        self.inner.name()
    }

    async fn chat(&self, request: &ChatRequest) -> Result<ChatReply, ModelError> {
        self.inner.chat(&self.reshape(request).await).await
    }
}

/// Files, then the goal.
fn prompt(files: &[(String, String)], goal: &str) -> String {
    let mut text = String::new();
    for (name, content) in files {
        text.push_str(&format!("{name}:\n{}\n\n", content.trim_end()));
    }
    text.push_str("Task: ");
    text.push_str(goal);
    text
}

/// A seed that differs from step to step and is the same when a step is repeated.
fn varied(request: &ChatRequest) -> u64 {
    let mut hasher = DefaultHasher::new();
    request.seed.hash(&mut hasher);
    for message in &request.messages {
        message.content.hash(&mut hasher);
    }
    // Servers read seeds as signed 32-bit numbers.
    hasher.finish() & 0x7fff_ffff
}

/// Words of the goal that look like file names.
fn names_in(goal: &str) -> Vec<String> {
    let edge = |c: char| !c.is_alphanumeric() && c != '_' && c != '/';
    let mut names: Vec<String> = Vec::new();
    for word in goal.split_whitespace() {
        let word = word.trim_matches(edge);
        let extension = Path::new(word).extension().and_then(|ext| ext.to_str());
        let looks = extension.is_some_and(|ext| ext.len() <= 8 && ext.chars().all(char::is_alphanumeric));
        let named = word.chars().nth(3).is_some();
        if looks && named && !names.iter().any(|name| name == word) {
            names.push(word.to_owned());
        }
    }
    names
}

/// Prefers the tool whose name the goal begins with: `Edit ...` is for `edit_file`.
#[derive(Debug, Clone, Copy, Default)]
pub struct VerbRanker;

impl ToolRanker for VerbRanker {
    fn rank(&self, query: &str, tools: &Toolset, k: usize) -> Vec<String> {
        let first = query.split_whitespace().next().unwrap_or_default().to_lowercase();
        let fits = |name: &str| name.split('_').next() == Some(first.as_str());
        let mut ranked = aion_loop::OverlapRanker.rank(query, tools, tools.len());
        ranked.sort_by_key(|name| !fits(name));
        ranked.truncate(k);
        ranked
    }
}

impl Example {
    /// The answer as the loop's protocol writes it.
    fn answer(&self) -> String {
        let name = serde_json::Value::from(self.tool.as_str());
        format!("{{\"action\":{name},\"arguments\":{}}}", self.arguments)
    }
}

#[cfg(test)]
mod tests {
    use aion_machine::{LocalMachine, LocalOptions, Machine, WorkspaceSpec};

    use super::*;

    #[test]
    fn file_names_are_found_in_a_goal() {
        let goal = "Write summary.md: what notes.txt and src/main.rs say. See notes.txt.";
        assert_eq!(names_in(goal), ["summary.md", "notes.txt", "src/main.rs"]);
        assert!(names_in("Nothing here e.g. at all ...").is_empty());
    }

    #[test]
    fn repeating_a_step_repeats_its_seed_and_the_next_step_has_another() {
        let request = |text: &str| ChatRequest {
            messages: vec![ChatMessage::new(Role::User, text)],
            seed: Some(7),
            ..ChatRequest::default()
        };
        assert_eq!(varied(&request("a")), varied(&request("a")));
        assert_ne!(varied(&request("a")), varied(&request("b")));
    }

    /// A model that is never asked.
    fn silent() -> Arc<dyn ChatModel> {
        Arc::new(aion_loop::testkit::ScriptedModel::new([]).chat())
    }

    /// A model for `goal` over a fresh directory, which `prepare` fills.
    async fn model(
        goal: &str,
        original: &[&str],
        prepare: impl Fn(&Path),
    ) -> (SmallModel, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        prepare(dir.path());
        let machine = LocalMachine::open_root(dir.path(), LocalOptions::default()).unwrap();
        let work = machine.open(&WorkspaceSpec::new(RelPath::root())).await.unwrap();
        let original = original.iter().map(|name| (*name).to_owned()).collect();
        (SmallModel::new(silent(), goal, work, original), dir)
    }

    #[tokio::test]
    async fn writing_goes_to_new_files_and_editing_to_old_ones() {
        let goal = "Write summary.md: what notes.txt says.";
        let (model, _dir) = model(goal, &["notes.txt"], |_| {}).await;
        assert_eq!(model.paths("write_file"), ["summary.md"]);
        assert_eq!(model.paths("edit_file"), ["notes.txt"]);
    }

    #[tokio::test]
    async fn an_edit_can_replace_what_is_there_once() {
        let script = "#!/bin/sh\nehco \"Hello, $1!\" no no\n";
        let (model, _dir) = model("Edit aa.sh: correct it.", &["aa.sh"], |dir| {
            std::fs::write(dir.join("aa.sh"), script).unwrap();
        })
        .await;
        let words = model.words(&model.paths("edit_file")).await;
        assert_eq!(words, ["bin", "sh", "ehco", "Hello"]);
        let two = ["aa.sh".to_owned(), "bb.sh".to_owned()];
        assert!(model.words(&two).await.is_empty());
    }

    /// A task may turn a file into a link to a secret of the host: nothing of it reaches the prompt.
    #[tokio::test]
    async fn a_link_out_of_the_directory_is_not_read() {
        let away = tempfile::tempdir().unwrap();
        let secret = away.path().join("secret");
        std::fs::write(&secret, "planted").unwrap();
        let (model, _dir) = model("Edit aa.sh: correct it.", &["aa.sh"], |dir| {
            std::os::unix::fs::symlink(&secret, dir.join("aa.sh")).unwrap();
        })
        .await;
        assert_eq!(model.files().await, [("aa.sh".to_owned(), String::new())]);
    }
}
