//! What every command has at hand.

use std::path::PathBuf;

use mcpd_common::exit_code::program;
use mcpd_common::paths::{self, StateDir};

use crate::args::Global;
use crate::client::{self, Daemon};
use crate::exit::Failure;
use crate::offline::Local;
use crate::output::Output;
use crate::text::Clock;

/// Options, output, and the way to the daemon.
#[derive(Debug)]
pub struct Context {
    /// The options of every command.
    pub global: Global,
    /// Where to write.
    pub out: Output,
}

impl Context {
    /// The context of these options.
    pub fn new(global: Global) -> Self {
        let global = global.with_environment(&paths::process_environment);
        let out = Output::new(global.format(), global.color);
        Self { global, out }
    }

    /// Now.
    pub fn clock(&self) -> Clock {
        Clock::system()
    }

    /// Where a daemon may listen, in the order in which it is looked for. A configuration that was
    /// named means its daemon and no other: `shutdown` must not reach a different one. It is only
    /// read where it was named: that costs more than the rest of a `status`.
    pub fn sockets(&self, tried: &str) -> Result<Vec<PathBuf>, Failure> {
        if self.global.socket.is_some() || self.global.config.is_none() {
            let socket = self.global.socket.clone();
            return Ok(paths::socket_candidates(socket, &paths::process_environment));
        }
        let local = self.local();
        let problem = local.problem.unwrap_or_else(|| "it names no socket".to_owned());
        local.socket.map(|socket| vec![socket]).ok_or_else(|| {
            let next = "correct the configuration, or name the daemon's socket with --socket";
            Failure::new(program::CONFIG, tried, problem, next)
        })
    }

    /// What can be known without a daemon.
    pub fn local(&self) -> Local {
        Local::find(&self.global)
    }

    /// The daemon, if one answers.
    pub async fn reach(&self, tried: &str) -> Result<Option<Daemon>, Failure> {
        let sockets = self.sockets(tried)?;
        let found = client::reach(tried, &sockets).await?;
        if found.is_some() || self.global.socket.is_some() {
            return Ok(found);
        }
        // Nobody where one listens by default: perhaps the configuration says another place.
        let further: Vec<_> = self.local().socket.into_iter().filter(|s| !sockets.contains(s)).collect();
        client::reach(tried, &further).await
    }

    /// The state directory: of the daemon if one answers, else as far as it can be told.
    pub async fn state(&self) -> StateDir {
        let status = match self.reach("find the state directory").await {
            Ok(Some(mut daemon)) => daemon.status("find the state directory", None).await.ok(),
            _ => None,
        };
        let told = status.and_then(|status| status.daemon).map(|daemon| StateDir::new(daemon.state_dir));
        told.unwrap_or_else(|| self.local().state)
    }

    /// The daemon; a failure if there is none.
    pub async fn need(&self, tried: &str) -> Result<Daemon, Failure> {
        match self.reach(tried).await? {
            Some(daemon) => Ok(daemon),
            None => Err(Failure::not_running(tried, &self.sockets(tried)?)),
        }
    }
}
