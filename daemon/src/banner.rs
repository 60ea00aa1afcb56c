//! Printed at the start: the name and URL of every worker, and the line that adds it to a
//! client.

use std::fmt::Write as _;

use mcpd_common::config::Config;

use crate::logging::console;

/// A closed standard output is no error.
pub fn show(config: &Config) {
    console::print(text(config));
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
