//! Environment overrides (R-CONF-5): an invalid value is a warning, and the configured one stays in force.
#![no_main]

use std::path::PathBuf;

use libfuzzer_sys::fuzz_target;
use mcpd_common::config::{Source, peek};

const NAMES: [&str; 3] =
    ["MCP_SHUTDOWN_CLIENT_TIMEOUT", "MCP_SHUTDOWN_WORKER_TIMEOUT", "MCP_WORKER_GRACEFUL_TIMEOUT"];

fuzz_target!(|values: (Option<&str>, Option<&str>, Option<&str>)| {
    let values = [values.0, values.1, values.2];
    let environment = |name: &str| {
        let index = NAMES.iter().position(|known| *known == name)?;
        values[index].map(str::to_owned)
    };
    let source =
        || Source::Text { name: "none".into(), text: String::new(), base: PathBuf::from("/nonexistent") };
    let with = peek(source(), &environment).expect("an invalid value is not an error");
    let without = peek(source(), &|_| None).expect("an empty file is not an error");
    let warnings = with.warnings;
    let with = with.config.shutdown;
    let without = without.config.shutdown;
    let given = values.iter().flatten().count();
    assert!(warnings.len() <= given + 1, "{warnings:?}");
    if given == 0 {
        assert_eq!(with, without);
    }
    assert!(with.clients.checked_add(with.worker_total).is_some());
});
