//! What every command has at hand.

use std::path::PathBuf;

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

    /// Where a daemon may listen, in the order in which it is looked for. The configuration is
    /// only read where it was named: it costs more than the rest of a `status`.
    pub fn sockets(&self) -> Vec<PathBuf> {
        let mut sockets = Vec::new();
        if self.global.socket.is_none() && self.global.config.is_some() {
            sockets.extend(self.local().socket);
        }
        sockets.extend(paths::socket_candidates(self.global.socket.clone(), &paths::process_environment));
        sockets
    }

    /// What can be known without a daemon.
    pub fn local(&self) -> Local {
        Local::find(&self.global)
    }

    /// The daemon, if one answers.
    pub async fn reach(&self, tried: &str) -> Result<Option<Daemon>, Failure> {
        let sockets = self.sockets();
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
        self.reach(tried).await?.ok_or_else(|| Failure::not_running(tried, &self.sockets()))
    }
}
