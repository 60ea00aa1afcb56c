//! The subcommands of `mcpd`. Each prints its result and returns an exit code.

use std::io::{self, Write};

use crate::logging;

pub mod check_config;
pub mod completions;
pub mod init;
pub mod run;
pub mod schema;
pub mod worker;

/// Writes to standard output. A closed pipe (`mcpd init . | head`) is no error.
fn print(text: &str) {
    // A closed standard output is no reason to fail.
    let _ = io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush());
}

/// Writes an error to standard error.
pub fn complain(text: &str) {
    let text = logging::error_text(text);
    let _ = io::stderr().write_all(text.as_bytes());
}
