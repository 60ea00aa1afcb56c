//! Paths of the configuration file, the control socket, the state directory and the logs.
//!
//! Both programs use these functions, so that `mcpctl` finds the files of `mcpd`. [`StateDir`] has the
//! names of all files in the state directory.
//!
//! Precedence: the command line and the configuration file, then the directories of the systemd unit, then the
//! defaults of the platform.

use std::path::{Path, PathBuf};

use directories::{BaseDirs, ProjectDirs};

use crate::ids::WorkerName;

pub mod durable;
pub mod private_directory;
mod unit;

/// Looks up an environment variable. It is a parameter, so that tests don't change the environment of their
/// process.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The longest path of a Unix socket, in bytes, that every platform accepts. `sun_path` has 104 bytes on
/// macOS and 108 on Linux, including the final NUL; the rest is reserved for temporary names.
pub const SOCKET_PATH_LIMIT: usize = 100;

/// The logs of a system-wide daemon, if `LogsDirectory=` created this directory.
const SYSTEM_LOGS: &str = "/var/log/mcpd";

/// `RuntimeDirectory=` of a system-wide daemon.
const SYSTEM_RUNTIME: &str = "/run/mcpd";

/// The control socket of a system-wide daemon.
pub const SYSTEM_SOCKET: &str = "/run/mcpd/control.sock";

/// The configuration of a system-wide daemon.
pub const SYSTEM_CONFIG: &str = "/etc/mcpd/config.toml";

const SOCKET: &str = "control.sock";
const CONFIG_FILE: &str = "config.toml";

/// The state directory of a system-wide daemon, and of one whose user has no home directory.
pub const SYSTEM_STATE: &str = "/var/lib/mcpd";

/// The environment of this process as [`Environment`]; a value that is not valid Unicode counts as unset, and
/// so does a directory of another program's unit.
pub fn process_environment(key: &str) -> Option<String> {
    let env = |key: &str| std::env::var(key).ok();
    env(key).filter(|_| !unit::is_of_another_program(key, &env))
}

/// [`process_environment`] with the directories that the system unit gives to its daemon.
pub fn system_unit_environment(key: &str) -> Option<String> {
    let in_unit = match key {
        unit::STATE => Some(SYSTEM_STATE),
        unit::RUNTIME => Some(SYSTEM_RUNTIME),
        unit::LOGS => Some(SYSTEM_LOGS),
        _ => None,
    };
    in_unit.map_or_else(|| process_environment(key), |directory| Some(directory.to_owned()))
}

/// The configuration file: `--config`, else `MCPD_CONFIG`, else the first default that exists. A
/// file that the user named is returned even if it does not exist, so that its absence is an error.
pub fn config_file(cli: Option<PathBuf>, env: Environment) -> Option<PathBuf> {
    cli.or_else(|| set(env, "MCPD_CONFIG").map(PathBuf::from)).or_else(|| {
        let defaults = [unit_config_file(env), platform_config_file()];
        defaults.into_iter().flatten().find(|file| file.exists())
    })
}

/// The default for the configuration file: in the directory of the unit, else the platform's; it need not
/// exist. `None` without a home directory.
pub fn default_config_file(env: Environment) -> Option<PathBuf> {
    unit_config_file(env).or_else(platform_config_file)
}

fn unit_config_file(env: Environment) -> Option<PathBuf> {
    unit::directory(env, unit::CONFIGURATION).map(|directory| directory.join(CONFIG_FILE))
}

fn platform_config_file() -> Option<PathBuf> {
    project().map(|dirs| dirs.config_dir().join(CONFIG_FILE))
}

/// The default of `state_dir`: the directory of the unit, else the user's state directory, else
/// `/var/lib/mcpd`. The home of a system user often does not exist, and is not created for the state.
pub fn default_state_dir(env: Environment) -> PathBuf {
    let of_user = || {
        let has_home = BaseDirs::new().is_some_and(|dirs| dirs.home_dir().is_dir());
        let dirs = project().filter(|_| has_home)?;
        Some(dirs.state_dir().unwrap_or_else(|| dirs.data_local_dir()).to_path_buf())
    };
    unit::directory(env, unit::STATE).or_else(of_user).unwrap_or_else(|| PathBuf::from(SYSTEM_STATE))
}

/// The default of `log_dir` for a daemon with this state directory.
pub fn default_log_dir(state_dir: &Path, env: Environment) -> PathBuf {
    unit::directory(env, unit::LOGS).unwrap_or_else(|| {
        let of_system = PathBuf::from(SYSTEM_LOGS);
        if state_dir == Path::new(SYSTEM_STATE) && of_system.is_dir() {
            of_system
        } else {
            state_dir.join("logs")
        }
    })
}

/// The default of `socket` for a daemon with this state directory.
pub fn default_socket(state_dir: &Path, env: Environment) -> PathBuf {
    if let Some(dir) = unit::directory(env, unit::RUNTIME) {
        return dir.join(SOCKET);
    }
    // After `su` and in containers, XDG_RUNTIME_DIR is often set to a directory that does not exist.
    let runtime = set(env, "XDG_RUNTIME_DIR").map(PathBuf::from);
    match runtime.filter(|dir| dir.is_absolute() && dir.is_dir()) {
        Some(dir) => dir.join("mcpd").join(SOCKET),
        None => state_dir.join(SOCKET),
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

    /// See [`crate::container_record`].
    pub fn containers(&self) -> PathBuf {
        self.0.join("containers")
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

    /// R-SVC-2: the directories of a unit come before the platform's.
    #[test]
    fn the_directories_of_a_unit_are_used() {
        let there = tempfile::tempdir().expect("a temporary directory");
        let path = there.path().to_str().expect("plain text");
        let env = fixed([
            ("STATE_DIRECTORY", "/var/lib/mcpd"),
            ("RUNTIME_DIRECTORY", "/run/mcpd"),
            ("LOGS_DIRECTORY", "/var/log/mcpd"),
            ("CONFIGURATION_DIRECTORY", path),
            ("XDG_RUNTIME_DIR", path),
        ]);
        let state = default_state_dir(&env);
        assert_eq!(state, Path::new("/var/lib/mcpd"));
        assert_eq!(default_socket(&state, &env), Path::new(SYSTEM_SOCKET));
        assert_eq!(default_log_dir(&state, &env), Path::new("/var/log/mcpd"));
        assert_eq!(default_log_dir(&state, &|_| None), Path::new("/var/lib/mcpd/logs"));
        let file = there.path().join("config.toml");
        assert_eq!(default_config_file(&env), Some(file.clone()));
        assert_ne!(config_file(None, &env), Some(file.clone()), "it does not exist");
        std::fs::write(&file, "").expect("written");
        assert_eq!(config_file(None, &env), Some(file));
        assert_eq!(config_file(Some("/c.toml".into()), &env), Some("/c.toml".into()));
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
