//! What every command gets: the global options, the output, and a way to connect to the daemon.

use std::path::{Path, PathBuf};

use mcpd_common::exit_code::program;
use mcpd_common::paths::{self, StateDir};
use mcpd_common::run_file::RunFile;

use crate::args::Global;
use crate::daemon_client::{self, Candidate, DaemonClient};
use crate::failure::Failure;
use crate::formatting::Clock;
use crate::locations::Locations;
use crate::output::Output;

/// Nothing listens on the socket that the user named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrongSocket {
    pub happened: String,
    /// Which socket would be used without that, and whether a daemon listens there.
    pub next: String,
}

#[derive(Debug)]
pub struct Context {
    pub global: Global,
    pub out: Output,
}

impl Context {
    pub fn new(global: Global) -> Self {
        let global = global.with_environment(&paths::process_environment);
        let out = Output::new(global.format(), global.color);
        Self { global, out }
    }

    pub fn clock(&self) -> Clock {
        Clock::system()
    }

    /// The daemon's paths and ports as far as they are known without asking a daemon.
    pub fn locations(&self) -> Locations {
        Locations::find(&self.global)
    }

    /// `None` if no daemon listens.
    ///
    /// With `--config` only the daemon of that configuration counts: `shutdown` must not reach another one.
    pub async fn connect(&self, action: &str) -> Result<Option<DaemonClient>, Failure> {
        let candidates = usual_candidates(&self.global);
        if let Some(daemon) = daemon_client::connect(action, &candidates).await? {
            return Ok(Some(daemon));
        }
        let mut others = self.other_candidates(action)?;
        others.retain(|other| candidates.iter().all(|candidate| candidate.socket != other.socket));
        daemon_client::connect(action, &others).await
    }

    /// All sockets that [`Self::connect`] tries if no daemon listens.
    pub fn sockets(&self, action: &str) -> Result<Vec<PathBuf>, Failure> {
        let mut sockets: Vec<PathBuf> = Vec::new();
        for candidate in usual_candidates(&self.global).into_iter().chain(self.other_candidates(action)?) {
            if !sockets.contains(&candidate.socket) {
                sockets.push(candidate.socket);
            }
        }
        Ok(sockets)
    }

    /// The sockets of the configuration and of the system.
    fn other_candidates(&self, action: &str) -> Result<Vec<Candidate>, Failure> {
        if self.global.socket.is_some() {
            return Ok(Vec::new());
        }
        let locations = Locations::all(&self.global);
        let mut candidates: Vec<_> =
            locations.iter().flat_map(|found| candidates_of(found.socket.clone(), &found.state)).collect();
        if self.global.config.is_none() {
            candidates.push(Candidate::any(Path::new(paths::SYSTEM_SOCKET)));
        } else if locations.iter().all(|found| found.socket.is_none()) {
            let problem = locations.into_iter().find_map(|found| found.problem);
            let problem = problem.unwrap_or_else(|| "the configuration names no socket".to_owned());
            let next = "correct the configuration, or name the daemon's socket with --socket";
            return Err(Failure::new(program::CONFIG, action, problem, next));
        }
        Ok(candidates)
    }

    pub async fn require_daemon(&self, action: &str) -> Result<DaemonClient, Failure> {
        match self.connect(action).await? {
            Some(daemon) => Ok(daemon),
            None => Err(match self.wrong_socket(action).await {
                Some(wrong) => Failure::new(program::UNAVAILABLE, action, wrong.happened, wrong.next),
                None => Failure::not_running(action, &self.sockets(action)?),
            }),
        }
    }

    /// After [`Self::connect`] found no daemon: what to say if a socket was named, because another one may have a
    /// daemon. `None` if no socket was named.
    pub async fn wrong_socket(&self, action: &str) -> Option<WrongSocket> {
        let named = self.global.socket.as_ref()?;
        let candidates = default_candidates();
        let found = daemon_client::connect(action, &candidates).await.ok().flatten();
        let next = match (found, candidates.first()) {
            (Some(daemon), _) => format!(
                "a daemon listens on {}: to use it, leave out --socket (and MCPD_SOCKET)",
                daemon.socket.display()
            ),
            (None, Some(usual)) if usual.socket != *named => format!(
                "nothing listens on the default socket, {}, either: start mcpd with `mcpd`",
                usual.socket.display()
            ),
            (None, _) => "start mcpd with `mcpd`".to_owned(),
        };
        Some(WrongSocket { happened: format!("nothing listens on {}", named.display()), next })
    }

    /// The state directory of the running daemon; without one, of the configuration or the default.
    pub async fn state_dir(&self) -> StateDir {
        let action = "find the state directory";
        let status = match self.connect(action).await {
            Ok(Some(mut daemon)) => daemon.status(action, None).await.ok(),
            // A daemon that can't be asked is no reason to hide what its files contain.
            Ok(None) | Err(_) => None,
        };
        match status.and_then(|status| status.daemon) {
            Some(daemon) => StateDir::new(daemon.state_dir),
            None => self.locations().state,
        }
    }
}

/// The sockets that are known without reading the configuration, which takes longer than the rest of `status`.
fn usual_candidates(global: &Global) -> Vec<Candidate> {
    match global {
        Global { socket: Some(socket), .. } => vec![Candidate::any(socket)],
        Global { config: Some(_), .. } => Vec::new(),
        _ => default_candidates(),
    }
}

/// The sockets without `--socket` and `--config`.
fn default_candidates() -> Vec<Candidate> {
    let state_dir = paths::default_state_dir(&paths::process_environment);
    let socket = paths::default_socket(&state_dir, &paths::process_environment);
    candidates_of(Some(socket), &StateDir::new(state_dir))
}

/// The configured or default socket, and the socket in the run file: the default depends on the environment,
/// and that of cron or ssh has no `XDG_RUNTIME_DIR`.
fn candidates_of(socket: Option<PathBuf>, state: &StateDir) -> Vec<Candidate> {
    let run = RunFile::read(&state.run_file()).ok().flatten();
    let usual = socket.as_deref().map(Candidate::any);
    usual.into_iter().chain(run.as_ref().map(Candidate::of_run)).collect()
}
