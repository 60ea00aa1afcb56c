//! The built-in worker: a read-only MCP server for one git repository (R-WORK).
//!
//! ```text
//! listen   127.0.0.1:PORT and [::1]:PORT
//!   http   one task for each connection: host check, then
//!            /mcp       the SDK's Streamable HTTP service --> server, tools --> git, paths
//!            /health    version and repository
//!            /shutdown  a stop request
//! stop     request, signal, or the parent's exit --> notify --> the last connection closes --> return
//! ```
//!
//! It runs in a process of its own (`mcpd worker`), never inside the daemon: here tokio may
//! start processes, there it may not.

use std::path::PathBuf;
use std::sync::Arc;

use mcpd_common::exit_code::program;
use mcpd_common::ids::Port;
use tokio_util::task::TaskTracker;

mod connections;
mod file;
mod git;
mod http;
mod listen;
mod params;
mod parent;
mod paths;
mod repository;
mod revision;
mod server;
mod stop;
mod tools;

#[cfg(test)]
mod tests;

pub use repository::{RepositoryError, refusal};

/// The arguments of `mcpd worker`.
#[derive(Clone, Debug)]
pub struct RepoWorkerArgs {
    /// The repository, or a directory inside it.
    pub repo: PathBuf,
    pub port: Port,
}

/// Why the worker could not serve.
#[derive(Debug, thiserror::Error)]
pub enum RepoWorkerError {
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    #[error(transparent)]
    Listen(#[from] listen::ListenError),
    /// No stop request could be received, so the worker must not start.
    #[error("can't listen for signals")]
    Signals(#[source] std::io::Error),
}

impl RepoWorkerError {
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Repository(RepositoryError::NoAnswer { .. }) | Self::Listen(_) => program::TEMPFAIL,
            Self::Repository(_) => program::CONFIG,
            Self::Signals(_) => program::SOFTWARE,
        }
    }
}

/// Serves the repository until a stop request. Needs a runtime with I/O and
/// time; one thread is enough.
pub async fn run(args: RepoWorkerArgs) -> Result<(), RepoWorkerError> {
    let (sender, mut stop_requests) = stop::stop_requests().map_err(RepoWorkerError::Signals)?;
    let Some(root) = stop_requests.unless_stopped(repository::open(&args.repo)).await else { return Ok(()) };
    let root = root?;
    let listeners = listen::bind(args.port)?;
    let app = Arc::new(http::App::new(root, sender));
    tracing::info!(repo = %app.repo(), port = args.port.get(), "serving");

    let connections = TaskTracker::new();
    for listener in listeners {
        connections.spawn(http::accept(listener, app.clone(), connections.clone()));
    }
    let reason = stop_requests.first().await;
    tracing::info!(reason, "stopping");
    stop::drain(&app, &connections, reason).await;
    Ok(())
}
