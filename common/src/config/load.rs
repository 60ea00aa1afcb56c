//! Loading: one text in, a configuration or all of its problems out.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::Config;
use super::build::{self, Context, Remember};
use super::problem::{Found, Notes, Problem};
use super::raw::{self, Raw};
use crate::paths::Environment;

/// Where a configuration comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file.
    File(PathBuf),
    /// A text that is in no file.
    Text {
        /// What problems call it.
        name: String,
        /// The text.
        text: String,
        /// Where its relative paths begin.
        base: PathBuf,
    },
    /// `--repo DIR`, or the repository the user stands in: a built-in worker each.
    Repos(Vec<PathBuf>),
}

/// A configuration that can be used.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What spoils single workers and resources ([`super::Severity::Worker`]); `--strict` and
    /// `check-config` take it for an error.
    pub problems: Vec<Problem>,
    /// What was put up with.
    pub warnings: Vec<String>,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file can't be read.
    #[error("can't read the configuration {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something in it is wrong; every problem is here, single workers' too.
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
    load_with(source, environment, Remember::Yes)
}

/// Loads a configuration to look at it: nothing is written anywhere.
pub fn peek(source: Source, environment: Environment) -> Result<Loaded, LoadError> {
    load_with(source, environment, Remember::No)
}

fn load_with(source: Source, env: Environment, remember: Remember) -> Result<Loaded, LoadError> {
    let (notes, base, file, repos) = match source {
        Source::File(path) => {
            let text = read(&path)?;
            let base = absolute_directory(&path);
            let file = base.join(path.file_name().unwrap_or_default());
            (Notes::new(path.display().to_string(), text), base, Some(file), Vec::new())
        }
        Source::Text { name, text, base } => (Notes::new(name, text), base, None, Vec::new()),
        Source::Repos(repos) => {
            let base = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
            (Notes::new("--repo".to_owned(), String::new()), base, None, repos)
        }
    };
    let mut raw: Raw = raw::read(&notes);
    // A shell has expanded what it would expand: "~" in an argument is a directory of that name.
    let absolute = |repo: PathBuf| Found { value: base.join(repo).to_string_lossy().into_owned(), at: None };
    raw.repos.extend(repos.into_iter().map(absolute));
    let context = Context { base: &base, env, notes: &notes, remember };
    let config = build::build(raw, file, &context);
    let unusable = notes.has_errors();
    let (problems, warnings) = notes.into_parts();
    match unusable {
        true => Err(LoadError::Problems(problems)),
        false => Ok(Loaded { config, problems, warnings }),
    }
}

fn read(path: &Path) -> Result<String, LoadError> {
    let refused = |source| LoadError::Read { path: path.to_owned(), source };
    let bytes = std::fs::read(path).map_err(refused)?;
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = valid.iter().filter(|byte| **byte == b'\n').count() + 1;
        refused(io::Error::new(io::ErrorKind::InvalidData, format!("line {line} is not UTF-8")))
    })
}

/// The file's directory; the file's own symbolic link is not followed, since relative paths are
/// meant from where the user sees the file.
fn absolute_directory(file: &Path) -> PathBuf {
    let absolute = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    absolute.parent().map_or_else(|| PathBuf::from("/"), Path::to_path_buf)
}
