//! What a step changed: the JSON patch between two states, stored whole and shown short.

use json_patch::{Patch, PatchOperation};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::canonical::{canonical_json, clip};

/// The longest value in a rendered line, in bytes.
const VALUE_BYTES: usize = 80;

/// The difference between two states as an RFC 6902 patch.
///
/// ```
/// use aion_loop::StateDiff;
/// use serde_json::json;
///
/// let before = json!({"machine": {"files": 1, "cwd": "a"}});
/// let after = json!({"machine": {"files": 2, "cwd": "a"}});
/// let diff = StateDiff::between(&before, &after);
/// assert_eq!(diff.render(10), "machine.files: 2");
/// let mut state = before.clone();
/// diff.apply(&mut state).unwrap();
/// assert_eq!(state, after);
/// ```
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StateDiff {
    patch: Patch,
}

impl StateDiff {
    /// What turns `before` into `after`.
    pub fn between(before: &Value, after: &Value) -> Self {
        Self {
            patch: json_patch::diff(before, after),
        }
    }

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.patch.0.is_empty()
    }

    /// This difference, or where it has more than `max` changes, the whole state as one change.
    #[must_use]
    pub fn limited(self, max: usize, after: &Value) -> Self {
        if self.len() <= max {
            return self;
        }
        let replace = json_patch::ReplaceOperation {
            path: json_patch::jsonptr::PointerBuf::root(),
            value: after.clone(),
        };
        Self {
            patch: Patch(vec![PatchOperation::Replace(replace)]),
        }
    }

    /// How many places changed.
    pub fn len(&self) -> usize {
        self.patch.0.len()
    }

    /// The patch.
    pub fn patch(&self) -> &Patch {
        &self.patch
    }

    /// Changes `state` as the step changed it.
    ///
    /// # Errors
    /// A sentence when `state` is not the one that the difference was taken from; it is unchanged then.
    pub fn apply(&self, state: &mut Value) -> Result<(), String> {
        json_patch::patch(state, &self.patch).map_err(|error| error.to_string())
    }

    /// One short line a change, at most `max_lines`; empty if nothing changed.
    pub fn render(&self, max_lines: usize) -> String {
        let mut lines: Vec<String> = self.patch.0.iter().take(max_lines).map(line).collect();
        let hidden = self.len().saturating_sub(max_lines);
        if hidden > 0 {
            lines.push(format!("… and {hidden} more changes"));
        }
        lines.join("\n")
    }
}

fn line(operation: &PatchOperation) -> String {
    match operation {
        PatchOperation::Add(add) => format!("+ {}: {}", dotted(add.path.as_str()), short(&add.value)),
        PatchOperation::Remove(remove) => format!("- {}", dotted(remove.path.as_str())),
        PatchOperation::Replace(replace) => {
            format!("{}: {}", dotted(replace.path.as_str()), short(&replace.value))
        }
        other => format!("~ {}", dotted(other.path().as_str())),
    }
}

/// `/a/b~1c/0` as `a.b/c.0`.
fn dotted(pointer: &str) -> String {
    let parts: Vec<String> = pointer
        .split('/')
        .skip(1)
        .map(|part| part.replace("~1", "/").replace("~0", "~"))
        .collect();
    if parts.is_empty() {
        "state".to_owned()
    } else {
        parts.join(".")
    }
}

fn short(value: &Value) -> String {
    clip(&canonical_json(value), VALUE_BYTES)
}

/// The state as one line of canonical JSON of at most `max_bytes`.
pub(crate) fn render_state(state: &Value, max_bytes: usize) -> String {
    clip(&canonical_json(state), max_bytes)
}
