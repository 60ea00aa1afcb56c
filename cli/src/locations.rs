//! Where a daemon keeps its files and which ports it serves, found without asking a daemon.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use mcpd_common::check::ports::KnownPort;
use mcpd_common::config::{self, Config, Source};
use mcpd_common::ids::Port;
use mcpd_common::paths::{self, StateDir, process_environment};
use mcpd_common::run_file::RunFile;

use crate::args::Global;
use crate::service::installation::SYSTEM_UNIT_FILE;
use crate::service::unit_file;

#[derive(Debug)]
pub struct Locations {
    /// The control socket; `None` without a usable configuration.
    pub socket: Option<PathBuf>,
    pub state: StateDir,
    pub log_dir: PathBuf,
    /// The workers' ports in the configuration.
    pub ports: Vec<KnownPort>,
    /// Why the configuration can't be used; `None` also if there is no configuration.
    pub problem: Option<String>,
}

impl Locations {
    /// Taken from the configuration if there is one, otherwise the defaults. If `--socket` names a socket
    /// in a directory that holds a daemon's state, that directory is the state directory.
    pub fn find(global: &Global) -> Self {
        Self::all(global).swap_remove(0)
    }

    /// At least one, the most likely first. The daemon of the system unit uses the directories of the unit, but
    /// the same configuration has other defaults for a daemon that was started by hand.
    pub fn all(global: &Global) -> Vec<Self> {
        let (mut found, mut problem) = (Vec::new(), None);
        if let Some(file) = paths::config_file(global.config.clone(), &process_environment) {
            if is_of_system_unit(&file) {
                found.extend(load(&file, &paths::system_unit_environment).map(Self::configured));
            }
            match load(&file, &process_environment) {
                Ok(config) => found.push(Self::configured(config)),
                Err(error) => problem = Some(error),
            }
        }
        if found.is_empty() {
            found.push(Self::without_configuration(global, problem));
        }
        found
    }

    fn without_configuration(global: &Global, problem: Option<String>) -> Self {
        let beside_socket = global.socket.as_deref().and_then(Path::parent).map(StateDir::new);
        let state = beside_socket.filter(holds_state).unwrap_or_else(default_state);
        let log_dir = paths::default_log_dir(state.path(), &process_environment);
        Self { socket: None, state, log_dir, ports: Vec::new(), problem }
    }

    fn configured(config: Config) -> Self {
        let ports = config.workers.into_iter();
        Self {
            socket: Some(config.daemon.socket),
            state: StateDir::new(config.daemon.state_dir),
            log_dir: config.daemon.log_dir,
            ports: ports.map(|(name, worker)| KnownPort { port: worker.port, worker: Some(name) }).collect(),
            problem: None,
        }
    }

    /// The ports of the configuration and of the run file, each once.
    pub fn known_ports(&self, run: Option<&RunFile>) -> Vec<KnownPort> {
        let mut ports: BTreeMap<Port, KnownPort> = BTreeMap::new();
        let in_run_file = run
            .into_iter()
            .flat_map(|run| &run.workers)
            .map(|worker| KnownPort { port: worker.port, worker: Some(worker.name.clone()) });
        for known in self.ports.iter().cloned().chain(in_run_file) {
            ports.entry(known.port).or_insert(known);
        }
        ports.into_values().collect()
    }
}

/// Whether a daemon or its guardian still runs: one of them holds the lock. The shared lock that is taken
/// here to find out is released at once.
pub fn is_locked(state: &StateDir) -> bool {
    let Ok(lock) = File::open(state.lock()) else { return false };
    matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock))
}

/// The default state directory. If no daemon has used it, but the system's daemon has left its state, that of
/// the system.
fn default_state() -> StateDir {
    let of_user = StateDir::new(paths::default_state_dir(&process_environment));
    let of_system = StateDir::new(paths::SYSTEM_STATE);
    if !holds_state(&of_user) && holds_state(&of_system) { of_system } else { of_user }
}

fn holds_state(state: &StateDir) -> bool {
    [state.run_file(), state.last_shutdown(), state.journal()].iter().any(|file| file.exists())
}

/// Whether the daemon of the system unit is, or was, started with this configuration.
fn is_of_system_unit(file: &Path) -> bool {
    let named = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    // A unit that is elsewhere, or that names no configuration, has the default.
    let unit = std::fs::read_to_string(SYSTEM_UNIT_FILE).unwrap_or_default();
    let is_config = if unit_file::names_config(&unit) {
        unit_file::starts_with_config(&unit, &named)
    } else {
        named == Path::new(paths::SYSTEM_CONFIG)
    };
    is_config && Path::new(paths::SYSTEM_STATE).is_dir()
}

fn load(file: &Path, environment: paths::Environment) -> Result<Config, String> {
    config::peek(Source::File(file.to_owned()), environment)
        .map(|loaded| loaded.config)
        .map_err(|error| error.to_string())
}
