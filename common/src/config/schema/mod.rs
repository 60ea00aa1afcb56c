//! Describes every key of the configuration: for the JSON schema (`mcpd schema`), for `docs/configuration.md` and for
//! mcpd.toml(5).
//!
//! ```text
//! key.rs      what is known about a key
//! tables.rs   all keys; allowed texts and defaults are those of the parser
//! json.rs     the keys as a JSON schema
//! ```
//!
//! `tests.rs` compares it with the parser: keys, types, defaults, required keys.

mod json;
mod key;
mod tables;

#[cfg(test)]
mod tests;

pub use json::schema;
pub use key::{Choice, Form, Key, KeyDefault, Kind, Table};
pub use tables::tables;
