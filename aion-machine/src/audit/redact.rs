//! Blotting out what looks like a secret in a command line.

/// What is put in the place of a secret.
const BLOT: &str = "[redacted]";
/// Longer arguments are cut, in bytes.
const MAX_SHOWN_BYTES: usize = 300;
/// More arguments are counted only.
const MAX_SHOWN_ARGUMENTS: usize = 40;
/// Words in the name of an option or a variable that has a secret.
const NAMES: [&str; 10] = [
    "token",
    "secret",
    "password",
    "passwd",
    "apikey",
    "api-key",
    "api_key",
    "credential",
    "authorization",
    "private-key",
];
/// How well-known secrets begin.
const PREFIXES: [&str; 16] = [
    "sk-",
    "sk_",
    "pk_live",
    "rk_live",
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "github_pat_",
    "glpat-",
    "xox",
    "AKIA",
    "AIza",
    "eyJ",
    "whsec_",
];
/// A word of letters of both cases and digits that is this long is nobody's name.
const MIN_RANDOM_CHARS: usize = 32;

/// A command line for a log: arguments that look like secrets, or come after options that want one, are
/// blotted out, and long ones are cut.
///
/// ```
/// use aion_machine::audit::redacted;
/// let argv = ["curl", "-H", "Authorization: Bearer abc", "--token", "s3cret", "https://me:pw@example.org/x"];
/// let shown = redacted(&argv.map(String::from));
/// assert_eq!(shown[2], "Authorization: [redacted]");
/// assert_eq!(shown[4], "[redacted]");
/// assert_eq!(shown[5], "https://[redacted]@example.org/x");
/// ```
pub fn redacted(argv: &[String]) -> Vec<String> {
    let mut shown = Vec::new();
    let mut next_is_secret = false;
    for argument in argv.iter().take(MAX_SHOWN_ARGUMENTS) {
        let text = if next_is_secret {
            BLOT.to_owned()
        } else {
            line(argument)
        };
        next_is_secret = !next_is_secret && is_option_for_secret(argument);
        shown.push(cut(text));
    }
    if argv.len() > MAX_SHOWN_ARGUMENTS {
        shown.push(format!("[{} more]", argv.len() - MAX_SHOWN_ARGUMENTS));
    }
    shown
}

fn is_option_for_secret(argument: &str) -> bool {
    argument.starts_with('-') && !argument.contains(['=', ' ']) && names_a_secret(argument)
}

fn names_a_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let key = name.ends_with("_key") || name.ends_with("-key");
    key || NAMES.iter().any(|word| name.contains(word))
}

/// One argument, which may be a whole line for a shell.
fn line(text: &str) -> String {
    if text.contains("-----BEGIN") {
        return BLOT.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    let (mut rest, mut next_is_secret) = (text, false);
    while !rest.is_empty() {
        let end = rest.find(is_break).unwrap_or(rest.len());
        let (found, after) = rest.split_at(end);
        if !found.is_empty() {
            let bearer = matches!(found, "Bearer" | "Basic" | "bearer" | "basic");
            if next_is_secret {
                out.push_str(BLOT);
            } else {
                out.push_str(&word(found));
            }
            let header = found.ends_with(':') && names_a_secret(found);
            if header {
                // The whole value of such a header, up to the end of the quotation or the line.
                let end = after.find(['"', '\'', '\n']).unwrap_or(after.len());
                out.push_str(if after[..end].trim().is_empty() {
                    &after[..end]
                } else {
                    " [redacted]"
                });
                (rest, next_is_secret) = (&after[end..], false);
                continue;
            }
            next_is_secret = bearer || (!next_is_secret && is_option_for_secret(found));
        }
        let width = after.chars().next().map_or(0, char::len_utf8);
        out.push_str(&after[..width]);
        rest = &after[width..];
    }
    out
}

fn is_break(c: char) -> bool {
    c.is_whitespace()
        || matches!(
            c,
            '"' | '\'' | ';' | '|' | '&' | '(' | ')' | '<' | '>' | '`' | ','
        )
}

/// A word without spaces: `NAME=SECRET`, `scheme://user:password@host`, or a secret by its looks.
fn word(word: &str) -> String {
    let (before, after) = word.split_once("://").unwrap_or((word, ""));
    if let Some((name, value)) = before.split_once('=') {
        // All that stands behind the name, an address included.
        let value = &word[before.len() - value.len()..];
        return if names_a_secret(name) && !value.is_empty() {
            format!("{name}={BLOT}")
        } else {
            format!("{name}={}", self::word(value))
        };
    }
    if before.len() < word.len() {
        let host = after.find('/').unwrap_or(after.len());
        let (user, rest) = match after[..host].rfind('@') {
            Some(at) => (BLOT, &after[at..]),
            None => ("", after),
        };
        return format!("{before}://{user}{}", parameters(rest));
    }
    if let Some((name, _)) = word.split_once(':').filter(|(_, value)| !value.is_empty())
        && names_a_secret(name)
    {
        return format!("{name}:{BLOT}");
    }
    if looks_secret(word) {
        BLOT.to_owned()
    } else {
        word.to_owned()
    }
}

/// The part of an address behind its host, in which parameters may be secrets.
fn parameters(rest: &str) -> String {
    let Some((path, query)) = rest.split_once('?') else {
        return rest.to_owned();
    };
    let parts: Vec<String> = query.split('&').map(word).collect();
    format!("{path}?{}", parts.join("&"))
}

fn looks_secret(word: &str) -> bool {
    let known = word.len() >= 16 && PREFIXES.iter().any(|prefix| word.starts_with(prefix));
    let part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '_' | '-' | '=');
    let random = word.len() >= MIN_RANDOM_CHARS
        && word.chars().all(part)
        && word.contains(|c: char| c.is_ascii_uppercase())
        && word.contains(|c: char| c.is_ascii_lowercase())
        && word.contains(|c: char| c.is_ascii_digit());
    known || random
}

fn cut(text: String) -> String {
    if text.len() <= MAX_SHOWN_BYTES {
        return text;
    }
    let mut end = MAX_SHOWN_BYTES;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}[+{} bytes]", &text[..end], text.len() - end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(text: &str) -> String {
        redacted(&[text.to_owned()]).remove(0)
    }

    #[test]
    fn secrets_go_and_the_rest_stays() {
        for (text, shown) in [
            ("ls -l src/main.rs", "ls -l src/main.rs"),
            ("export GH_TOKEN=abc; make", "export GH_TOKEN=[redacted]; make"),
            (
                "curl -H 'X-Api-Key: abc def' x",
                "curl -H 'X-Api-Key: [redacted]' x",
            ),
            ("tool --password hunter2 go", "tool --password [redacted] go"),
            ("echo ghp_0123456789abcdefghij", "echo [redacted]"),
            (
                "git clone https://u:p@host/r.git",
                "git clone https://[redacted]@host/r.git",
            ),
            (
                "DATABASE_URL=postgres://u:p@host/db git clone https://u:p@host/r?ref=main",
                "DATABASE_URL=postgres://[redacted]@host/db git clone https://[redacted]@host/r?ref=main",
            ),
            (
                "http GET https://host/r?access_token=abc",
                "http GET https://host/r?access_token=[redacted]",
            ),
            ("http host X-Api-Key:abc", "http host X-Api-Key:[redacted]"),
            (
                "git show 0123456789abcdef0123456789abcdef01234567",
                "git show 0123456789abcdef0123456789abcdef01234567",
            ),
            ("echo aB3aB3aB3aB3aB3aB3aB3aB3aB3aB3aB3", "echo [redacted]"),
            ("-----BEGIN PRIVATE KEY-----\nabc", "[redacted]"),
            (
                "curl -H \"Authorization: Bearer abc\"",
                "curl -H \"Authorization: [redacted]\"",
            ),
        ] {
            assert_eq!(one(text), shown);
        }
        let apart = redacted(&["--api-key".into(), "abc".into(), "abc".into()]);
        assert_eq!(apart, ["--api-key", "[redacted]", "abc"]);
    }

    proptest! {
        /// Whatever the line is: it is shown without a panic, and not much longer than it may be.
        #[test]
        fn any_line_can_be_shown(text in "\\PC{0,600}") {
            prop_assert!(one(&text).len() <= MAX_SHOWN_BYTES + 32);
        }
    }
}
