//! `mcpd schema`: prints the JSON schema of the configuration.

use mcpd_common::config::schema;

pub fn run() -> u8 {
    super::print(&format!("{:#}\n", schema::schema()));
    0
}
