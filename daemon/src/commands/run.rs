//! `mcpd`: selects the configuration.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use mcpd_common::config::{self, Config, Source};
use mcpd_common::paths;

use crate::args::Run;
use crate::handover;
use crate::logging::ConsoleFormat;

pub struct Settings {
    pub config: Config,
    /// Problems that do not keep the daemon from running.
    pub warnings: Vec<String>,
    pub console: ConsoleFormat,
    /// Whether a new program could start with the same arguments now; the error is a sentence.
    pub replaceable: Arc<dyn Fn() -> Result<(), String> + Send + Sync>,
}

/// Reads the arguments, the environment and the current directory.
///
/// # Errors
/// The text for the user; nothing was started.
pub fn settings(args: Run) -> Result<Settings, String> {
    let source = source(&args)?;
    let loaded = config::load(source, &paths::process_environment).map_err(|error| format!("{error}\n"))?;
    let problems: Vec<_> = loaded.problems.iter().map(ToString::to_string).collect();
    if args.strict && !problems.is_empty() {
        return Err(format!("{}\nnothing was started, because of --strict\n", problems.join("\n")));
    }
    let warnings = loaded.warnings.into_iter().chain(problems).collect();
    let config = loaded.config;
    let console = args.log_format;
    Ok(Settings { config, warnings, console, replaceable: Arc::new(move || replaceable(&args)) })
}

/// Nothing is stopped for a program that could not start: checks that program and configuration exist.
fn replaceable(args: &Run) -> Result<(), String> {
    handover::program()?;
    settings(args.clone()).map(drop).map_err(|complaint| complaint.trim_end().to_owned())
}

fn source(args: &Run) -> Result<Source, String> {
    if !args.repo.is_empty() {
        return Ok(Source::Repos(args.repo.clone()));
    }
    if let Some(file) = paths::config_file(args.config.clone(), &paths::process_environment) {
        return Ok(Source::File(file));
    }
    let here =
        std::env::current_dir().map_err(|error| format!("can't find the present directory: {error}\n"))?;
    match repository_around(&here) {
        Some(repository) => Ok(Source::Repos(vec![repository])),
        None => Err(format!(
            "mcpd has no configuration, and {} is not inside a git repository.\n\
             To begin: run `mcpd` inside a repository, name some with `mcpd --repo DIR`,\n\
             or write a configuration with `mcpd init DIR ... > {}`.\n",
            here.display(),
            paths::default_config_file().unwrap_or_else(|| "config.toml".into()).display()
        )),
    }
}

/// `.git` is a directory, or a file in a worktree or submodule.
fn repository_around(directory: &Path) -> Option<PathBuf> {
    directory.ancestors().find(|above| above.join(".git").exists()).map(Path::to_owned)
}
