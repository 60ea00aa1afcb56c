//! `mcpd init DIR...`: prints a configuration for these repositories, or writes it.

use std::io;
use std::path::{Path, PathBuf};

use mcpd_common::config::init;
use mcpd_common::exit_code::program;
use mcpd_common::paths::{self, durable};

/// Where the configuration goes.
pub enum Destination {
    StandardOutput,
    /// This file, or the one that a start reads by default.
    File(Option<PathBuf>),
}

/// Prints or writes the configuration. Prints warnings and the next command on standard error.
pub fn run(repos: &[PathBuf], destination: Destination) -> u8 {
    for missing in repos.iter().filter(|repo| !repo.is_dir()) {
        let shown = missing.display();
        super::complain(&format!("{shown} is not a directory: its worker will be shown as failed\n"));
    }
    if repos.is_empty() {
        super::complain("no repository was named: write `mcpd init DIR ...`\n");
        return program::USAGE;
    }
    let text = init::render(repos);
    let Destination::File(file) = destination else {
        super::print(&text);
        return 0;
    };
    let environment = &paths::process_environment;
    let named =
        file.or_else(|| environment("MCPD_CONFIG").filter(|file| !file.is_empty()).map(PathBuf::from));
    // A start without `--config` finds the default file and that of the variable.
    let is_found = |file: &Path| paths::config_file(None, environment).is_some_and(|found| found == file);
    let Some(file) = named.or_else(|| paths::default_config_file(environment)) else {
        super::complain("there is no home directory: name the file with --config FILE\n");
        return program::CONFIG;
    };
    let shown = file.display();
    match write(&file, &text) {
        Ok(()) if is_found(&file) => {
            super::print(&format!("wrote {shown}\nnext: `mcpd check-config`, then `mcpd`\n"));
            0
        }
        Ok(()) => {
            let next = format!("next: `mcpd check-config {shown}`, then `mcpd --config {shown}`");
            super::print(&format!("wrote {shown}\n{next}\n"));
            0
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            super::complain(&format!(
                "{shown} exists and was not changed; add the repositories there, or move the file away\n"
            ));
            program::USAGE
        }
        Err(error) => {
            super::complain(&format!("can't write {shown}: {error}\n"));
            program::CONFIG
        }
    }
}

/// Never overwrites a file. A directory that is missing is created for this user only.
fn write(file: &Path, text: &str) -> io::Result<()> {
    if let Some(directory) = file.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        durable::make_directory(directory)?;
    }
    durable::create(file, text.as_bytes())
}
