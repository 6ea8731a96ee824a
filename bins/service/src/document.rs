//! Completes an OpenAPI document with what every service shares.

use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{
    Components, ContentBuilder, Info, License, OpenApi, Ref, ResponseBuilder, SecurityRequirement, Server,
};
use utoipa::{PartialSchema, ToSchema};

use crate::Problem;
use crate::problem::PROBLEM_JSON;

const KEY_SCHEME: &str = "api_key";

/// Fills in title, version, licence, server, the key, and a `default` problem answer everywhere.
pub(crate) fn complete(api: &mut OpenApi, name: &str, port: u16) {
    let mut info = Info::new(format!("aion-{name}"), env!("CARGO_PKG_VERSION").to_owned());
    info.description = api.info.description.take().filter(|text| !text.is_empty());
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
