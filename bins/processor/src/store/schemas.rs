//! How the document describes what goes over the wire, whose types are the library's: by hand, in `schemas.json`.
//! Tests hold it against the types.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::LazyLock;

use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

static SCHEMAS: LazyLock<BTreeMap<String, RefOr<Schema>>> =
    LazyLock::new(|| serde_json::from_str(include_str!("schemas.json")).unwrap_or_default());

/// The schema of this name.
pub(super) fn schema(name: &str) -> RefOr<Schema> {
    SCHEMAS.get(name).cloned().unwrap_or_default()
}

/// All of them, since they refer to each other.
pub(super) fn all(all: &mut Vec<(String, RefOr<Schema>)>) {
    all.extend(
        SCHEMAS
            .iter()
            .map(|(name, schema)| (name.clone(), schema.clone())),
    );
}

macro_rules! described {
    ($($name:ident),* $(,)?) => {
        $(
            /// A name in the document.
            #[derive(Debug)]
            pub(super) struct $name;

            impl PartialSchema for $name {
                fn schema() -> RefOr<Schema> {
                    schema(stringify!($name))
                }
            }

            impl ToSchema for $name {
                fn name() -> Cow<'static, str> {
                    stringify!($name).into()
                }

                fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
                    all(schemas);
                }
            }
        )*
    };
}

described!(
    StoreAnswer,
    StoreAsk,
    StoreClaims,
    StoreDue,
    StoreDueReport,
    StoreHint,
    StoreInfo,
    StoreLeases,
    StoreResults,
    StoreTime,
    StoreWrites,
);

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// Nothing of the text is lost on its way into the document.
    #[test]
    fn the_text_is_kept() {
        let text: BTreeMap<String, Value> = serde_json::from_str(include_str!("schemas.json")).unwrap();
        for (name, wanted) in text {
            assert_eq!(serde_json::to_value(schema(&name)).unwrap(), wanted, "{name}");
        }
    }
}
