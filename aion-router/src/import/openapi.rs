//! Tools from an OpenAPI document, one an operation.

use serde_json::{Map, Value, json};

use super::schema::{line, resolve, words};
use super::{Imported, Importer, Part, bad_document};
use crate::error::Result;
use crate::item::Surface;

const METHODS: [&str; 8] = [
    "get", "put", "post", "delete", "options", "head", "patch", "trace",
];

/// The operations of an OpenAPI document (3.0 or 3.1) as tools: summary and description, parameters and body
/// in words, tags, and in the fullest rendering the method, the path and the schema of what it takes.
///
/// An operation without an `operationId` is called by its method and path.
///
/// # Errors
/// [`Error::BadDocument`](crate::Error::BadDocument) without an object `paths`,
/// [`Error::LimitReached`](crate::Error::LimitReached) for more than 10,000 operations.
pub fn openapi(document: &Value, importer: &Importer<'_>) -> Result<Imported> {
    let paths = document["paths"]
        .as_object()
        .ok_or_else(|| bad_document("/paths", "an OpenAPI document has an object of paths"))?;
    let mut imported = Imported::default();
    for (path, item) in paths {
        let item = resolve(document, item);
        for method in METHODS {
            let Some(operation) = item.get(method).filter(|operation| operation.is_object()) else {
                continue;
            };
            let at = format!("/paths/{}/{method}", path.replace('~', "~0").replace('/', "~1"));
            let part = Operation {
                document,
                path,
                method,
                shared: &item["parameters"],
                operation,
            };
            imported.take(at, importer.item(Surface::Tool, &part.part()))?;
        }
    }
    Ok(imported.without_doubles())
}

struct Operation<'a> {
    document: &'a Value,
    path: &'a str,
    method: &'static str,
    /// The parameters of all operations of its path.
    shared: &'a Value,
    operation: &'a Value,
}

impl<'a> Operation<'a> {
    fn part(&self) -> Part {
        let text = |member: &str| self.operation[member].as_str().unwrap_or_default().trim();
        let both = format!("{}\n{}", text("summary"), text("description"));
        let tags = self.operation["tags"].as_array().into_iter().flatten();
        Part {
            name: self.name(),
            text: both.trim().to_owned(),
            parameters: self.worded(),
            tags: tags.filter_map(Value::as_str).map(str::to_owned).collect(),
            schema: format!("{} {} {}", self.method.to_uppercase(), self.path, self.schema()),
        }
    }

    fn name(&self) -> String {
        let given = self.operation["operationId"]
            .as_str()
            .filter(|id| !id.trim().is_empty());
        let by_path = || {
            let words = self.path.split(|c: char| !c.is_alphanumeric());
            let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
            format!("{}_{}", self.method, words.join("_"))
        };
        given.map_or_else(by_path, str::to_owned)
    }

    fn parameters(&self) -> impl Iterator<Item = &'a Value> {
        let own = self.operation["parameters"].as_array();
        let all = self.shared.as_array().into_iter().chain(own).flatten();
        let document = self.document;
        all.map(move |parameter| resolve(document, parameter))
    }

    /// The schema of its JSON body, if it takes one.
    fn body(&self) -> &'a Value {
        let body = resolve(self.document, &self.operation["requestBody"]);
        let content = body["content"].as_object();
        let json = content.and_then(|types| {
            let is_json = |name: &str| name == "application/json" || name.ends_with("+json");
            types
                .iter()
                .find(|(name, _)| is_json(name))
                .or_else(|| types.iter().next())
        });
        json.map_or(&Value::Null, |(_, kind)| &kind["schema"])
    }

    fn worded(&self) -> String {
        let named = self.parameters().filter_map(|parameter| {
            let name = parameter["name"].as_str()?;
            Some(line(name, parameter["description"].as_str().unwrap_or_default()))
        });
        let mut lines: Vec<String> = named.collect();
        lines.push(words(self.document, self.body()));
        lines.join("\n").trim_end().to_owned()
    }

    /// What it takes, as one object.
    fn schema(&self) -> Value {
        let mut properties = Map::new();
        let mut required = Vec::new();
        for parameter in self.parameters() {
            let Some(name) = parameter["name"].as_str() else {
                continue;
            };
            properties.insert(
                name.to_owned(),
                resolve(self.document, &parameter["schema"]).clone(),
            );
            if parameter["required"] == true {
                required.push(Value::from(name));
            }
        }
        if !self.body().is_null() {
            properties.insert("body".to_owned(), resolve(self.document, self.body()).clone());
        }
        json!({ "properties": properties, "required": required })
    }
}
