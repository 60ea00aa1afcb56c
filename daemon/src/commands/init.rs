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

/// Prints or writes the configuration. Warnings and errors go to standard error.
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
    match destination {
        Destination::StandardOutput => {
            super::print(&text);
            0
        }
        Destination::File(named) => match named.or_else(default_file) {
            Some(file) => write(&file, &text),
            None => {
                super::complain("there is no home directory: name the file with --config FILE\n");
                program::CONFIG
            }
        },
    }
}

/// The file that a start without `--config` reads; it need not exist.
fn default_file() -> Option<PathBuf> {
    let environment = &paths::process_environment;
    paths::config_file(None, environment).or_else(|| paths::default_config_file(environment))
}

/// Writes a new file, and says what to do next.
fn write(file: &Path, text: &str) -> u8 {
    let shown = file.display();
    match create(file, text) {
        Ok(()) => {
            super::print(&format!("wrote {shown}\n{}\n", next(file)));
            0
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            super::complain(&format!(
                "{shown} exists and was not changed; add the repositories there, or move the file away\n"
            ));
            program::USAGE
        }
        Err(error) => {
            super::complain(&format!("can't write {shown}: {error}; name another file with --config FILE\n"));
            program::CONFIG
        }
    }
}

/// Never overwrites a file. A directory that is missing is created for this user only.
fn create(file: &Path, text: &str) -> io::Result<()> {
    if let Some(directory) = file.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        durable::make_directory(directory)?;
    }
    durable::create(file, text.as_bytes())
}

/// The next commands. They need no `--config` for the file that a start reads anyway.
fn next(file: &Path) -> String {
    if paths::config_file(None, &paths::process_environment).is_some_and(|found| found == file) {
        return "next: `mcpd check-config`, then `mcpd`".to_owned();
    }
    let shown = file.display();
    format!("next: `mcpd check-config {shown}`, then `mcpd --config {shown}`")
}
