//! The keys as a JSON schema, for editors.
//!
//! It refuses nothing that the parser accepts. Each key is written out where it is used: many editors ignore what
//! stands beside a `$ref`.

use serde_json::{Map, Value, json};

use super::key::{Form, Key, KeyDefault, Kind, Table};
use super::tables::tables;
use crate::config::duration::MAX_DURATION;

/// What [`WorkerName`](crate::ids::WorkerName) accepts.
const WORKER_NAME: &str = "^[a-z0-9][a-z0-9_-]*$";

/// Something that is not white space.
const FILLED: &str = r"\S";

const NO_NUL: &str = r"^[^\u0000]*$";

/// A number with a unit, one or more times; `1:30:00`; or a duration of ISO 8601.
const DURATION: &str = concat!(
    r"^\s*\+?\s*(",
    r"([0-9]+([.,][0-9]+)?\s*",
    r"(h|hrs?|hours?|m|mins?|minutes?|s|secs?|seconds?|ms|msecs?|millis?|milliseconds?",
    r"|us|µs|μs|usecs?|µsecs?|μsecs?|micros?|microseconds?|ns|nsecs?|nanos?|nanoseconds?)",
    r",?\s*)+",
    r"|([0-9].*\s)?[0-9]+:[0-9]+:[0-9]+([.,][0-9]+)?\s*",
    r"|[Pp][Tt][0-9.,HhMmSs]+\s*",
    r")$"
);

/// The JSON schema (draft 2020-12) of the configuration.
pub fn schema() -> Value {
    let tables = tables();
    let mut properties = Map::new();
    for table in &tables {
        match table.form {
            Form::Top => {
                properties.extend(table.keys.iter().map(|key| (key.name.to_owned(), key_schema(key))))
            }
            Form::Once => drop(properties.insert(table.key.to_owned(), table_schema(table))),
            Form::PerName => drop(properties.insert(table.key.to_owned(), named_tables(table))),
        }
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration of mcpd",
        "description": "Reference: mcpd.toml(5). `mcpd check-config` also finds what a schema can't express.",
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
    })
}

fn named_tables(table: &Table) -> Value {
    let mut schema = json!({
        "type": "object",
        "description": table.meaning,
        "additionalProperties": table_schema(table),
    });
    if table.key == "workers" {
        schema["propertyNames"] = json!({ "pattern": WORKER_NAME });
    }
    schema
}

fn table_schema(table: &Table) -> Value {
    let properties: Map<_, _> = table.keys.iter().map(|key| (key.name.to_owned(), key_schema(key))).collect();
    let mut schema = json!({
        "type": "object",
        "description": table.meaning,
        "properties": properties,
        "additionalProperties": false,
    });
    if table.key == "resources" {
        schema["anyOf"] = ["close", "check", "path"].map(|key| json!({ "required": [key] })).into();
    }
    schema
}

fn key_schema(key: &Key) -> Value {
    let mut schema = kind_schema(&key.kind);
    let mut description = key.description();
    match &key.default {
        KeyDefault::Value(value) => schema["default"] = value.clone(),
        KeyDefault::Derived(text) => description.push_str(&format!(" Default: {text}.")),
        KeyDefault::None => {}
    }
    if matches!(key.kind, Kind::Duration) {
        description.push_str(" A text like `\"10s\"` or `\"1m 30s\"`, or a number of seconds; at most 24 h.");
    }
    schema["description"] = description.into();
    schema
}

fn kind_schema(kind: &Kind) -> Value {
    match kind {
        Kind::Path => json!({ "type": "string", "pattern": FILLED }),
        Kind::Paths => json!({ "type": "array", "items": { "type": "string", "pattern": FILLED } }),
        Kind::Texts => json!({ "type": "array", "items": { "type": "string" } }),
        Kind::Command => json!({
            "type": "array",
            "minItems": 1,
            "prefixItems": [{ "type": "string", "pattern": FILLED }],
            "items": { "type": "string", "pattern": NO_NUL },
        }),
        Kind::Variables => json!({
            "type": "object",
            "propertyNames": { "pattern": r"^[^=\u0000]+$" },
            "additionalProperties": { "type": "string", "pattern": NO_NUL },
        }),
        Kind::Duration => json!({
            "type": ["string", "number"],
            "pattern": DURATION,
            "exclusiveMinimum": 0,
            "maximum": MAX_DURATION.as_secs(),
        }),
        Kind::Port => json!({ "type": "integer", "minimum": 1, "maximum": u16::MAX }),
        Kind::Number(most) => json!({ "type": "integer", "minimum": 1, "maximum": most }),
        Kind::Boolean => json!({ "type": "boolean" }),
        Kind::Choice(choices) => {
            let texts: Vec<_> = choices.iter().map(|choice| choice.text).collect();
            json!({ "type": "string", "enum": texts })
        }
        Kind::Probe => json!({
            "type": "string",
            "pattern": r##"^(tcp|none|http:/[!"$-~]*)$"##,
            "examples": ["http:/health", "tcp", "none"],
        }),
        Kind::UrlPath => json!({ "type": "string", "pattern": r##"^(/[!"$-~]*)?$"## }),
    }
}
