//! `mcpd schema` as a user runs it.

use std::process::Command;

use mcpd_common::config::schema;

#[test]
fn mcpd_schema_prints_the_schema_without_a_configuration() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let mut mcpd = Command::new(env!("CARGO_BIN_EXE_mcpd"));
    let output = mcpd.env_clear().env("HOME", home.path()).arg("schema").output().expect("mcpd starts");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let printed: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(printed, schema::schema());
}
