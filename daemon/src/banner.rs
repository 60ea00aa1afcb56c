//! Printed at the start: the name and URL of every worker, and the line that adds it to a
//! client.

use std::fmt::Write as _;

use mcpd_common::config::Config;

use crate::logging::{self, console};

/// A closed standard output is no error. With `--log-format json` the same is logged instead.
pub fn show(config: &Config) {
    if logging::is_json() {
        log(config);
    } else {
        console::print(text(config));
    }
}

fn log(config: &Config) {
    for worker in config.workers.values() {
        let url = worker.url();
        match &worker.unusable {
            None => tracing::info!(worker = %worker.name, url, "the URL for clients"),
            Some(reason) => tracing::warn!(worker = %worker.name, reason, "not started"),
        }
    }
}

fn text(config: &Config) -> String {
    let mut text = String::new();
    for worker in config.workers.values() {
        let name = &worker.name;
        let url = worker.url();
        let _ = match &worker.unusable {
            None => writeln!(text, "{name}  {url}\n    claude mcp add --transport http {name} {url}"),
            Some(reason) => writeln!(text, "{name}  not started: {reason}"),
        };
    }
    text.push_str("stop with Ctrl-C or `mcpctl shutdown --wait`; look with `mcpctl status`\n");
    text
}
