//! Reading the answer of a model: strict about numbers, patient about wrapping.

use serde_json::{Map, Value};

use super::LlmError;

/// The longest answer that is read.
const MAX_BYTES: usize = 64 << 10;
/// How far the sum may be from 1 before the answer is no distribution; within it, it is divided by.
const SUM_SLACK: f64 = 0.01;

/// The probabilities in a model's answer: `{"probabilities": {"A": p, "B": q}}`, or a list in the order of
/// the outcomes. A fence of code around it and words before it are passed over.
///
/// ```
/// use aion_market::predict::llm::parse_probabilities;
///
/// let answer = "```json\n{\"probabilities\": {\"FAILED\": 0.2, \"SUCCESS\": 0.8}}\n```";
/// assert_eq!(parse_probabilities(answer, &["SUCCESS", "FAILED"])?, [0.8, 0.2]);
/// assert!(parse_probabilities("{\"probabilities\": [0.9, 0.9]}", &["SUCCESS", "FAILED"]).is_err());
/// # Ok::<(), aion_market::predict::llm::LlmError>(())
/// ```
///
/// # Errors
/// [`LlmError::Malformed`] with the reason.
pub fn parse_probabilities(text: &str, outcomes: &[&str]) -> Result<Vec<f64>, LlmError> {
    let object = first_object(text)?;
    let found = object
        .get("probabilities")
        .ok_or_else(|| malformed("there is no \"probabilities\""))?;
    let p = match found {
        Value::Array(list) => of_list(list, outcomes.len())?,
        Value::Object(by_name) => of_names(by_name, outcomes)?,
        _ => return Err(malformed("\"probabilities\" is no object")),
    };
    normalised(p)
}

fn malformed(reason: impl Into<String>) -> LlmError {
    LlmError::Malformed(reason.into())
}

/// The first JSON object in a text.
fn first_object(text: &str) -> Result<Map<String, Value>, LlmError> {
    if text.len() > MAX_BYTES {
        return Err(malformed("it is longer than 64 KiB"));
    }
    // A few places are tried, so that a text full of braces costs little.
    for (start, _) in text.match_indices('{').take(16) {
        let mut values = serde_json::Deserializer::from_str(&text[start..]).into_iter::<Value>();
        if let Some(Ok(Value::Object(object))) = values.next() {
            return Ok(object);
        }
    }
    Err(malformed("there is no JSON object in it"))
}

fn of_list(list: &[Value], expected: usize) -> Result<Vec<f64>, LlmError> {
    if list.len() != expected {
        return Err(malformed(format!(
            "there are {} probabilities for {expected} outcomes",
            list.len()
        )));
    }
    list.iter().map(number).collect()
}

fn of_names(by_name: &Map<String, Value>, outcomes: &[&str]) -> Result<Vec<f64>, LlmError> {
    if let Some(name) = by_name.keys().find(|name| !outcomes.contains(&name.as_str())) {
        let name: String = name.chars().take(64).collect();
        return Err(malformed(format!("{name:?} is no outcome")));
    }
    let of = |name: &&str| match by_name.get(*name) {
        Some(value) => number(value),
        None => Err(malformed(format!("{name:?} has no probability"))),
    };
    outcomes.iter().map(of).collect()
}

fn number(value: &Value) -> Result<f64, LlmError> {
    match value.as_f64().filter(|p| (0.0..=1.0).contains(p)) {
        Some(p) => Ok(p),
        None => Err(malformed("a probability is no number in [0, 1]")),
    }
}

fn normalised(p: Vec<f64>) -> Result<Vec<f64>, LlmError> {
    let sum: f64 = p.iter().sum();
    if (sum - 1.0).abs() > SUM_SLACK {
        return Err(malformed(format!("the probabilities sum to {sum}")));
    }
    if sum == 1.0 {
        return Ok(p);
    }
    Ok(p.into_iter().map(|p| p / sum).collect())
}
