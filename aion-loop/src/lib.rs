//! The agent loop: a sans-IO step machine, its driver, tools from OpenAPI, trace export.
