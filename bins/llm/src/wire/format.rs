//! What a reply must look like: `response_format`, `text.format` and `structured_outputs`.

use aion_llm::OutputFormat;
use serde_json::Value;

use crate::error::{ApiError, ApiResult};

const MAX_CHOICES: usize = 1024;

/// What `response_format` (chat) or `text.format` (responses) asks for.
pub(crate) fn output_format(format: Option<&Value>, pointer: &str) -> ApiResult<OutputFormat> {
    let Some(format) = format.filter(|format| !format.is_null()) else {
        return Ok(OutputFormat::Text);
    };
    match format["type"].as_str() {
        Some("text") => Ok(OutputFormat::Text),
        Some("json_object") => Ok(OutputFormat::JsonObject),
        Some("json_schema") => {
            let schema = [&format["json_schema"]["schema"], &format["schema"]]
                .into_iter()
                .find(|schema| !schema.is_null());
            let missing = || ApiError::bad_request("invalid_schema", "the schema is missing", pointer);
            schema.cloned().map(OutputFormat::JsonSchema).ok_or_else(missing)
        }
        _ => {
            let detail = "known types are text, json_object, json_schema";
            Err(ApiError::bad_request("invalid_value", detail, pointer))
        }
    }
}

/// The format, where `structured_outputs` (vLLM's name and form) may stand instead: an object with one of `json` (a
/// schema), `json_object` (true), `regex`, `grammar` (Lark) and `choice` (a list of texts).
pub(crate) fn with_structured(format: OutputFormat, structured: Option<&Value>) -> ApiResult<OutputFormat> {
    const POINTER: &str = "/structured_outputs";
    let refuse = |detail: &str| Err(ApiError::bad_request("invalid_value", detail, POINTER));
    let Some(structured) = structured.filter(|structured| !structured.is_null()) else {
        return Ok(format);
    };
    if format != OutputFormat::Text {
        return refuse("one format only: not beside another that is no text");
    }
    let members = structured.as_object().into_iter().flatten();
    let mut given = members.filter(|(_, value)| !value.is_null());
    let (Some((kind, value)), None) = (given.next(), given.next()) else {
        return refuse("an object with one of json, json_object, regex, grammar, choice");
    };
    match (kind.as_str(), value) {
        ("json", Value::String(schema)) => match serde_json::from_str(schema) {
            Ok(schema) => Ok(OutputFormat::JsonSchema(schema)),
            Err(_) => refuse("`json` is a schema"),
        },
        ("json", schema) => Ok(OutputFormat::JsonSchema(schema.clone())),
        ("json_object", Value::Bool(true)) => Ok(OutputFormat::JsonObject),
        ("regex", Value::String(pattern)) => Ok(OutputFormat::Regex(pattern.clone())),
        ("grammar", Value::String(grammar)) => Ok(OutputFormat::Lark(grammar.clone())),
        ("choice", Value::Array(texts)) if (1..=MAX_CHOICES).contains(&texts.len()) => {
            let literal = |text: &Value| {
                text.as_str()
                    .filter(|text| !text.is_empty())
                    .map(|_| text.to_string())
            };
            match texts.iter().map(literal).collect::<Option<Vec<_>>>() {
                Some(literals) => Ok(OutputFormat::Lark(format!("start: {}", literals.join(" | ")))),
                None => refuse("`choice` is a list of texts that are not empty"),
            }
        }
        _ => refuse("an object with one of json, json_object, regex, grammar, choice"),
    }
}
