//! `mcpd init DIR...`: prints a configuration for these repositories.

use std::path::PathBuf;

use mcpd_common::config::init;
use mcpd_common::exit_code::program;

/// Prints the configuration, and on standard error what to do with it.
pub fn run(repos: &[PathBuf]) -> u8 {
    for missing in repos.iter().filter(|repo| !repo.is_dir()) {
        let shown = missing.display();
        super::complain(&format!("{shown} is not a directory: its worker will be shown as failed\n"));
    }
    if repos.is_empty() {
        super::complain("no repository was named: write `mcpd init DIR ...`\n");
        return program::USAGE;
    }
    super::print(&init::render(repos));
    0
}
