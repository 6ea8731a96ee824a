//! Tools from an OpenAPI 3.1 document: every operation with a JSON body or none becomes a tool.
//!
//! The document is walked as plain JSON, so that keywords nobody foresaw survive. Schemas keep their
//! `$ref`s: what they refer to moves under the tool's own `$defs`, so that recursive schemas stay
//! exactly what they were.

mod operation;
mod schema;

use std::collections::BTreeSet;

use serde_json::Value;

use crate::tool::Tool;

/// Limits and choices for deriving tools.
#[derive(Debug, Clone)]
pub struct OpenApiOptions {
    only: Option<BTreeSet<String>>,
    without: BTreeSet<String>,
    keys: IdempotencyKeys,
    max_document_bytes: usize,
    max_schema_bytes: usize,
    max_depth: usize,
    max_description_bytes: usize,
}

/// Whether a service answers a repeated `Idempotency-Key` from its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IdempotencyKeys {
    /// Only where an operation declares the header.
    #[default]
    WhereDeclared,
    /// Everywhere.
    Honoured,
}

impl Default for OpenApiOptions {
    fn default() -> Self {
        Self {
            only: None,
            without: BTreeSet::new(),
            keys: IdempotencyKeys::WhereDeclared,
            max_document_bytes: 4 << 20,
            max_schema_bytes: 256 << 10,
            max_depth: 64,
            max_description_bytes: 600,
        }
    }
}

impl OpenApiOptions {
    /// Takes only the operations with these ids; one that is missing or unfit is then an error.
    #[must_use]
    pub fn with_only<T: Into<String>>(mut self, operations: impl IntoIterator<Item = T>) -> Self {
        self.only = Some(operations.into_iter().map(Into::into).collect());
        self
    }

    /// Leaves out the operations with these ids.
    #[must_use]
    pub fn without<T: Into<String>>(mut self, operations: impl IntoIterator<Item = T>) -> Self {
        self.without = operations.into_iter().map(Into::into).collect();
        self
    }

    /// Says whether the service honours `Idempotency-Key`.
    #[must_use]
    pub fn with_keys(mut self, keys: IdempotencyKeys) -> Self {
        self.keys = keys;
        self
    }

    /// Sets the largest document, in bytes of compact JSON (4 MiB).
    #[must_use]
    pub fn with_max_document_bytes(mut self, bytes: usize) -> Self {
        self.max_document_bytes = bytes;
        self
    }

    /// Sets the largest schema of one tool, in bytes of compact JSON (256 KiB).
    #[must_use]
    pub fn with_max_schema_bytes(mut self, bytes: usize) -> Self {
        self.max_schema_bytes = bytes;
        self
    }
}

/// Why a document or one of its operations makes no tool.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenApiError {
    /// Not an OpenAPI 3.1 document.
    #[error("not an OpenAPI 3.1 document: {0}")]
    NotOpenApi(String),
    /// A `$ref` that leads nowhere.
    #[error("the reference {0} leads nowhere")]
    UnknownRef(String),
    /// A `$ref` out of the document.
    #[error("the reference {0} leads out of the document")]
    ExternalRef(String),
    /// A chain of `$ref`s that never reaches a schema.
    #[error("the reference {0} leads back to itself")]
    CyclicRef(String),
    /// Something is nested too deeply.
    #[error("nested more than {0} levels deep")]
    TooDeep(usize),
    /// Something is too large.
    #[error("{what} has more than {limit} bytes")]
    TooLarge {
        /// The document or a schema.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// An operation whose body is not JSON.
    #[error("the body is not JSON")]
    NotJsonBody,
    /// An operation without an id.
    #[error("the operation has no id")]
    NoId,
    /// Something malformed.
    #[error("{0}")]
    Malformed(String),
    /// An operation that was asked for does not exist.
    #[error("there is no operation {0}")]
    NoSuchOperation(String),
    /// An operation that was asked for cannot be a tool.
    #[error("the operation {operation} cannot be a tool: {reason}")]
    Unfit {
        /// Its id.
        operation: String,
        /// Why.
        reason: Box<OpenApiError>,
    },
}

/// The tools of a document, and the operations that cannot be tools.
#[derive(Debug, Clone, Default)]
pub struct Derived {
    /// The tools, sorted by name.
    pub tools: Vec<Tool>,
    /// What was left out: operation and reason, sorted.
    pub skipped: Vec<(String, OpenApiError)>,
}

/// Derives the tools of `service` from its OpenAPI 3.1 document.
///
/// ```
/// use aion_loop::{OpenApiOptions, tools_from_openapi};
/// use serde_json::json;
///
/// let document = json!({"openapi": "3.1.0", "paths": {"/v1/tasks/{id}": {"get": {
///     "operationId": "get_task", "summary": "Reads a task.",
///     "parameters": [{"name": "id", "in": "path", "required": true, "schema": {"type": "string"}}],
/// }}}});
/// let derived = tools_from_openapi(&document, "processor", &OpenApiOptions::default())?;
/// assert_eq!(derived.tools[0].signature(), "get_task(id)");
/// assert!(derived.tools[0].replay.is_safe());
/// # Ok::<(), aion_loop::openapi::OpenApiError>(())
/// ```
///
/// # Errors
/// [`OpenApiError`] when the document is none or too large, or when an operation that was asked for
/// by id is missing or unfit. Other unfit operations are listed in [`Derived::skipped`].
pub fn tools_from_openapi(
    document: &Value,
    service: &str,
    options: &OpenApiOptions,
) -> Result<Derived, OpenApiError> {
    check_document(document, options)?;
    let mut derived = Derived::default();
    for found in operation::list(document)? {
        let id = found.id();
        if let (Some(only), Some(id)) = (&options.only, &id)
            && !only.contains(id)
        {
            continue;
        }
        if id.as_ref().is_some_and(|id| options.without.contains(id)) {
            continue;
        }
        match (operation::tool(document, &found, service, options), &options.only) {
            (Ok(tool), _) => derived.tools.push(tool),
            (Err(OpenApiError::NoId), Some(_)) => {}
            (Err(reason), Some(_)) => {
                return Err(OpenApiError::Unfit {
                    operation: id.unwrap_or_default(),
                    reason: Box::new(reason),
                });
            }
            (Err(reason), None) => derived.skipped.push((found.label(), reason)),
        }
    }
    check_wanted(&derived, options)?;
    derived.tools.sort_by(|a, b| a.name.cmp(&b.name));
    derived.skipped.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(derived)
}

fn check_document(document: &Value, options: &OpenApiOptions) -> Result<(), OpenApiError> {
    let version = document
        .get("openapi")
        .and_then(Value::as_str)
        .unwrap_or_default();
    if !version.starts_with("3.1") {
        return Err(OpenApiError::NotOpenApi(format!("its version is {version:?}")));
    }
    schema::check_size(document, "the document", options.max_document_bytes)
}

fn check_wanted(derived: &Derived, options: &OpenApiOptions) -> Result<(), OpenApiError> {
    for wanted in options.only.iter().flatten() {
        if !derived
            .tools
            .iter()
            .any(|tool| tool.name == operation::tool_name(wanted))
        {
            return Err(OpenApiError::NoSuchOperation(wanted.clone()));
        }
    }
    Ok(())
}
