//! The environment of an execution: built from nothing, never inherited.

use std::collections::BTreeMap;

use crate::{Error, Result};

/// What every program gets.
const BASE: [(&str, &str); 5] = [
    (
        "PATH",
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    ),
    ("HOME", "/tmp"),
    ("LANG", "C.UTF-8"),
    ("TZ", "UTC"),
    ("TMPDIR", "/tmp"),
];

/// Names that a request may not set, because the dynamic loader or a shell obeys them.
const DENIED_NAMES: [&str; 4] = ["BASH_ENV", "ENV", "GLIBC_TUNABLES", "IFS"];
const DENIED_PREFIXES: [&str; 2] = ["LD_", "BASH_FUNC_"];
/// Names that end like this are names of secrets.
const DENIED_SUFFIXES: [&str; 6] = [
    "_KEY",
    "_TOKEN",
    "_SECRET",
    "_PASSWORD",
    "_PASSWD",
    "_CREDENTIALS",
];
const MAX_VARIABLES: usize = 128;
const MAX_VALUE_BYTES: usize = 32 << 10;

/// The base and what the request adds or replaces; `allowed` are names that the operator vouches for.
pub(crate) fn build(extra: &BTreeMap<String, String>, allowed: &[String]) -> Result<Vec<(String, String)>> {
    if extra.len() > MAX_VARIABLES {
        return Err(Error::invalid(format!(
            "more than {MAX_VARIABLES} environment variables"
        )));
    }
    let mut env: BTreeMap<_, _> = BASE
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    for (name, value) in extra {
        check(name, value, allowed)?;
        env.insert(name.clone(), value.clone());
    }
    Ok(env.into_iter().collect())
}

fn check(name: &str, value: &str, allowed: &[String]) -> Result<()> {
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if name.is_empty() || !plain || name.as_bytes()[0].is_ascii_digit() {
        return Err(Error::invalid(
            "an environment variable has a name that is not one",
        ));
    }
    if value.contains('\0') || value.len() > MAX_VALUE_BYTES {
        return Err(Error::invalid(format!(
            "the value of `{name}` has a NUL byte or is too long"
        )));
    }
    let upper = name.to_ascii_uppercase();
    let denied = DENIED_NAMES.contains(&upper.as_str())
        || DENIED_PREFIXES.iter().any(|p| upper.starts_with(p))
        || DENIED_SUFFIXES.iter().any(|s| upper.ends_with(s));
    if denied && !allowed.iter().any(|known| known == name) {
        Err(Error::EnvDenied {
            name: name.to_owned(),
        })
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loaders_and_secrets_are_refused_and_the_rest_is_not() {
        let allowed = ["GH_TOKEN_FOR_READING".to_owned(), "NPM_TOKEN".to_owned()];
        let one = |name: &str| build(&BTreeMap::from([(name.to_owned(), "x".to_owned())]), &allowed);
        for name in [
            "LD_PRELOAD",
            "ld_library_path",
            "OPENAI_API_KEY",
            "GH_TOKEN",
            "A_SECRET",
            "ENV",
            "npm_token",
        ] {
            assert_eq!(one(name).unwrap_err().code(), "env_denied", "{name}");
        }
        for name in ["", "1A", "A=B", "A\0"] {
            assert_eq!(one(name).unwrap_err().code(), "invalid_request", "{name:?}");
        }
        assert!(
            one("RUST_LOG")
                .unwrap()
                .contains(&("RUST_LOG".to_owned(), "x".to_owned()))
        );
        assert!(one("NPM_TOKEN").is_ok(), "the operator allows this one");
    }
}
