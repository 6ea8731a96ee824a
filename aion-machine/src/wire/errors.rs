//! Errors in a problem document, and back.

use serde_json::{Value, json};

use crate::{Error, RelPath};

/// The member `error` of a problem document: what its code does not say.
pub fn error_members(error: &Error) -> Value {
    match error {
        Error::Escapes { path }
        | Error::NotFound { path }
        | Error::Exists { path }
        | Error::Denied { path }
        | Error::NotText { path }
        | Error::NoSpace { path } => json!({"path": path}),
        Error::WrongKind { path, found, needed } => json!({"path": path, "found": found, "needed": needed}),
        Error::TooLarge {
            path,
            size_bytes,
            limit_bytes,
        } => {
            json!({"path": path, "size_bytes": size_bytes, "limit_bytes": limit_bytes})
        }
        Error::Conflict {
            path,
            expected,
            found,
        } => json!({"path": path, "expected": expected, "found": found}),
        Error::EditNotFound { path, index } | Error::EditAmbiguous { path, index } => {
            json!({"path": path, "index": index})
        }
        Error::PatchInvalid { line, reason } => json!({"line": line, "reason": reason}),
        Error::PatchRejected { path, hunk, reason } => json!({"path": path, "hunk": hunk, "reason": reason}),
        Error::HardLinked { path, links } => json!({"path": path, "links": links}),
        Error::Pattern { pattern, reason } => json!({"pattern": pattern, "reason": reason}),
        Error::Invalid { reason } | Error::Supervisor { reason } => json!({"reason": reason}),
        Error::Program { program, reason } => json!({"program": program, "reason": reason}),
        Error::EnvDenied { name } => json!({"name": name}),
        Error::ConfinementUnavailable { gaps } => json!({"gaps": gaps}),
        Error::Busy { limit } => json!({"limit": limit}),
        Error::TooManyWatches { what, limit } => json!({"what": what, "limit": limit}),
        Error::UnknownSnapshot { id } => json!({"id": id}),
        Error::Unsupported { what } => json!({"what": what}),
        _ => json!({}),
    }
}

/// The error of a code and the members above; [`Error::Refused`] where they say nothing that is known here.
pub fn error_of(code: &str, members: &Value, detail: &str) -> Error {
    known(code, members).unwrap_or_else(|| Error::Refused {
        code: code.to_owned(),
        detail: detail.to_owned(),
    })
}

fn known(code: &str, members: &Value) -> Option<Error> {
    let text = |name: &str| Some(members.get(name)?.as_str()?.to_owned());
    let number = |name: &str| members.get(name)?.as_u64();
    let size = |name: &str| usize::try_from(number(name)?).ok();
    let path = || RelPath::parse(members.get("path")?.as_str()?).ok();
    let list = |name: &str| serde_json::from_value(members.get(name)?.clone()).ok();
    let word = |name: &str| Some(word(members.get(name)?.as_str()?));
    Some(match code {
        "path_escapes" => Error::Escapes { path: path()? },
        "not_found" => Error::NotFound { path: path()? },
        "already_exists" => Error::Exists { path: path()? },
        "wrong_kind" => Error::WrongKind {
            path: path()?,
            found: word("found")?,
            needed: word("needed")?,
        },
        "access_denied" => Error::Denied { path: path()? },
        "too_large" => Error::TooLarge {
            path: path()?,
            size_bytes: number("size_bytes")?,
            limit_bytes: number("limit_bytes")?,
        },
        "not_text" => Error::NotText { path: path()? },
        "conflict" => Error::Conflict {
            path: path()?,
            expected: text("expected")?,
            found: text("found")?,
        },
        "edit_not_found" => Error::EditNotFound {
            path: path()?,
            index: size("index")?,
        },
        "edit_ambiguous" => Error::EditAmbiguous {
            path: path()?,
            index: size("index")?,
        },
        "invalid_patch" => Error::PatchInvalid {
            line: size("line")?,
            reason: text("reason")?,
        },
        "patch_rejected" => Error::PatchRejected {
            path: path()?,
            hunk: size("hunk")?,
            reason: text("reason")?,
        },
        "hard_linked" => Error::HardLinked {
            path: path()?,
            links: number("links")?,
        },
        "no_space" => Error::NoSpace { path: path()? },
        "invalid_pattern" => Error::Pattern {
            pattern: text("pattern")?,
            reason: text("reason")?,
        },
        "invalid_request" => Error::Invalid {
            reason: text("reason")?,
        },
        "program_not_found" => Error::Program {
            program: text("program")?,
            reason: text("reason")?,
        },
        "env_denied" => Error::EnvDenied { name: text("name")? },
        "confinement_unavailable" => Error::ConfinementUnavailable { gaps: list("gaps")? },
        "no_supervisor" => Error::NoSupervisor,
        "supervisor_failed" => Error::Supervisor {
            reason: text("reason")?,
        },
        "busy" | "task_busy" => Error::Busy {
            limit: size("limit")?,
        },
        "too_many_watches" => Error::TooManyWatches {
            what: word("what")?,
            limit: size("limit")?,
        },
        "unknown_snapshot" => Error::UnknownSnapshot { id: number("id")? },
        "unsupported" => Error::Unsupported { what: word("what")? },
        "audit_no_space" => Error::Audit(std::io::ErrorKind::StorageFull.into()),
        "audit_unavailable" => Error::Audit(std::io::Error::other("of the remote machine")),
        _ => return None,
    })
}

/// The words that errors use, since they are not kept as text.
const WORDS: [&str; 16] = [
    "file",
    "directory",
    "symbolic link",
    "device, pipe or socket",
    "device or pipe",
    "directory with entries",
    "file or directory",
    "file or empty directory",
    "workspace root",
    "execute programs",
    "watch for changes",
    "take snapshots",
    "watches",
    "directories",
    "watched directories",
    "entries",
];

fn word(text: &str) -> &'static str {
    WORDS
        .into_iter()
        .find(|word| *word == text)
        .unwrap_or("something else")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_come_back_as_they_were() {
        let path = || RelPath::parse("a/b").unwrap();
        let errors = [
            Error::NotFound { path: path() },
            Error::WrongKind {
                path: path(),
                found: "directory",
                needed: "file",
            },
            Error::TooLarge {
                path: path(),
                size_bytes: 9,
                limit_bytes: 8,
            },
            Error::Conflict {
                path: path(),
                expected: "x".into(),
                found: "nothing".into(),
            },
            Error::EditAmbiguous {
                path: path(),
                index: 3,
            },
            Error::PatchRejected {
                path: path(),
                hunk: 2,
                reason: "r".into(),
            },
            Error::Program {
                program: "p".into(),
                reason: "r".into(),
            },
            Error::ConfinementUnavailable {
                gaps: vec!["g".into()],
            },
            Error::Busy { limit: 4 },
            Error::UnknownSnapshot { id: 7 },
            Error::Unsupported {
                what: "execute programs",
            },
            Error::NoSupervisor,
        ];
        for error in errors {
            let back = error_of(error.code(), &error_members(&error), "detail");
            assert_eq!((back.code(), back.to_string()), (error.code(), error.to_string()));
        }
        let foreign = error_of("brand_new", &Value::Null, "it is new");
        assert_eq!(
            foreign.to_string(),
            "the remote machine refused (brand_new): it is new"
        );
        assert_eq!(
            error_of("not_found", &json!({"path": "../x"}), "").code(),
            "refused"
        );
    }
}
