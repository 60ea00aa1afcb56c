//! Where things are: configuration file, socket, state, logs.
//!
//! Both programs ask here, so that `mcpctl` finds what `mcpd` made. Everything in the
//! state directory has its name in [`StateDir`].

use std::path::{Path, PathBuf};

use directories::{BaseDirs, ProjectDirs};

use crate::ids::WorkerName;

pub mod durable;

/// How an environment variable is looked up; a parameter, so that tests need not change
/// the process's own.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The longest path of a Unix socket that every platform takes (`sun_path` has 104 bytes on
/// macOS and 108 on Linux, the final zero included; some room is left for temporary names).
pub const SOCKET_PATH_LIMIT: usize = 100;

/// The socket of a daemon that serves the whole system.
pub const SYSTEM_SOCKET: &str = "/run/mcpd/control.sock";

/// State of a daemon whose user has no home directory.
const SYSTEM_STATE: &str = "/var/lib/mcpd";

/// The real environment of this process; values that are no Unicode count as unset.
pub fn process_environment(key: &str) -> Option<String> {
    std::env::var(key).ok()
}

/// The configuration file: `--config`, else `MCPD_CONFIG`, else the platform's place if there is
/// a file. What was asked for by name is returned whether it exists or not, so that its absence
/// is an error and not silently something else.
pub fn config_file(cli: Option<PathBuf>, env: Environment) -> Option<PathBuf> {
    cli.or_else(|| set(env, "MCPD_CONFIG").map(PathBuf::from))
        .or_else(|| default_config_file().filter(|file| file.exists()))
}

/// The platform's place for the configuration file, whether there is one or not.
pub fn default_config_file() -> Option<PathBuf> {
    project().map(|dirs| dirs.config_dir().join("config.toml"))
}

/// The user's state directory, unless the configuration names another.
pub fn default_state_dir() -> PathBuf {
    project().map_or_else(
        || PathBuf::from(SYSTEM_STATE),
        |dirs| dirs.state_dir().unwrap_or_else(|| dirs.data_local_dir()).to_path_buf(),
    )
}

/// The socket of a daemon with this state directory, unless the configuration names another.
pub fn default_socket(state_dir: &Path, env: Environment) -> PathBuf {
    // A set but missing XDG_RUNTIME_DIR is usual after `su` and in containers.
    let runtime = set(env, "XDG_RUNTIME_DIR").map(PathBuf::from);
    match runtime.filter(|dir| dir.is_absolute() && dir.is_dir()) {
        Some(dir) => dir.join("mcpd").join("control.sock"),
        None => state_dir.join("control.sock"),
    }
}

/// Where `mcpctl` looks for the socket, in this order: what the user said, else `MCPD_SOCKET`,
/// else the user's and then the system's.
pub fn socket_candidates(cli: Option<PathBuf>, env: Environment) -> Vec<PathBuf> {
    match cli.or_else(|| set(env, "MCPD_SOCKET").map(PathBuf::from)) {
        Some(socket) => vec![socket],
        None => vec![default_socket(&default_state_dir(), env), PathBuf::from(SYSTEM_SOCKET)],
    }
}

/// The user's home directory: `HOME`, else what the system knows.
pub fn home(env: Environment) -> Option<PathBuf> {
    set(env, "HOME").map(PathBuf::from).or_else(|| BaseDirs::new().map(|dirs| dirs.home_dir().to_path_buf()))
}

/// A path as a user writes it, made absolute: `~` is the home directory, anything else that is
/// not absolute is relative to `base`.
pub fn absolute(written: &str, base: &Path, env: Environment) -> PathBuf {
    let expanded = match written.strip_prefix('~') {
        Some("") => home(env),
        Some(rest) => rest.strip_prefix('/').and_then(|rest| home(env).map(|home| home.join(rest))),
        None => None,
    };
    let joined = base.join(expanded.unwrap_or_else(|| PathBuf::from(written)));
    // Components drop "." and doubled slashes; ".." stays, since a symbolic link may stand before it.
    joined.components().collect()
}

/// The log of a worker.
pub fn worker_log(log_dir: &Path, worker: &WorkerName) -> PathBuf {
    log_dir.join("workers").join(format!("{worker}.log"))
}

/// The names of what lies in a state directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateDir(PathBuf);

impl StateDir {
    /// The state directory at this path.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Held with `flock` as long as a daemon uses the directory (R-LOG-6).
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

    /// What a guardian had to clean up; see [`crate::crash`].
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

    /// Ports that were derived from paths (R-CONF-2).
    pub fn ports(&self) -> PathBuf {
        self.0.join("ports.json")
    }
}

fn project() -> Option<ProjectDirs> {
    ProjectDirs::from("", "", "mcpd")
}

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
        let env = fixed([("MCPD_CONFIG", "/e.toml"), ("MCPD_SOCKET", "/e.sock")]);
        assert_eq!(config_file(Some("/c.toml".into()), &env), Some("/c.toml".into()));
        assert_eq!(config_file(None, &env), Some("/e.toml".into()));
        assert_eq!(socket_candidates(Some("/c.sock".into()), &env), [PathBuf::from("/c.sock")]);
        assert_eq!(socket_candidates(None, &env), [PathBuf::from("/e.sock")]);
    }

    #[test]
    fn the_socket_is_in_the_runtime_directory_if_there_is_one() {
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
