//! Counts over the messages of a task.

use std::collections::{BTreeMap, BTreeSet};

use aion_types::{MessageRecord, Role, ToolCall};

use super::{Features, words};
use crate::feed::{least_ratio, token_ratio};

/// The most calls whose arguments are compared.
const MAX_CALLS: usize = 10_000;

pub(super) fn chars(text: &str) -> f64 {
    text.chars().count() as f64
}

/// What the messages say when they are counted.
#[derive(Debug, Default)]
pub(super) struct Transcript<'a> {
    user: Vec<&'a str>,
    assistant: Vec<&'a str>,
    tool: Vec<&'a str>,
    calls: Vec<&'a ToolCall>,
    longest_run: u32,
    errors: u32,
    ends_in_error: bool,
    tokens: u64,
    inverse_ratio: f64,
    least: Option<f64>,
    seconds: Option<f64>,
    count: usize,
}

impl<'a> Transcript<'a> {
    pub(super) fn of(messages: &'a [MessageRecord]) -> Self {
        let mut counted = Self {
            count: messages.len(),
            ..Self::default()
        };
        let mut run = 0;
        for message in messages {
            counted.count(message);
            // A run of calls ends where the model, or the one who asks, says something.
            let speaks = message.role != Role::Tool && !message.content.trim().is_empty();
            run = if speaks { 0 } else { run };
            run += message.tool_calls.len() as u32;
            counted.longest_run = counted.longest_run.max(run);
        }
        if let (Some(first), Some(last)) = (messages.first(), messages.last()) {
            let ms = last.created_at.as_ms().saturating_sub(first.created_at.as_ms());
            counted.seconds = (messages.len() > 1 && ms > 0).then_some(ms as f64 / 1_000.0);
        }
        counted
    }

    fn count(&mut self, message: &'a MessageRecord) {
        let text = message.content.as_str();
        match message.role {
            Role::System => {}
            Role::User => self.user.push(text),
            Role::Assistant => {
                if !text.trim().is_empty() {
                    self.assistant.push(text);
                }
                let room = MAX_CALLS.saturating_sub(self.calls.len());
                self.calls.extend(message.tool_calls.iter().take(room));
            }
            Role::Tool => {
                self.tool.push(text);
                self.ends_in_error = words::reports_error(text);
                self.errors += u32::from(self.ends_in_error);
            }
        }
        if let Some((tokens, ratio)) = token_ratio(message) {
            self.tokens += tokens;
            self.inverse_ratio += tokens as f64 / ratio;
        }
        if let Some(least) = least_ratio(message) {
            self.least = Some(self.least.map_or(least, |before| before.min(least)));
        }
    }

    pub(super) fn put(&self, features: &mut Features) {
        features.put("messages", (self.count as f64).ln_1p());
        features.put("messages.user", (self.user.len() as f64).ln_1p());
        features.put("messages.assistant", (self.assistant.len() as f64).ln_1p());
        features.put("messages.tool", (self.tool.len() as f64).ln_1p());
        self.put_calls(features);
        self.put_errors(features);
        self.put_words(features);
        if self.tokens > 0 {
            features.put("persistence.harm", (self.tokens as f64 / self.inverse_ratio).ln());
        }
        if let Some(least) = self.least {
            features.put("persistence.min", least.ln());
        }
        if let Some(seconds) = self.seconds {
            features.put("seconds", seconds.ln_1p());
        }
    }

    fn put_calls(&self, features: &mut Features) {
        let mut by_tool: BTreeMap<&str, f64> = BTreeMap::new();
        let mut asked = BTreeSet::new();
        let mut repeated = 0_u32;
        for call in &self.calls {
            *by_tool.entry(&call.name).or_default() += 1.0;
            repeated += u32::from(!asked.insert((&call.name, &call.arguments)));
        }
        let all = self.calls.len() as f64;
        let entropy: f64 = by_tool.values().map(|n| -(n / all) * (n / all).ln()).sum();
        let lengths = self.calls.iter().map(|call| chars(&call.arguments));
        features.put("calls", all.ln_1p());
        features.put("calls.tools", (by_tool.len() as f64).ln_1p());
        features.put("calls.entropy", entropy);
        features.put("calls.repeated", f64::from(repeated).ln_1p());
        features.put("calls.longest_run", f64::from(self.longest_run).ln_1p());
        features.put("calls.arguments_chars", mean(lengths).ln_1p());
    }

    fn put_errors(&self, features: &mut Features) {
        let errors = f64::from(self.errors);
        features.put("errors", errors.ln_1p());
        features.put("errors.share", errors / self.tool.len().max(1) as f64);
        features.put("errors.last", f64::from(u8::from(self.ends_in_error)));
    }

    fn put_words(&self, features: &mut Features) {
        let said = || self.assistant.iter().copied();
        let share = |which: fn(&str) -> bool| mean(said().map(|text| f64::from(u8::from(which(text)))));
        let mut before = BTreeSet::new();
        let repeated = said().filter(|text| !before.insert(*text)).count();
        features.put("assistant.chars", mean(said().map(chars)).ln_1p());
        features.put("assistant.last_chars", last(&self.assistant).ln_1p());
        features.put("assistant.questions", share(words::asks));
        features.put("assistant.regrets", share(words::regrets));
        features.put(
            "assistant.repeated",
            repeated as f64 / self.assistant.len().max(1) as f64,
        );
        features.put("assistant.vocabulary", words::vocabulary(said()));
        features.put(
            "user.chars",
            mean(self.user.iter().map(|text| chars(text))).ln_1p(),
        );
        features.put("user.last_chars", last(&self.user).ln_1p());
        features.put(
            "tool.chars",
            mean(self.tool.iter().map(|text| chars(text))).ln_1p(),
        );
    }
}

fn last(texts: &[&str]) -> f64 {
    texts.last().map_or(0.0, |text| chars(text))
}

/// The mean, 0 of nothing.
fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (mut sum, mut n) = (0.0, 0_u32);
    for value in values {
        sum += value;
        n += 1;
    }
    sum / f64::from(n.max(1))
}
