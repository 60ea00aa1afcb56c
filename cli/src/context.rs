//! What every command gets: the global options, the output, and a way to connect to the daemon.

use std::path::PathBuf;

use mcpd_common::exit_code::program;
use mcpd_common::paths::{self, StateDir};

use crate::args::Global;
use crate::daemon_client::{self, DaemonClient};
use crate::failure::Failure;
use crate::formatting::Clock;
use crate::locations::Locations;
use crate::output::Output;

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

    /// The sockets to try, in this order. With `--config` only the socket of that configuration counts:
    /// `shutdown` must not reach another daemon. The configuration is read only in that case, because
    /// reading it takes longer than the rest of `status`.
    pub fn sockets(&self, action: &str) -> Result<Vec<PathBuf>, Failure> {
        if self.global.socket.is_some() || self.global.config.is_none() {
            let socket = self.global.socket.clone();
            return Ok(paths::socket_candidates(socket, &paths::process_environment));
        }
        let locations = self.locations();
        let problem = locations.problem.unwrap_or_else(|| "the configuration names no socket".to_owned());
        locations.socket.map(|socket| vec![socket]).ok_or_else(|| {
            let next = "correct the configuration, or name the daemon's socket with --socket";
            Failure::new(program::CONFIG, action, problem, next)
        })
    }

    /// `None` if no daemon listens.
    pub async fn connect(&self, action: &str) -> Result<Option<DaemonClient>, Failure> {
        let sockets = self.sockets(action)?;
        let daemon = daemon_client::connect(action, &sockets).await?;
        if daemon.is_some() || self.global.socket.is_some() {
            return Ok(daemon);
        }
        // No daemon listens on the default sockets. The default configuration may name another one.
        let configured = self.locations().socket;
        let untried: Vec<_> = configured.into_iter().filter(|socket| !sockets.contains(socket)).collect();
        daemon_client::connect(action, &untried).await
    }

    pub async fn require_daemon(&self, action: &str) -> Result<DaemonClient, Failure> {
        match self.connect(action).await? {
            Some(daemon) => Ok(daemon),
            None => Err(Failure::not_running(action, &self.sockets(action)?)),
        }
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
