//! What can be known without a daemon: places, ports, and what an earlier run left behind.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use mcpd_common::check::ports::KnownPort;
use mcpd_common::config::{self, Config, Source};
use mcpd_common::ids::Port;
use mcpd_common::paths::{self, StateDir, process_environment};
use mcpd_common::run_file::RunFile;

use crate::args::Global;

/// The places of a daemon that does not answer, and its configuration.
#[derive(Debug)]
pub struct Local {
    /// Where the configuration says that it listens.
    pub socket: Option<PathBuf>,
    /// Its state directory.
    pub state: StateDir,
    /// Its log directory.
    pub log_dir: PathBuf,
    /// The workers' ports in the configuration.
    pub ports: Vec<KnownPort>,
    /// What is wrong with the configuration.
    pub problem: Option<String>,
}

impl Local {
    /// From the configuration if there is one, else by default. An explicit socket whose
    /// directory holds a daemon's state decides for that directory.
    pub fn find(global: &Global) -> Self {
        let (config, problem) = match paths::config_file(global.config.clone(), &process_environment) {
            Some(file) => load(file),
            None => (None, None),
        };
        if let Some(config) = config {
            return Self::configured(config);
        }
        let beside = global.socket.as_deref().and_then(Path::parent).map(StateDir::new);
        let state = beside.filter(holds_state).unwrap_or_else(|| StateDir::new(paths::default_state_dir()));
        let log_dir = state.path().join("logs");
        Self { socket: None, state, log_dir, ports: Vec::new(), problem }
    }

    fn configured(config: Config) -> Self {
        let known =
            |(name, worker): (_, config::WorkerConfig)| KnownPort { port: worker.port, worker: Some(name) };
        Self {
            socket: Some(config.daemon.socket),
            state: StateDir::new(config.daemon.state_dir),
            log_dir: config.daemon.log_dir,
            ports: config.workers.into_iter().map(known).collect(),
            problem: None,
        }
    }

    /// The ports of the configuration and of the run file, each once.
    pub fn known_ports(&self, run: Option<&RunFile>) -> Vec<KnownPort> {
        let mut ports: BTreeMap<Port, KnownPort> = BTreeMap::new();
        let past = run.into_iter().flat_map(|run| &run.workers);
        let past = past.map(|worker| KnownPort { port: worker.port, worker: Some(worker.name.clone()) });
        for known in self.ports.iter().cloned().chain(past) {
            ports.entry(known.port).or_insert(known);
        }
        ports.into_values().collect()
    }
}

/// Whether a daemon or its guardian is there still: one of them holds the lock. Asking for it with
/// others does not take it from anybody for longer than this moment.
pub fn is_held(state: &StateDir) -> bool {
    let Ok(lock) = File::open(state.lock()) else { return false };
    matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock))
}

fn holds_state(state: &StateDir) -> bool {
    [state.run_file(), state.last_shutdown(), state.journal()].iter().any(|file| file.exists())
}

fn load(file: PathBuf) -> (Option<Config>, Option<String>) {
    match config::peek(Source::File(file), &process_environment) {
        Ok(loaded) => (Some(loaded.config), None),
        Err(error) => (None, Some(error.to_string())),
    }
}
