//! Completes an OpenAPI document with what every service shares.

use serde_json::Value;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{
    Components, ContentBuilder, Info, License, OpenApi, Ref, ResponseBuilder, SecurityRequirement, Server,
};
use utoipa::{PartialSchema, ToSchema};
use utoipa_axum::router::OpenApiRouter;

use crate::Problem;
use crate::problem::PROBLEM_JSON;

const KEY_SCHEME: &str = "api_key";

/// Fills in title, version, licence, server, the key, and a `default` problem answer everywhere.
pub(crate) fn complete(api: &mut OpenApi, name: &str, port: u16) {
    let mut info = Info::new(format!("aion-{name}"), env!("CARGO_PKG_VERSION").to_owned());
    info.description = own_description(api);
    let mut license = License::new("MIT OR Apache-2.0");
    license.identifier = Some("MIT OR Apache-2.0".to_owned());
    info.license = Some(license);
    api.info = info;
    api.servers = Some(vec![Server::new(format!("http://127.0.0.1:{port}"))]);
    api.security = Some(vec![
        SecurityRequirement::default(),
        SecurityRequirement::new(KEY_SCHEME, Vec::<String>::new()),
    ]);
    let components = api.components.get_or_insert_with(Components::new);
    components
        .schemas
        .insert(Problem::name().into_owned(), Problem::schema());
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    components.add_security_scheme(KEY_SCHEME, SecurityScheme::Http(bearer));
    for item in api.paths.paths.values_mut() {
        operations(item).for_each(add_problem);
    }
}

/// The description that the service gave; a router that was given none describes its own crate.
fn own_description(api: &mut OpenApi) -> Option<String> {
    let default = OpenApiRouter::<()>::new().into_openapi().info.description;
    let given = api.info.description.take();
    given.filter(|text| !text.is_empty() && Some(text) != default.as_ref())
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem {
        get,
        put,
        post,
        delete,
        options,
        head,
        patch,
        trace,
        ..
    } = item;
    [get, put, post, delete, options, head, patch, trace]
        .into_iter()
        .flatten()
}

fn add_problem(operation: &mut Operation) {
    let schema = Ref::from_schema_name(Problem::name());
    let content = ContentBuilder::new().schema(Some(schema)).build();
    let response = ResponseBuilder::new()
        .description("What went wrong, and where")
        .content(PROBLEM_JSON, content);
    operation
        .responses
        .responses
        .entry("default".to_owned())
        .or_insert_with(|| response.build().into());
}

/// Adds the document of `other`, called `prefix`, to a combined one. Where both have a schema or an operation
/// of the same name that is not the same thing, the added one is called `prefix_name`.
pub(crate) fn merge(whole: &mut OpenApi, other: OpenApi, prefix: &str) {
    let schemas = clashing_schemas(whole, &other);
    let other = if schemas.is_empty() {
        other
    } else {
        with_prefixed_schemas(other, &schemas, prefix)
    };
    let taken = operation_ids(whole);
    let mut other = other;
    for operation in other.paths.paths.values_mut().flat_map(operations) {
        if let Some(id) = operation.operation_id.as_mut().filter(|id| taken.contains(id)) {
            *id = format!("{prefix}_{id}");
        }
    }
    whole.merge(other);
}

fn operation_ids(api: &mut OpenApi) -> Vec<String> {
    api.paths
        .paths
        .values_mut()
        .flat_map(operations)
        .filter_map(|operation| operation.operation_id.clone())
        .collect()
}

fn clashing_schemas(whole: &OpenApi, other: &OpenApi) -> Vec<String> {
    let (Some(ours), Some(theirs)) = (&whole.components, &other.components) else {
        return Vec::new();
    };
    let clashes = theirs
        .schemas
        .iter()
        .filter(|(name, schema)| ours.schemas.get(*name).is_some_and(|present| present != *schema));
    clashes.map(|(name, _)| name.clone()).collect()
}

/// Renames schemas in the JSON of the document, where a reference is a string wherever it stands.
fn with_prefixed_schemas(api: OpenApi, names: &[String], prefix: &str) -> OpenApi {
    let Ok(mut json) = serde_json::to_value(&api) else {
        return api;
    };
    for name in names {
        let place = |name: &str| format!("#/components/schemas/{name}");
        let renamed = format!("{prefix}_{name}");
        replace_strings(&mut json, &place(name), &place(&renamed));
        if let Some(schemas) = json["components"]["schemas"].as_object_mut() {
            let schema = schemas.remove(name);
            schemas.extend(schema.map(|schema| (renamed, schema)));
        }
    }
    serde_json::from_value(json).unwrap_or(api)
}

fn replace_strings(json: &mut Value, from: &str, to: &str) {
    match json {
        Value::String(text) if text == from => to.clone_into(text),
        Value::Array(items) => items.iter_mut().for_each(|item| replace_strings(item, from, to)),
        Value::Object(fields) => fields
            .values_mut()
            .for_each(|field| replace_strings(field, from, to)),
        _ => {}
    }
}
