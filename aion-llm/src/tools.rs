//! Calls of functions in a model's text: what may be written, and what was.
//!
//! A model says that it wants a function called by writing JSON in a form of its own. [`ToolSet::output_format`] makes
//! the grammar of that form, so that names are known ones and arguments match their schema, and [`ToolParser`] takes the
//! calls out of the text as it comes.

use serde_json::{Value as Json, json};

use crate::error::{Error, Result, shown};
use crate::grammar::{Strictness, check_schema, compact};
use crate::request::OutputFormat;

/// The most calls in one completion.
pub const MAX_CALLS: usize = 16;

const MAX_FUNCTIONS: usize = 128;
const MAX_NAME_BYTES: usize = 64;
const OPEN: &str = "<tool_call>";
const CLOSE: &str = "</tool_call>";

/// How a model writes a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToolFormat {
    /// `<tool_call>`, an object with `name` and `arguments`, `</tool_call>`, for each call (Hermes, Qwen).
    Tagged,
    /// The same tags around a list of all calls (SmolLM2).
    TaggedList,
    /// The object alone, or a list of objects; the arguments have this name.
    Json {
        /// `arguments`, or `parameters` for the Llama 3 family.
        arguments: &'static str,
    },
}

impl ToolFormat {
    /// The form that a chat template names. One that names none, but marks turns as ChatML does, gets the tags.
    ///
    /// ```
    /// use aion_llm::ToolFormat;
    /// assert_eq!(ToolFormat::of_template("{{ '<tool_call>[' }}"), ToolFormat::TaggedList);
    /// assert_eq!(ToolFormat::of_template("<|im_start|>{{ role }}"), ToolFormat::Tagged);
    /// assert_eq!(ToolFormat::of_template("{{ '{\"name\": ..., \"parameters\": ...}' }}"), ToolFormat::Json { arguments: "parameters" });
    /// ```
    #[must_use]
    pub fn of_template(source: &str) -> Self {
        if source.contains("<tool_call>[") {
            Self::TaggedList
        } else if source.contains(OPEN) || (!source.contains("tools") && source.contains("<|im_start|>")) {
            Self::Tagged
        } else if source.contains("\"parameters\"") {
            Self::Json {
                arguments: "parameters",
            }
        } else {
            Self::Json {
                arguments: "arguments",
            }
        }
    }

    fn arguments(self) -> &'static str {
        match self {
            Self::Json { arguments } => arguments,
            Self::Tagged | Self::TaggedList => "arguments",
        }
    }

    /// What is written before the arguments of a call.
    fn header(self, name: &str) -> String {
        format!("{{\"name\": \"{name}\", \"{}\": ", self.arguments())
    }

    /// What a model whose template shows no tools is told of them. `tools` is the OpenAI list.
    pub(crate) fn instructions(self, tools: &Json) -> String {
        let functions = tools.as_array().into_iter().flatten();
        let lines: Vec<String> = functions.map(|tool| tool["function"].to_string()).collect();
        let call = format!("{}{{...}}}}", self.header("..."));
        let how = match self {
            Self::Tagged => format!("write {OPEN}\n{call}\n{CLOSE}"),
            Self::TaggedList => format!("write {OPEN}[{call}]{CLOSE}"),
            Self::Json { .. } => format!("answer with nothing but {call}"),
        };
        format!(
            "You may call these functions:\n{}\n\nTo call one, {how}",
            lines.join("\n")
        )
    }

    /// Calls of an earlier turn as the model would have written them. `calls` is the OpenAI list.
    pub(crate) fn written(self, calls: &Json) -> String {
        let calls = calls
            .as_array()
            .into_iter()
            .flatten()
            .map(|call| &call["function"]);
        let one = |f: &Json| {
            let arguments = f["arguments"]
                .as_str()
                .map_or_else(|| f["arguments"].to_string(), str::to_owned);
            format!(
                "{}{arguments}}}",
                self.header(f["name"].as_str().unwrap_or_default())
            )
        };
        let objects: Vec<String> = calls.map(one).collect();
        match self {
            Self::Tagged => {
                let tagged: Vec<_> = objects
                    .iter()
                    .map(|object| format!("{OPEN}\n{object}\n{CLOSE}"))
                    .collect();
                tagged.join("\n")
            }
            Self::TaggedList => format!("{OPEN}[{}]{CLOSE}", objects.join(", ")),
            Self::Json { .. } if objects.len() == 1 => objects.concat(),
            Self::Json { .. } => format!("[{}]", objects.join(", ")),
        }
    }
}

/// One function that the model may call.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolFunction {
    name: String,
    parameters: Json,
    strictness: Strictness,
}

impl ToolFunction {
    /// A function whose arguments match `parameters`, as far as a grammar can say so; without a schema it takes none.
    ///
    /// # Errors
    /// [`Error::Request`] for a name with other than 1 to 64 letters, digits, `_`, `-` and `.`; [`Error::Schema`] for a
    /// schema that is too large, not of objects, or without a finite value.
    pub fn new(name: impl Into<String>, parameters: Option<Json>) -> Result<Self> {
        let name = name.into();
        let sound = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.chars().all(sound) {
            return Err(refuse(format!(
                "`{}` is no name of a function: 1 to {MAX_NAME_BYTES} letters, digits, _ - .",
                shown(&name)
            )));
        }
        let nothing = || json!({"type": "object", "properties": {}, "additionalProperties": false});
        let mut parameters = parameters.unwrap_or_else(nothing);
        check_schema(&parameters)?;
        if let Some(map) = parameters.as_object_mut() {
            map.entry("type").or_insert_with(|| "object".into());
        }
        if !parameters.is_object() || parameters["type"] != "object" {
            return Err(Error::Schema(format!("the parameters of `{name}` are no object")));
        }
        Ok(Self {
            name,
            parameters,
            strictness: Strictness::Lenient,
        })
    }

    /// Makes a keyword of the schema that no grammar can hold an error.
    #[must_use]
    pub fn exact(mut self) -> Self {
        self.strictness = Strictness::Exact;
        self
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

fn refuse(reason: String) -> Error {
    Error::Request {
        field: "tools",
        reason,
    }
}

/// Who decides about a call.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ToolChoice {
    /// The model writes a text, or calls.
    #[default]
    Auto,
    /// The model calls, and chooses which function.
    Required,
    /// The model calls this function once.
    Named(String),
}

/// How many calls one completion may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Calls {
    /// Up to [`MAX_CALLS`].
    #[default]
    Several,
    /// One.
    One,
}

/// The functions of a request.
///
/// ```
/// use aion_llm::{OutputFormat, ToolChoice, ToolFormat, ToolFunction, ToolSet};
/// let set = ToolSet::new([ToolFunction::new("now", None)?])?.with_choice(ToolChoice::Required)?;
/// assert!(matches!(set.output_format(ToolFormat::Tagged, &OutputFormat::Text)?, OutputFormat::Lark(_)));
/// # Ok::<(), aion_llm::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct ToolSet {
    functions: Vec<ToolFunction>,
    choice: ToolChoice,
    calls: Calls,
}

impl ToolSet {
    /// The model decides, and may call several.
    ///
    /// # Errors
    /// [`Error::Request`] for none, more than 128, or two of one name.
    pub fn new(functions: impl IntoIterator<Item = ToolFunction>) -> Result<Self> {
        let functions: Vec<_> = functions.into_iter().take(MAX_FUNCTIONS + 1).collect();
        if functions.is_empty() || functions.len() > MAX_FUNCTIONS {
            return Err(refuse(format!("1 to {MAX_FUNCTIONS} functions")));
        }
        for (i, function) in functions.iter().enumerate() {
            if functions[..i].iter().any(|before| before.name == function.name) {
                return Err(refuse(format!("there are two functions `{}`", function.name)));
            }
        }
        Ok(Self {
            functions,
            choice: ToolChoice::Auto,
            calls: Calls::Several,
        })
    }

    /// Who decides.
    ///
    /// # Errors
    /// [`Error::Request`] for a name that no function has.
    pub fn with_choice(mut self, choice: ToolChoice) -> Result<Self> {
        if let ToolChoice::Named(name) = &choice
            && !self.functions.iter().any(|function| function.name == *name)
        {
            return Err(Error::Request {
                field: "tool_choice",
                reason: format!("there is no function `{}`", shown(name)),
            });
        }
        self.choice = choice;
        Ok(self)
    }

    /// How many calls.
    #[must_use]
    pub fn with_calls(mut self, calls: Calls) -> Self {
        self.calls = calls;
        self
    }

    /// Those that may be called.
    fn callable(&self) -> impl Iterator<Item = &ToolFunction> {
        self.functions.iter().filter(|function| match &self.choice {
            ToolChoice::Named(name) => function.name == *name,
            ToolChoice::Auto | ToolChoice::Required => true,
        })
    }

    /// The grammar of an answer. Where the model may answer with a text, that has the format `text`.
    ///
    /// # Errors
    /// [`Error::Schema`] if the text's schema is too large or has no finite value.
    pub fn output_format(&self, format: ToolFormat, text: &OutputFormat) -> Result<OutputFormat> {
        if let OutputFormat::JsonSchema(schema) = text {
            check_schema(schema)?;
        }
        let more = match (&self.choice, self.calls) {
            (ToolChoice::Named(_), _) | (_, Calls::One) => 0,
            _ => MAX_CALLS - 1,
        };
        let bodies: Vec<String> = self.callable().map(|function| body(function, format)).collect();
        // The grammar's language has no repetition of zero times.
        let more = |rule: String| {
            if more == 0 {
                String::new()
            } else {
                format!(" ({rule}){{0,{more}}}")
            }
        };
        let calls = match format {
            ToolFormat::Tagged => {
                let next = format!("{} {}", lit(&format!("\n{OPEN}")), tagged("body"));
                format!("calls: {}{}\n", tagged("body"), more(next))
            }
            ToolFormat::TaggedList => {
                let close = lit(&format!("]{CLOSE}"));
                format!("calls: \"[\" body{} {close}\n", more("\", \" body".into()))
            }
            ToolFormat::Json { .. } => match more("\", \" body".into()) {
                none if none.is_empty() => "calls: body\n".to_owned(),
                more => format!("calls: body | \"[\" body{more} \"]\"\n"),
            },
        };
        let start = start(&self.choice, format, text);
        Ok(OutputFormat::Lark(format!(
            "{start}{calls}body: {}\n",
            bodies.join("\n    | ")
        )))
    }

    /// Takes the calls out of a text of this format.
    #[must_use]
    pub fn parser(&self, format: ToolFormat) -> ToolParser {
        let headers = self
            .callable()
            .map(|function| (format.header(&function.name), function.name.clone()));
        let state = match format {
            ToolFormat::Json { .. } => State::Undecided,
            ToolFormat::Tagged | ToolFormat::TaggedList => State::Text,
        };
        ToolParser {
            headers: headers.collect(),
            state,
            held: String::new(),
            calls: 0,
        }
    }
}

/// A text as a literal of the grammar's language.
fn lit(text: &str) -> String {
    Json::String(text.to_owned()).to_string()
}

fn tagged(rule: &str) -> String {
    format!("{} {rule} {}", lit("\n"), lit(&format!("\n{CLOSE}")))
}

fn body(function: &ToolFunction, format: ToolFormat) -> String {
    let schema = compact(&function.parameters, function.strictness);
    format!("{} %json {schema} \"}}\"", lit(&format.header(&function.name)))
}

/// The rules up to where the calls begin.
fn start(choice: &ToolChoice, format: ToolFormat, text: &OutputFormat) -> String {
    let open = lit(OPEN);
    let tags = !matches!(format, ToolFormat::Json { .. });
    if *choice != ToolChoice::Auto {
        return if tags {
            format!("start: {open} calls\n")
        } else {
            "start: calls\n".to_owned()
        };
    }
    let other = match text {
        OutputFormat::Text if tags => {
            // A text that goes on until the first tag, or one without any.
            let before = "before[lazy]: /(.|\\n)*<tool_call>/\n";
            let plain = "PLAIN: /(.|\\n)*/ & ~/(.|\\n)*<tool_call>(.|\\n)*/\n";
            return format!("start: PLAIN | before calls\n{before}{plain}");
        }
        OutputFormat::Text => "PLAIN\nPLAIN: /[^\\[{\\s](.|\\n)*/".to_owned(),
        OutputFormat::JsonObject => {
            format!("%json {}", compact(&json!({"type": "object"}), Strictness::Exact))
        }
        OutputFormat::JsonSchema(schema) => format!("%json {}", compact(schema, Strictness::Exact)),
        OutputFormat::Regex(pattern) => format!("PLAIN\nPLAIN: /{}/", between_slashes(pattern)),
        OutputFormat::Lark(grammar) => format!("%lark {{\n{grammar}\n}}"),
    };
    let calls = if tags {
        format!("{open} calls")
    } else {
        "calls".to_owned()
    };
    format!("start: {calls} | {other}\n")
}

/// A regular expression as it stands between slashes.
fn between_slashes(pattern: &str) -> String {
    if pattern.is_empty() {
        // Two slashes begin a comment.
        return "(?:)".to_owned();
    }
    let (mut out, mut is_escaped) = (String::with_capacity(pattern.len()), false);
    for c in pattern.chars() {
        match c {
            '/' if !is_escaped => out.push_str("\\/"),
            // A line break of its own would end the rule; a backslash before it may stay before its name.
            '\n' if is_escaped => out.push('n'),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
        is_escaped = c == '\\' && !is_escaped;
    }
    out
}

/// A part of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToolDelta {
    /// Text beside the calls.
    Text(String),
    /// A call begins.
    Call {
        /// The number of the call, from 0.
        index: usize,
        /// The function.
        name: String,
    },
    /// More of the arguments of the last call, as JSON text.
    Arguments(String),
    /// The arguments of the last call are whole.
    End,
}

/// Takes the calls out of a text that comes in pieces.
///
/// ```
/// use aion_llm::{ToolDelta, ToolFormat, ToolFunction, ToolSet};
/// let set = ToolSet::new([ToolFunction::new("now", None)?])?;
/// let mut parser = set.parser(ToolFormat::Tagged);
/// let mut deltas = parser.push("I look.\n<tool_call>\n{\"name\": \"now\", \"argum");
/// deltas.extend(parser.push("ents\": {}}\n</tool_call>"));
/// assert_eq!(deltas[1], ToolDelta::Call { index: 0, name: "now".into() });
/// assert_eq!(deltas[2], ToolDelta::Arguments("{}".into()));
/// # Ok::<(), aion_llm::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct ToolParser {
    /// What a call begins with, and the function.
    headers: Vec<(String, String)>,
    state: State,
    held: String,
    calls: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing was written that says whether a call comes; there are no tags.
    Undecided,
    /// Outside of tags.
    Text,
    /// Inside of tags, or of a list, before a call or after one.
    Between,
    /// In the arguments of a call.
    Arguments(Scan),
    /// A text to the end.
    Plain,
}

/// Where a JSON value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Scan {
    depth: usize,
    string: Inside,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Inside {
    #[default]
    No,
    Yes,
    Escape,
}

impl Scan {
    /// Goes past a byte; whether the object ended with it.
    fn step(&mut self, byte: u8) -> bool {
        match (self.string, byte) {
            (Inside::Escape, _) => self.string = Inside::Yes,
            (Inside::Yes, b'\\') => self.string = Inside::Escape,
            (Inside::Yes, b'"') => self.string = Inside::No,
            (Inside::Yes, _) => {}
            (Inside::No, b'"') => self.string = Inside::Yes,
            (Inside::No, b'{' | b'[') => self.depth += 1,
            (Inside::No, b'}' | b']') => {
                self.depth = self.depth.saturating_sub(1);
                return self.depth == 0;
            }
            (Inside::No, _) => {}
        }
        false
    }
}

impl ToolParser {
    /// The calls so far.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.calls
    }

    /// Whether the last call is not whole.
    #[must_use]
    pub fn in_call(&self) -> bool {
        matches!(self.state, State::Arguments(_))
    }

    /// Adds text.
    pub fn push(&mut self, text: &str) -> Vec<ToolDelta> {
        self.held.push_str(text);
        let mut deltas = Vec::new();
        while self.advance(&mut deltas) {}
        deltas
    }

    /// What is left when no more text comes.
    pub fn finish(&mut self) -> Vec<ToolDelta> {
        let held = std::mem::take(&mut self.held);
        match self.state {
            State::Text | State::Plain | State::Undecided if !held.trim().is_empty() => {
                vec![ToolDelta::Text(held)]
            }
            State::Text | State::Plain if self.calls == 0 && !held.is_empty() => vec![ToolDelta::Text(held)],
            _ => Vec::new(),
        }
    }

    /// Takes one step; whether another may follow.
    fn advance(&mut self, deltas: &mut Vec<ToolDelta>) -> bool {
        match self.state {
            State::Plain => {
                let text = std::mem::take(&mut self.held);
                push_text(deltas, text);
                false
            }
            State::Undecided => self.decide(),
            State::Text => self.text(deltas),
            State::Between => self.between(deltas),
            State::Arguments(scan) => self.arguments(scan, deltas),
        }
    }

    /// Without tags: a call is what begins as one.
    fn decide(&mut self) -> bool {
        let body = self.held.trim_start().trim_start_matches('[');
        if self
            .headers
            .iter()
            .any(|(header, _)| body.starts_with(header.as_str()))
        {
            self.state = State::Between;
            return true;
        }
        if self.headers.iter().any(|(header, _)| header.starts_with(body)) {
            return false;
        }
        self.state = State::Plain;
        true
    }

    fn text(&mut self, deltas: &mut Vec<ToolDelta>) -> bool {
        if let Some(at) = self.held.find(OPEN) {
            let rest = self.held.split_off(at + OPEN.len());
            self.held.truncate(at);
            let text = std::mem::replace(&mut self.held, rest);
            push_text(deltas, text.trim_end().to_owned());
            self.state = State::Between;
            return true;
        }
        // What may be the beginning of a tag, and white space that may stand before one, is held.
        let partial = (1..OPEN.len())
            .rev()
            .find(|n| self.held.ends_with(&OPEN[..*n]))
            .unwrap_or(0);
        let safe = self.held[..self.held.len() - partial].trim_end().len();
        let rest = self.held.split_off(safe);
        let text = std::mem::replace(&mut self.held, rest);
        push_text(deltas, text);
        false
    }

    fn between(&mut self, deltas: &mut Vec<ToolDelta>) -> bool {
        let skip = |c: char| c.is_whitespace() || matches!(c, '[' | ']' | ',' | '}');
        let body = self.held.trim_start_matches(skip).to_owned();
        self.held = body;
        if let Some(rest) = self.held.strip_prefix(CLOSE) {
            self.held = rest.to_owned();
            self.state = State::Text;
            return true;
        }
        let found = self
            .headers
            .iter()
            .find(|(header, _)| self.held.starts_with(header.as_str()));
        let Some((header, name)) = found else {
            return false;
        };
        deltas.push(ToolDelta::Call {
            index: self.calls,
            name: name.clone(),
        });
        self.calls += 1;
        self.held.drain(..header.len());
        self.state = State::Arguments(Scan::default());
        true
    }

    fn arguments(&mut self, mut scan: Scan, deltas: &mut Vec<ToolDelta>) -> bool {
        let end = self.held.bytes().position(|byte| scan.step(byte));
        let rest = end.map_or_else(String::new, |end| self.held.split_off(end + 1));
        let text = std::mem::replace(&mut self.held, rest);
        if !text.is_empty() {
            deltas.push(ToolDelta::Arguments(text));
        }
        self.state = State::Arguments(scan);
        if end.is_some() {
            deltas.push(ToolDelta::End);
            self.state = State::Between;
        }
        end.is_some()
    }
}

fn push_text(deltas: &mut Vec<ToolDelta>, text: String) {
    if !text.is_empty() {
        deltas.push(ToolDelta::Text(text));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FORMATS: [ToolFormat; 3] = [
        ToolFormat::Tagged,
        ToolFormat::TaggedList,
        ToolFormat::Json {
            arguments: "parameters",
        },
    ];

    fn set() -> ToolSet {
        let any = json!({"type": "object"});
        let function = |name: &str| ToolFunction::new(name, Some(any.clone())).unwrap();
        ToolSet::new([function("look"), function("look_up")]).unwrap()
    }

    /// The deltas of a text in pieces, neighbours of a kind joined.
    fn parse(format: ToolFormat, pieces: &[&str]) -> Vec<ToolDelta> {
        let mut parser = set().parser(format);
        let mut all: Vec<ToolDelta> = pieces.iter().flat_map(|piece| parser.push(piece)).collect();
        all.extend(parser.finish());
        let mut joined: Vec<ToolDelta> = Vec::new();
        for delta in all {
            match (joined.last_mut(), delta) {
                (Some(ToolDelta::Text(before)), ToolDelta::Text(more)) => before.push_str(&more),
                (Some(ToolDelta::Arguments(before)), ToolDelta::Arguments(more)) => before.push_str(&more),
                (_, delta) => joined.push(delta),
            }
        }
        joined
    }

    fn call(index: usize, name: &str, arguments: &str) -> Vec<ToolDelta> {
        let name = name.to_owned();
        vec![
            ToolDelta::Call { index, name },
            ToolDelta::Arguments(arguments.into()),
            ToolDelta::End,
        ]
    }

    fn calls() -> Json {
        let function =
            |name: &str, arguments: &str| json!({"function": {"name": name, "arguments": arguments}});
        json!([
            function("look_up", r#"{"a": "}\"]</tool_call>", "b": [{}]}"#),
            function("look", "{}")
        ])
    }

    #[test]
    fn written_calls_are_read_again() {
        for format in FORMATS {
            let text = format.written(&calls());
            let expected = [
                call(0, "look_up", r#"{"a": "}\"]</tool_call>", "b": [{}]}"#),
                call(1, "look", "{}"),
            ]
            .concat();
            assert_eq!(parse(format, &[&text]), expected, "{text}");
        }
    }

    #[test]
    fn text_around_calls_stays_text() {
        let text = "Wait <tool\n\n<tool_call>\n{\"name\": \"look\", \"arguments\": {}}\n</tool_call>\n";
        let expected = [vec![ToolDelta::Text("Wait <tool".into())], call(0, "look", "{}")].concat();
        assert_eq!(parse(ToolFormat::Tagged, &[text]), expected);
        let plain = ToolFormat::Json {
            arguments: "arguments",
        };
        let other = r#"{"name": "other", "arguments": {}}"#;
        assert_eq!(parse(plain, &[other]), [ToolDelta::Text(other.into())]);
        assert_eq!(
            parse(ToolFormat::Tagged, &["a \n"]),
            [ToolDelta::Text("a \n".into())]
        );
    }

    #[test]
    fn a_call_that_was_cut_off_shows_what_there_is() {
        let mut parser = set().parser(ToolFormat::Tagged);
        let deltas = parser.push("<tool_call>\n{\"name\": \"look\", \"arguments\": {\"a\": 1");
        assert_eq!(deltas[1], ToolDelta::Arguments("{\"a\": 1".into()));
        assert!(parser.in_call() && parser.finish().is_empty());
    }

    #[test]
    fn names_and_numbers_of_functions_have_limits() {
        for name in ["", "a b", "\"", &"x".repeat(65)] {
            assert!(ToolFunction::new(name, None).is_err(), "{name}");
        }
        assert!(ToolFunction::new("f", Some(json!({"type": "string"}))).is_err());
        assert!(ToolFunction::new("f", Some(json!(7))).is_err());
        let f = || ToolFunction::new("f", None).unwrap();
        assert!(ToolSet::new([]).is_err() && ToolSet::new([f(), f()]).is_err());
        let unknown = ToolSet::new([f()])
            .unwrap()
            .with_choice(ToolChoice::Named("g".into()));
        assert!(matches!(
            unknown,
            Err(Error::Request {
                field: "tool_choice",
                ..
            })
        ));
    }

    proptest! {
        /// Where a text is cut into pieces changes nothing.
        #[test]
        fn pieces_do_not_matter(cuts in proptest::collection::vec(0usize..200, 0..12), format in 0usize..3) {
            let format = FORMATS[format];
            let text = format!("{}{}", if format == FORMATS[2] { "" } else { "Über <tool: " }, format.written(&calls()));
            let mut cuts: Vec<usize> = cuts.into_iter().filter(|at| *at <= text.len() && text.is_char_boundary(*at)).collect();
            cuts.sort_unstable();
            let ends = cuts.iter().copied().chain([text.len()]);
            let pieces: Vec<&str> = [0].into_iter().chain(cuts.iter().copied()).zip(ends).map(|(a, b)| &text[a..b]).collect();
            prop_assert_eq!(parse(format, &pieces), parse(format, &[&text]));
        }
    }
}
