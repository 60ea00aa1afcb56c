//! Paths of the configuration file, the control socket, the state directory and the logs.
//!
//! Both programs use these functions, so that `mcpctl` finds the files of `mcpd`. [`StateDir`] has the
//! names of all files in the state directory.

use std::path::{Path, PathBuf};

use directories::{BaseDirs, ProjectDirs};

use crate::ids::WorkerName;

pub mod durable;
pub mod private_directory;

/// Looks up an environment variable. It is a parameter, so that tests don't change the environment of their
/// process.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The longest path of a Unix socket, in bytes, that every platform accepts. `sun_path` has 104 bytes on
/// macOS and 108 on Linux, including the final NUL; the rest is reserved for temporary names.
pub const SOCKET_PATH_LIMIT: usize = 100;

/// The control socket of a system-wide daemon.
pub const SYSTEM_SOCKET: &str = "/run/mcpd/control.sock";

/// The state directory of a daemon whose user has no home directory.
const SYSTEM_STATE: &str = "/var/lib/mcpd";

/// The environment of this process as [`Environment`]; a value that is not valid Unicode counts as unset.
pub fn process_environment(key: &str) -> Option<String> {
    std::env::var(key).ok()
}

/// The configuration file: `--config`, else `MCPD_CONFIG`, else the platform's default if that file exists. A
/// file that the user named is returned even if it does not exist, so that its absence is an error.
pub fn config_file(cli: Option<PathBuf>, env: Environment) -> Option<PathBuf> {
    cli.or_else(|| set(env, "MCPD_CONFIG").map(PathBuf::from))
        .or_else(|| default_config_file().filter(|file| file.exists()))
}

/// The platform's default for the configuration file; it need not exist. `None` without a home directory.
pub fn default_config_file() -> Option<PathBuf> {
    project().map(|dirs| dirs.config_dir().join("config.toml"))
}

/// The default of `state_dir`: the user's state directory, else `/var/lib/mcpd`.
pub fn default_state_dir() -> PathBuf {
    project().map_or_else(
        || PathBuf::from(SYSTEM_STATE),
        |dirs| dirs.state_dir().unwrap_or_else(|| dirs.data_local_dir()).to_path_buf(),
    )
}

/// The default of `socket` for a daemon with this state directory.
pub fn default_socket(state_dir: &Path, env: Environment) -> PathBuf {
    // After `su` and in containers, XDG_RUNTIME_DIR is often set to a directory that does not exist.
    let runtime = set(env, "XDG_RUNTIME_DIR").map(PathBuf::from);
    match runtime.filter(|dir| dir.is_absolute() && dir.is_dir()) {
        Some(dir) => dir.join("mcpd").join("control.sock"),
        None => state_dir.join("control.sock"),
    }
}

/// The user's home directory: `HOME`, else from the user database.
pub fn home(env: Environment) -> Option<PathBuf> {
    set(env, "HOME").map(PathBuf::from).or_else(|| BaseDirs::new().map(|dirs| dirs.home_dir().to_path_buf()))
}

/// Makes a path from a user absolute: `~` is the home directory, and any other relative path starts at
/// `base`.
pub fn absolute(written: &str, base: &Path, env: Environment) -> PathBuf {
    let expanded = match written.strip_prefix('~') {
        Some("") => home(env),
        Some(rest) => rest.strip_prefix('/').and_then(|rest| home(env).map(|home| home.join(rest))),
        None => None,
    };
    let joined = base.join(expanded.unwrap_or_else(|| PathBuf::from(written)));
    // `components` removes "." and doubled slashes. It keeps "..", since the part before it may be a symbolic
    // link.
    joined.components().collect()
}

/// `LOG_DIR/workers/NAME.log`.
pub fn worker_log(log_dir: &Path, worker: &WorkerName) -> PathBuf {
    log_dir.join("workers").join(format!("{worker}.log"))
}

/// A state directory, and the names of its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateDir(PathBuf);

impl StateDir {
    /// Does not create the directory.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The path of the directory.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Locked with flock(2) while a daemon uses the directory (R-LOG-6).
    pub fn lock(&self) -> PathBuf {
        self.0.join("mcpd.lock")
    }

    /// See [`crate::run_file`].
    pub fn run_file(&self) -> PathBuf {
        self.0.join("run.json")
    }

    /// See [`crate::known_processes`].
    pub fn members(&self) -> PathBuf {
        self.0.join("members.json")
    }

    /// See [`crate::crash`].
    pub fn crash(&self) -> PathBuf {
        self.0.join("crash.jsonl")
    }

    /// See [`crate::journal`].
    pub fn journal(&self) -> PathBuf {
        self.0.join("journal.sqlite3")
    }

    /// The report of the last shutdown, as JSON (R-LOG-2).
    pub fn last_shutdown(&self) -> PathBuf {
        self.0.join("last-shutdown.json")
    }

    /// The ports that were derived from paths of repositories (R-CONF-2).
    pub fn ports(&self) -> PathBuf {
        self.0.join("ports.json")
    }
}

fn project() -> Option<ProjectDirs> {
    ProjectDirs::from("", "", "mcpd")
}

/// The value of the variable; an empty one counts as unset.
fn set(env: Environment, key: &str) -> Option<String> {
    env(key).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixed<const N: usize>(pairs: [(&'static str, &str); N]) -> impl Fn(&str) -> Option<String> {
        let pairs = pairs.map(|(name, value)| (name, value.to_owned()));
        move |key| pairs.iter().find(|(name, _)| *name == key).map(|(_, value)| value.clone())
    }

    #[test]
    fn the_command_line_comes_before_the_environment() {
        let env = fixed([("MCPD_CONFIG", "/e.toml")]);
        assert_eq!(config_file(Some("/c.toml".into()), &env), Some("/c.toml".into()));
        assert_eq!(config_file(None, &env), Some("/e.toml".into()));
    }

    #[test]
    fn the_socket_is_in_the_runtime_directory_if_that_exists() {
        let there = tempfile::tempdir().expect("a temporary directory");
        let path = there.path().to_str().expect("plain text");
        let env = fixed([("XDG_RUNTIME_DIR", path)]);
        assert_eq!(default_socket(Path::new("/state"), &env), there.path().join("mcpd/control.sock"));
        let env = fixed([("XDG_RUNTIME_DIR", "/nowhere/at/all")]);
        assert_eq!(default_socket(Path::new("/state"), &env), Path::new("/state/control.sock"));
    }

    #[test]
    fn paths_may_begin_with_a_tilde_or_be_relative() {
        let env = fixed([("HOME", "/home/kim")]);
        let base = Path::new("/etc/mcpd");
        assert_eq!(absolute("~/src/a", base, &env), Path::new("/home/kim/src/a"));
        assert_eq!(absolute("~", base, &env), Path::new("/home/kim"));
        assert_eq!(absolute("~other/a", base, &env), Path::new("/etc/mcpd/~other/a"));
        assert_eq!(absolute("./a//b/", base, &env), Path::new("/etc/mcpd/a/b"));
        assert_eq!(absolute("/a/../b", base, &env), Path::new("/a/../b"));
    }
}
