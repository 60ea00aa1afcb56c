//! `mcpd`: selects the configuration.

use std::path::Path;
use std::sync::Arc;

use mcpd_common::config::{self, Config, FoundRepository, Source};
use mcpd_common::paths;

use crate::args::Run;
use crate::control::service::{NotReplaceable, Replaceable};
use crate::handover;
use crate::logging::{ConsoleFormat, journal};

pub struct Settings {
    pub config: Config,
    /// Problems that do not keep the daemon from running.
    pub warnings: Vec<String>,
    pub console: ConsoleFormat,
    /// Whether a new program could start with the same arguments now.
    pub replaceable: Replaceable,
}

/// Reads the arguments, the environment and the current directory.
///
/// # Errors
/// The text for the user; nothing was started.
pub fn settings(args: Run) -> Result<Settings, String> {
    let source = source(&args)?;
    let loaded = config::load(source, &paths::process_environment).map_err(|error| format!("{error}\n"))?;
    let problems: Vec<_> = loaded.problems.iter().map(ToString::to_string).collect();
    if let Some(strict) = strictness(&args).filter(|_| !problems.is_empty()) {
        return Err(format!("{}\nnothing was started, because of {strict}\n", problems.join("\n")));
    }
    let elsewhere = elsewhere(&args, &loaded.config);
    let warnings = loaded.warnings.into_iter().chain(problems).chain(elsewhere).collect();
    let config = loaded.config;
    let console = args.log_format.unwrap_or_else(default_format);
    Ok(Settings { config, warnings, console, replaceable: Arc::new(move || replaceable(&args)) })
}

/// What makes a problem of a single worker one of the start: a person who names a worker on the command line wants to see it run.
fn strictness(args: &Run) -> Option<&'static str> {
    match (args.repo.is_empty(), args.server.is_empty()) {
        (false, _) => Some("--repo"),
        (true, false) => Some("the command"),
        (true, true) => args.strict.then_some("--strict"),
    }
}

fn default_format() -> ConsoleFormat {
    if journal::is_standard_error() { ConsoleFormat::Journal } else { ConsoleFormat::Human }
}

/// Nothing is stopped for a program that could not start: checks that program and configuration exist.
fn replaceable(args: &Run) -> Result<(), NotReplaceable> {
    handover::program().map_err(NotReplaceable::Program)?;
    let loaded = settings(args.clone());
    loaded.map(drop).map_err(|complaint| NotReplaceable::Config(complaint.trim_end().to_owned()))
}

fn source(args: &Run) -> Result<Source, String> {
    if !args.repo.is_empty() {
        return Ok(Source::Repos(args.repo.clone()));
    }
    if !args.server.is_empty() {
        return Ok(Source::Command { stdio: args.stdio.clone(), command: args.server.clone() });
    }
    if let Some(file) = paths::config_file(args.config.clone(), &paths::process_environment) {
        return Ok(Source::File(file));
    }
    let here =
        std::env::current_dir().map_err(|error| format!("can't find the present directory: {error}\n"))?;
    match config::find_repository(&here) {
        Some(FoundRepository::WorkingTree(repository)) => Ok(Source::Repos(vec![repository])),
        Some(FoundRepository::Bare(_)) | None => Err(format!(
            "mcpd has no configuration, and {} is not inside a git repository.\n\
             To begin: run `mcpd` inside a repository, name some with `mcpd --repo DIR`,\n\
             serve any MCP server with `mcpd -- COMMAND`, or write a configuration{} with `mcpd init --write DIR ...`.\n",
            here.display(),
            paths::default_config_file(&paths::process_environment)
                .map(|file| format!(", {},", file.display()))
                .unwrap_or_default()
        )),
    }
}

/// A person who starts mcpd in a repository expects to find it among the workers.
fn elsewhere(args: &Run, config: &Config) -> Option<String> {
    if args.config.is_some() || !args.repo.is_empty() || !args.server.is_empty() {
        return None;
    }
    let here = std::env::current_dir().ok()?;
    let Some(FoundRepository::WorkingTree(repository)) = config::find_repository(&here) else {
        return None;
    };
    let is_served = |repo: &Path| repo.canonicalize().is_ok_and(|repo| repo.starts_with(&repository));
    if config.workers.values().any(|worker| is_served(&worker.repo)) {
        return None;
    }
    let file = config.file.as_ref()?.display();
    let repository = repository.display();
    Some(format!(
        "the repository {repository} is not among the workers of {file}: add it to `repos` there, or serve it alone \
         with `mcpd --repo {repository}`"
    ))
}
