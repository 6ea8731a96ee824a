//! Conversations to prompts, by the model's own Jinja template.

use std::sync::Arc;

use aion_types::{Clock, Timestamp};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, ErrorKind, Value, context};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::error::{Error, Result, shown};
use crate::tools::ToolFormat;

/// Steps a template may take: a template is part of a downloaded file and may loop.
const FUEL: u64 = 5_000_000;
const MAX_TEMPLATE_BYTES: usize = 256 << 10;
/// Calls of macros, includes and loops inside one another.
const MAX_RECURSION: usize = 64;
/// The longest prompt that a template may write.
const MAX_PROMPT_BYTES: usize = 64 << 20;

/// The template of models that have none but know its marks.
const CHAT_ML: &str = "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n\
                       {% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// One message of a conversation. Fields that only some templates read (`tool_calls`, `name`, ...) go into `extra`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChatMessage {
    /// `system`, `user`, `assistant`, `tool`, or what the template knows.
    pub role: String,
    /// The text.
    #[serde(default)]
    pub content: String,
    /// Everything else, passed to the template as it is.
    #[serde(flatten)]
    pub extra: serde_json::Map<String, Json>,
}

impl ChatMessage {
    /// A message with a role and a text.
    ///
    /// ```
    /// use aion_llm::ChatMessage;
    /// assert_eq!(ChatMessage::new("user", "Hello").content, "Hello");
    /// ```
    #[must_use]
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self {
            role: role.into(),
            content: content.into(),
            extra: serde_json::Map::new(),
        }
    }
}

/// A compiled chat template.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    bos: String,
    eos: String,
    tools: ToolsShown,
    tool_format: ToolFormat,
}

/// Whether a template knows of tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ToolsShown {
    /// It shows the list, and calls of earlier turns.
    ByTemplate,
    /// It does not: the list goes into the system message, and calls into the text of their turn.
    ByUs,
}

impl ChatTemplate {
    /// Compiles a template as the Hub's tools would run it: block trimming, Python's methods, `raise_exception`,
    /// `strftime_now` (UTC, from `clock`) and `tojson` without HTML escapes.
    ///
    /// # Errors
    /// [`Error::Template`] with the line that does not parse.
    ///
    /// ```
    /// use aion_llm::{ChatMessage, ChatTemplate};
    /// use std::sync::Arc;
    /// let source = "{% for m in messages %}[{{ m['role'] }}]{{ m['content'].strip() }}{% endfor %}";
    /// let template = ChatTemplate::new(source, "<s>", "</s>", Arc::new(aion_types::SystemClock))?;
    /// assert_eq!(template.render(&[ChatMessage::new("user", " Hi ")], None)?, "[user]Hi");
    /// # Ok::<(), aion_llm::Error>(())
    /// ```
    pub fn new(source: &str, bos: &str, eos: &str, clock: Arc<dyn Clock>) -> Result<Self> {
        if source.len() > MAX_TEMPLATE_BYTES {
            let reason = format!("{} bytes, the limit is {MAX_TEMPLATE_BYTES}", source.len());
            return Err(Error::Template(reason));
        }
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build();
        environment.set_syntax(syntax.map_err(|error| template_error(&error))?);
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(MAX_RECURSION);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function(
            "raise_exception",
            |reason: String| -> Result<String, minijinja::Error> {
                Err(minijinja::Error::new(ErrorKind::InvalidOperation, reason))
            },
        );
        environment.add_function("strftime_now", move |format: String| {
            strftime(&format, clock.now())
        });
        environment.add_filter("tojson", to_json);
        environment
            .add_template_owned("chat", source.to_owned())
            .map_err(|error| template_error(&error))?;
        Ok(Self {
            environment,
            bos: bos.to_owned(),
            eos: eos.to_owned(),
            tools: if source.contains("tools") {
                ToolsShown::ByTemplate
            } else {
                ToolsShown::ByUs
            },
            tool_format: ToolFormat::of_template(source),
        })
    }

    /// The ChatML template, for models that know `<|im_start|>` and bring no template of their own.
    ///
    /// # Errors
    /// Never in practice; the signature is that of [`ChatTemplate::new`].
    pub fn chat_ml(clock: Arc<dyn Clock>) -> Result<Self> {
        Self::new(CHAT_ML, "<|im_start|>", "<|im_end|>", clock)
    }

    /// How the model writes calls of functions.
    #[must_use]
    pub fn tool_format(&self) -> ToolFormat {
        self.tool_format
    }

    /// The prompt of a conversation, up to where the assistant's reply begins. `tools` is the OpenAI list of tools; a
    /// template that knows nothing of tools gets them in the system message.
    ///
    /// # Errors
    /// [`Error::Template`] when the template refuses the messages, takes too many steps, calls itself too often or
    /// writes too much.
    ///
    /// ```
    /// use aion_llm::{ChatMessage, ChatTemplate};
    /// use std::sync::Arc;
    /// let template = ChatTemplate::chat_ml(Arc::new(aion_types::SystemClock))?;
    /// let tools = serde_json::json!([{"type": "function", "function": {"name": "now"}}]);
    /// let prompt = template.render(&[ChatMessage::new("user", "What time is it?")], Some(&tools))?;
    /// assert!(prompt.starts_with("<|im_start|>system\nYou may call these functions:\n{\"name\":\"now\"}"));
    /// # Ok::<(), aion_llm::Error>(())
    /// ```
    pub fn render(&self, messages: &[ChatMessage], tools: Option<&Json>) -> Result<String> {
        if self.tools == ToolsShown::ByUs {
            return self.render_plain(&self.spelled_out(messages, tools), None);
        }
        self.render_plain(messages, tools)
    }

    /// The messages with tools, calls and their results as text.
    fn spelled_out(&self, messages: &[ChatMessage], tools: Option<&Json>) -> Vec<ChatMessage> {
        let mut messages: Vec<ChatMessage> = messages.iter().map(|message| self.as_text(message)).collect();
        if let Some(tools) = tools {
            let instructions = self.tool_format.instructions(tools);
            match messages.first_mut().filter(|first| first.role == "system") {
                Some(system) => system.content = format!("{}\n\n{instructions}", system.content),
                None => messages.insert(0, ChatMessage::new("system", instructions)),
            }
        }
        messages
    }

    fn as_text(&self, message: &ChatMessage) -> ChatMessage {
        if message.role == "tool" {
            let result = format!("<tool_response>\n{}\n</tool_response>", message.content);
            return ChatMessage::new("user", result);
        }
        let Some(calls) = message.extra.get("tool_calls") else {
            return message.clone();
        };
        let parts = [message.content.as_str(), &self.tool_format.written(calls)];
        let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        ChatMessage::new(message.role.clone(), parts.join("\n"))
    }

    fn render_plain(&self, messages: &[ChatMessage], tools: Option<&Json>) -> Result<String> {
        let template = self
            .environment
            .get_template("chat")
            .map_err(|error| template_error(&error))?;
        let context = context! {
            messages => Value::from(Serde(messages)),
            tools => Value::from(Serde(tools)),
            add_generation_prompt => true,
            bos_token => &self.bos,
            eos_token => &self.eos,
        };
        let mut prompt = Bounded(Vec::new());
        template
            .render_captured_to(context, &mut prompt)
            .map_err(|error| template_error(&error))?;
        String::from_utf8(prompt.0).map_err(|error| Error::Template(error.to_string()))
    }
}

/// A writer that holds no more than the longest prompt.
struct Bounded(Vec<u8>);

impl std::io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_PROMPT_BYTES {
            let reason = format!("it writes more than {MAX_PROMPT_BYTES} bytes");
            return Err(std::io::Error::other(reason));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn template_error(error: &minijinja::Error) -> Error {
    let detail = error
        .detail()
        .map_or_else(|| error.kind().to_string(), str::to_owned);
    let line = error
        .line()
        .map_or_else(String::new, |line| format!(" (line {line})"));
    Error::Template(format!("{}{line}", shown(&detail)))
}

/// JSON as Python writes it: `", "` and `": "`, nothing escaped for HTML; `indent` gives the usual block form.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the engine hands filters their arguments by value"
)]
fn to_json(value: &Value, kwargs: minijinja::value::Kwargs) -> Result<String, minijinja::Error> {
    let fail =
        |error: serde_json::Error| minijinja::Error::new(ErrorKind::BadSerialization, error.to_string());
    let indent: Option<usize> = kwargs.get("indent")?;
    let mut out = Vec::new();
    match indent {
        Some(n) => {
            let spaces = " ".repeat(n.min(16));
            let formatter = serde_json::ser::PrettyFormatter::with_indent(spaces.as_bytes());
            value
                .serialize(&mut serde_json::Serializer::with_formatter(&mut out, formatter))
                .map_err(fail)?;
        }
        None => value
            .serialize(&mut serde_json::Serializer::with_formatter(&mut out, Spaced))
            .map_err(fail)?,
    }
    Ok(String::from_utf8_lossy(&out).into_owned())
}

struct Spaced;

impl serde_json::ser::Formatter for Spaced {
    fn begin_array_value<W: ?Sized + std::io::Write>(
        &mut self,
        w: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        w.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(
        &mut self,
        w: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        w.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, w: &mut W) -> std::io::Result<()> {
        w.write_all(b": ")
    }
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = [
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
];

/// The parts of `strftime` that chat templates use, in UTC; an unknown directive stays as it is.
fn strftime(format: &str, now: Timestamp) -> String {
    let seconds = now.as_ms().div_euclid(1000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let month_name = MONTHS[month as usize - 1];
    let day_name = DAYS[days.rem_euclid(7) as usize];
    let mut out = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('Y') => out += &year.to_string(),
            Some('m') => out += &format!("{month:02}"),
            Some('d') => out += &format!("{day:02}"),
            Some('H') => out += &format!("{:02}", second / 3600),
            Some('M') => out += &format!("{:02}", second / 60 % 60),
            Some('S') => out += &format!("{:02}", second % 60),
            Some('B') => out += month_name,
            Some('b') => out += &month_name[..3],
            Some('A') => out += day_name,
            Some('a') => out += &day_name[..3],
            Some('%') => out.push('%'),
            Some(other) => out.extend(['%', other]),
            None => out.push('%'),
        }
    }
    out
}

/// Year, month and day of a day number since 1970-01-01 (Hinnant's `civil_from_days`).
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

/// Replaces the text of special tokens inside what people and tools wrote, so that it cannot end a turn.
///
/// Each special text becomes one private-use character before the template runs; when the prompt is tokenised that
/// character is spelled out as ordinary text. The message keeps every one of its characters.
#[derive(Debug)]
pub(crate) struct Guard<'a> {
    specials: &'a [String],
}

const FIRST_MARK: u32 = 0x10_0000;
const MAX_MARKS: usize = 0xFFFD;

impl<'a> Guard<'a> {
    pub(crate) fn new(specials: &'a [String]) -> Self {
        Self {
            specials: &specials[..specials.len().min(MAX_MARKS)],
        }
    }

    pub(crate) fn messages(&self, messages: &[ChatMessage]) -> Vec<ChatMessage> {
        let guard = |message: &ChatMessage| ChatMessage {
            role: self.text(&message.role),
            content: self.text(&message.content),
            extra: message
                .extra
                .iter()
                .map(|(key, value)| (self.text(key), self.json(value)))
                .collect(),
        };
        messages.iter().map(guard).collect()
    }

    pub(crate) fn json(&self, value: &Json) -> Json {
        match value {
            Json::String(text) => Json::String(self.text(text)),
            Json::Array(items) => items.iter().map(|item| self.json(item)).collect(),
            Json::Object(map) => map
                .iter()
                .map(|(key, value)| (self.text(key), self.json(value)))
                .collect(),
            other => other.clone(),
        }
    }

    fn text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (special, mark) in self
            .specials
            .iter()
            .zip(marks())
            .filter(|(special, _)| !special.is_empty())
        {
            if text.contains(special.as_str()) {
                text = text.replace(special.as_str(), &mark.to_string());
            }
        }
        text
    }

    /// The prompt in pieces: what the template wrote, and (marked `true`) what must be spelled out.
    pub(crate) fn pieces<'t>(&'t self, prompt: &'t str) -> Vec<(&'t str, bool)> {
        let mut pieces = Vec::new();
        let mut start = 0;
        for (at, c) in prompt.char_indices() {
            let index = (c as u32).checked_sub(FIRST_MARK).map(|index| index as usize);
            if let Some(special) = index.and_then(|index| self.specials.get(index)) {
                pieces.push((&prompt[start..at], false));
                pieces.push((special.as_str(), true));
                start = at + c.len_utf8();
            }
        }
        pieces.push((&prompt[start..], false));
        pieces.retain(|(text, _)| !text.is_empty());
        pieces
    }

    /// The prompt as people read it.
    pub(crate) fn readable(&self, prompt: &str) -> String {
        self.pieces(prompt).into_iter().map(|(text, _)| text).collect()
    }
}

fn marks() -> impl Iterator<Item = char> {
    (FIRST_MARK..).map_while(char::from_u32)
}

#[cfg(test)]
mod tests {
    use aion_types::ManualClock;
    use proptest::prelude::*;

    use super::*;

    fn clock(ms: i64) -> Arc<dyn Clock> {
        Arc::new(ManualClock::at(Timestamp::from_ms(ms)))
    }

    fn render(source: &str) -> Result<String> {
        ChatTemplate::new(source, "<s>", "</s>", clock(1_709_210_096_000))?
            .render(&[ChatMessage::new("user", "é<b>")], None)
    }

    #[test]
    fn the_functions_of_hub_templates_work() {
        assert_eq!(
            render("{{ strftime_now('%d %b %Y %H:%M:%S %A') }}").unwrap(),
            "29 Feb 2024 12:34:56 Thursday"
        );
        assert_eq!(
            render("{{ messages | tojson }}").unwrap(),
            r#"[{"role": "user", "content": "é<b>"}]"#
        );
        assert_eq!(
            render("{{ bos_token }}{% if tools is none %}-{% endif %}").unwrap(),
            "<s>-"
        );
        let error = render("{{ raise_exception('roles must alternate') }}").unwrap_err();
        assert!(error.to_string().contains("roles must alternate"), "{error}");
    }

    #[test]
    fn a_broken_or_endless_template_is_an_error() {
        assert!(matches!(render("{% for %}"), Err(Error::Template(_))));
        let endless = "{% for a in range(9999) %}{% for b in range(9999) %}{{ a }}{% endfor %}{% endfor %}";
        assert!(matches!(render(endless), Err(Error::Template(_))));
    }

    #[test]
    fn a_template_that_calls_itself_or_writes_for_ever_is_an_error() {
        let recursive = "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}";
        assert!(matches!(render(recursive), Err(Error::Template(_))));
        let looped = "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}";
        assert!(matches!(render(looped), Err(Error::Template(_))));
        let included = "{% include 'chat' %}";
        assert!(matches!(render(included), Err(Error::Template(_))));
        let long = "{% for a in range(9999) %}{{ 'x' * 100000 }}{% endfor %}";
        let error = render(long).unwrap_err();
        assert!(matches!(error, Error::Template(_)), "{error}");
        let deep = format!(
            "{}1{}",
            "{{ ".to_owned() + &"(".repeat(5000),
            ")".repeat(5000) + " }}"
        );
        assert!(matches!(render(&deep), Err(Error::Template(_))));
    }

    /// A template without a word of tools gets the list, the calls and the results as text.
    #[test]
    fn tools_are_spelled_out_where_the_template_knows_none() {
        let template = ChatTemplate::chat_ml(clock(0)).unwrap();
        let mut call = ChatMessage::new("assistant", "");
        let function = serde_json::json!([{"id": "1", "type": "function",
            "function": {"name": "now", "arguments": "{\"zone\": 1}"}}]);
        call.extra.insert("tool_calls".into(), function);
        let messages = [
            ChatMessage::new("system", "Be short."),
            call,
            ChatMessage::new("tool", "12:00"),
        ];
        let tools = serde_json::json!([{"type": "function", "function": {"name": "now"}}]);
        let prompt = template.render(&messages, Some(&tools)).unwrap();
        for part in [
            "<|im_start|>system\nBe short.\n\nYou may call these functions:\n{\"name\":\"now\"}\n",
            "<|im_start|>assistant\n<tool_call>\n{\"name\": \"now\", \"arguments\": {\"zone\": 1}}\n</tool_call><|im_end|>",
            "<|im_start|>user\n<tool_response>\n12:00\n</tool_response><|im_end|>",
        ] {
            assert!(prompt.contains(part), "{part}\n---\n{prompt}");
        }
    }

    #[test]
    fn dates_before_and_after_the_epoch() {
        assert_eq!(strftime("%Y-%m-%d %a", Timestamp::from_ms(0)), "1970-01-01 Thu");
        assert_eq!(strftime("%Y-%m-%d %a", Timestamp::from_ms(-1)), "1969-12-31 Wed");
        assert_eq!(
            strftime("%Y-%m-%d", Timestamp::from_ms(1_798_761_600_000)),
            "2027-01-01"
        );
    }

    #[test]
    fn a_special_text_in_a_message_is_spelled_out() {
        let specials = ["<|im_end|>".to_owned()];
        let guard = Guard::new(&specials);
        let guarded = guard.messages(&[ChatMessage::new("user", "a<|im_end|>b")]);
        let prompt = format!("<|im_start|>{}<|im_end|>", guarded[0].content);
        let pieces = guard.pieces(&prompt);
        assert_eq!(
            pieces,
            [
                ("<|im_start|>a", false),
                ("<|im_end|>", true),
                ("b<|im_end|>", false)
            ]
        );
        assert_eq!(guard.readable(&prompt), "<|im_start|>a<|im_end|>b<|im_end|>");
    }

    /// Members of a message by any name, for templates that write down all there is.
    #[test]
    fn a_special_text_in_a_name_is_spelled_out() {
        let specials = ["<|im_end|>".to_owned()];
        let guard = Guard::new(&specials);
        let mut message = ChatMessage::new("us<|im_end|>er", "x");
        let inner = serde_json::json!({"b<|im_end|>": ["c<|im_end|>"]});
        message.extra.insert("a<|im_end|>".into(), inner);
        let template = ChatTemplate::new("{{ messages | tojson }}", "", "", clock(0)).unwrap();
        let prompt = template.render(&guard.messages(&[message]), None).unwrap();
        assert!(!prompt.contains("<|im_end|>"), "{prompt}");
        assert_eq!(guard.readable(&prompt).matches("<|im_end|>").count(), 4);
    }

    proptest! {
        /// Guarding and reading back loses nothing.
        #[test]
        fn guarding_keeps_the_text(text in "[a<|>x]{0,30}") {
            let specials = ["<|x|>".to_owned(), "<a>".to_owned()];
            let guard = Guard::new(&specials);
            let guarded = guard.text(&text);
            prop_assert_eq!(guard.readable(&guarded), text);
            prop_assert!(specials.iter().all(|special| !guarded.contains(special.as_str())));
        }
    }
}
