//! Loads a configuration: one text in, a configuration or all of its problems out.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::build;
use super::command_name;
use super::context::{Context, GitReason, Remember};
use super::names;
use super::problem::{Found, Notes, Problem};
use super::raw::{self, Raw, RawWorker, Shared};
use super::settings::Config;
use super::worker::Transport;
use crate::ids::WorkerName;
use crate::paths::Environment;

/// Where a configuration comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A TOML file.
    File(PathBuf),
    /// A TOML text that is not in a file.
    Text {
        /// Stands for the file name in problems.
        name: String,
        /// The TOML.
        text: String,
        /// The directory that relative paths start from.
        base: PathBuf,
    },
    /// `--repo DIR`, or the repository around the current directory: one built-in worker for each.
    Repos(Vec<PathBuf>),
    /// `mcpd -- COMMAND`: one worker with this command, in the current directory.
    Command {
        /// `--stdio NAME`; without it the worker is named after the command, and its transport inferred.
        stdio: Option<WorkerName>,
        /// The program and its arguments.
        command: Vec<String>,
    },
}

/// A configuration that can be used.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// Complete, except that workers named in `problems` can't be started.
    pub config: Config,
    /// Problems of single workers and resources ([`Severity::Worker`](super::Severity::Worker)). `--strict`
    /// and `check-config` treat them as errors.
    pub problems: Vec<Problem>,
    /// Problems that change nothing but a value, such as an invalid environment variable.
    pub warnings: Vec<String>,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file can't be read.
    #[error("can't read the configuration {}: {source}", path.display())]
    Read {
        /// The file as the caller named it.
        path: PathBuf,
        /// The error of the file system, or "line N is not UTF-8".
        source: io::Error,
    },
    /// At least one problem is an error. The list has every problem, also those of single workers.
    #[error("{}", Lines(.0))]
    Problems(Vec<Problem>),
}

struct Lines<'a>(&'a [Problem]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<_> = self.0.iter().map(Problem::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

/// Loads a configuration for a daemon: newly derived ports are remembered in its state directory.
pub fn load(source: Source, environment: Environment) -> Result<Loaded, LoadError> {
    load_with(source, environment, Remember::Yes, None)
}

/// Loads a configuration without writing any file.
pub fn peek(source: Source, environment: Environment) -> Result<Loaded, LoadError> {
    load_with(source, environment, Remember::No, None)
}

/// Loads a configuration as [`load`] does, and asks git about the repositories of built-in workers. Not for the
/// daemon, which must not have children beside those of its process thread.
pub fn check(source: Source, environment: Environment, git: GitReason) -> Result<Loaded, LoadError> {
    load_with(source, environment, Remember::Yes, Some(git))
}

fn load_with(
    source: Source,
    env: Environment,
    remember: Remember,
    git: Option<GitReason>,
) -> Result<Loaded, LoadError> {
    let here = || std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
    let mut worker = None;
    let (notes, base, file, repos) = match source {
        Source::File(path) => {
            let text = read(&path)?;
            let base = absolute_directory(&path);
            let file = base.join(path.file_name().unwrap_or_default());
            (Notes::new(path.display().to_string(), text), base, Some(file), Vec::new())
        }
        Source::Text { name, text, base } => (Notes::new(name, text), base, None, Vec::new()),
        Source::Repos(repos) => (Notes::new("--repo".to_owned(), String::new()), here(), None, repos),
        Source::Command { stdio, command } => {
            worker = Some(written_as_command(stdio, command));
            (Notes::new("the command".to_owned(), String::new()), here(), None, Vec::new())
        }
    };
    let mut raw: Raw = raw::read(&notes);
    // The shell has expanded the arguments already: a "~" that is left is the name of a directory.
    raw.repos.extend(
        repos
            .into_iter()
            .map(|repo| Found { value: base.join(repo).to_string_lossy().into_owned(), at: None }),
    );
    raw.workers.extend(worker);
    let context = Context { base: &base, env, notes: &notes, remember, git };
    let config = build::build(raw, file, &context);
    let has_errors = notes.has_errors();
    let (problems, warnings) = notes.into_parts();
    if has_errors { Err(LoadError::Problems(problems)) } else { Ok(Loaded { config, problems, warnings }) }
}

fn written_as_command(stdio: Option<WorkerName>, command: Vec<String>) -> RawWorker {
    let found = |value: String| Found { value, at: None };
    let transport = stdio.is_some().then_some(Transport::Stdio);
    let name =
        stdio.map_or_else(|| names::of(command_name::name(&command).as_ref()), |name| name.to_string());
    let command = Found { value: command.into_iter().map(found).collect(), at: None };
    let shared = Shared { command: Some(command), transport, ..Shared::default() };
    RawWorker { name: found(name), repo: None, port: None, shared }
}

fn read(path: &Path) -> Result<String, LoadError> {
    let failed = |source| LoadError::Read { path: path.to_owned(), source };
    let bytes = std::fs::read(path).map_err(failed)?;
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = valid.iter().filter(|byte| **byte == b'\n').count() + 1;
        failed(io::Error::new(io::ErrorKind::InvalidData, format!("line {line} is not UTF-8")))
    })
}

/// The directory of the file. If the file is a symbolic link, the link's directory counts, since users write
/// relative paths from where they see the file.
fn absolute_directory(file: &Path) -> PathBuf {
    let absolute = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    absolute.parent().map_or_else(|| PathBuf::from("/"), Path::to_path_buf)
}
