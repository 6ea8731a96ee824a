//! Takes secrets out of text before it becomes training text.

use std::fmt;
use std::sync::OnceLock;

use regex::Regex;
use serde_json::Value;

use crate::tool::percent;

/// What stands where a secret stood.
pub const REDACTED: &str = "[redacted]";

/// Forms that keys and passwords usually have; the groups `keep` and `tail` stay.
const PATTERNS: [&str; 9] = [
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)",
    r"(?P<keep>^|[^A-Za-z])(?:sk|rk|pk)-[A-Za-z0-9_\-]{16,}",
    r"(?P<keep>^|[^A-Za-z])(?:ghp|gho|ghu|ghs|ghr|github_pat|glpat|hf|npm|pypi)[_\-][A-Za-z0-9_\-]{16,}",
    r"(?P<keep>^|[^A-Za-z])xox[abeoprs]-[A-Za-z0-9\-]{10,}",
    r"(?P<keep>^|[^A-Za-z])(?:AKIA|ASIA)[0-9A-Z]{16}",
    r"(?P<keep>^|[^A-Za-z])AIza[0-9A-Za-z_\-]{35}",
    r"(?P<keep>^|[^A-Za-z])eyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]{8,}",
    r"(?P<keep>(?i:bearer|basic)\s+)[A-Za-z0-9._~+/=\-]{16,}",
    concat!(
        r#"(?P<keep>(?i:passwd|password|passphrase|secret|api[_\-]?key|access[_\-]?token|auth[_\-]?token|client[_\-]?secret)"#,
        r#"\\?["']?\s*[:=]\s*\\?["']?)[^\s"'\\,;&}\]]{6,}"#
    ),
];

/// Credentials inside an address.
const URL_PATTERN: &str = r"(?P<keep>://[^\s/:@]{1,64}:)[^\s/@]{1,256}(?P<tail>@)";

/// The shortest given value that is looked for: shorter ones would eat ordinary words.
const MIN_VALUE_BYTES: usize = 4;

/// Replaces the usual forms of keys and passwords, and the values it was given.
///
/// ```
/// use aion_loop::Redactor;
///
/// let redactor = Redactor::default().with_values(["correct horse"]);
/// let text = redactor.redact("password=hunter2hunter2 and correct horse");
/// assert_eq!(text, "password=[redacted] and [redacted]");
/// ```
#[derive(Clone, Default)]
pub struct Redactor {
    values: Vec<String>,
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redactor")
            .field("values", &self.values.len())
            .finish()
    }
}

impl Redactor {
    /// Also takes out these very values, such as the API keys of this process, wherever they stand;
    /// values of fewer than 4 bytes are left.
    #[must_use]
    pub fn with_values<T: Into<String>>(mut self, values: impl IntoIterator<Item = T>) -> Self {
        for value in values.into_iter().map(Into::into) {
            if value.len() < MIN_VALUE_BYTES {
                continue;
            }
            // Inside JSON text, and again in JSON within JSON, the value stands escaped; in an address, encoded.
            let once = json_escaped(&value);
            self.values
                .extend([json_escaped(&once), once, percent(&value), value]);
        }
        self.values
            .sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        self.values.dedup();
        self
    }

    /// The text without secrets. JSON stays JSON.
    pub fn redact(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for value in &self.values {
            if text.contains(value.as_str()) {
                text = text.replace(value.as_str(), REDACTED);
            }
        }
        for pattern in patterns() {
            if pattern.is_match(&text) {
                text = pattern
                    .replace_all(&text, format!("${{keep}}{REDACTED}${{tail}}"))
                    .into_owned();
            }
        }
        text
    }
}

fn json_escaped(text: &str) -> String {
    let quoted = Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

fn patterns() -> &'static [Regex] {
    static COMPILED: OnceLock<Vec<Regex>> = OnceLock::new();
    COMPILED.get_or_init(|| {
        let all = PATTERNS.iter().chain([&URL_PATTERN]);
        all.filter_map(|pattern| Regex::new(pattern).ok()).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_compiles() {
        assert_eq!(patterns().len(), PATTERNS.len() + 1);
    }

    #[test]
    fn the_usual_forms_are_found() {
        let redactor = Redactor::default();
        for (text, left) in [
            ("key sk-abcdefghijklmnopqrstuvwx end", "key [redacted] end"),
            ("a%20sk-abcdefghijklmnopqrstuvwx: 1", "a%20[redacted]: 1"),
            ("ghp_abcdefghijklmnopqrstuvwxyz0123456789", "[redacted]"),
            ("AKIAIOSFODNN7EXAMPLE", "[redacted]"),
            (
                "Authorization: Bearer abcdefghijklmnop.qrst",
                "Authorization: Bearer [redacted]",
            ),
            (
                r#"{"api_key":"abcdef123456","n":1}"#,
                r#"{"api_key":"[redacted]","n":1}"#,
            ),
            (
                r#""{\"password\":\"hunter2!!\"}""#,
                r#""{\"password\":\"[redacted]\"}""#,
            ),
            (
                "postgres://me:pa55word@host/db",
                "postgres://me:[redacted]@host/db",
            ),
            (
                "-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----!",
                "[redacted]!",
            ),
        ] {
            assert_eq!(redactor.redact(text), left);
        }
    }

    #[test]
    fn ordinary_text_stays() {
        let text = "The token count is 5; see https://example.com/a:b and the secret garden. risk-free";
        assert_eq!(Redactor::default().with_values(["abc"]).redact(text), text);
    }

    #[test]
    fn given_values_are_found_escaped_too() {
        let redactor = Redactor::default().with_values(["a\"b\\c"]);
        assert_eq!(redactor.redact(r#"{"x":"a\"b\\c"}"#), r#"{"x":"[redacted]"}"#);
    }
}
