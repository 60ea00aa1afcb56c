//! The built-in worker: a read-only MCP server for one git repository (R-WORK).
//!
//! ```text
//! listen   127.0.0.1:PORT and [::1]:PORT
//!   http   one task a connection: guard (Host, Origin), then
//!            /mcp       the SDK's Streamable HTTP service --> server, tools --> git, paths
//!            /health    version and repository
//!            /shutdown  a request to leave
//! leave    request, signal, or the parent's end --> goodbye --> the last stream ends --> return
//! ```
//!
//! It runs in a process of its own (`mcpd worker`), never inside the daemon: here tokio may
//! start processes, there it may not.

use std::path::PathBuf;
use std::sync::Arc;

use mcpd_common::exit_code::program;
use mcpd_common::ids::Port;
use tokio_util::task::TaskTracker;

mod file;
mod git;
mod http;
mod leave;
mod listen;
mod params;
mod parent;
mod paths;
mod revision;
mod server;
mod tools;

#[cfg(test)]
mod tests;

/// What `mcpd worker` was told.
#[derive(Clone, Debug)]
pub struct RepoWorkerArgs {
    /// The repository, or a directory inside it.
    pub repo: PathBuf,
    /// The port to serve it on.
    pub port: Port,
}

/// Why the worker could not serve.
#[derive(Debug, thiserror::Error)]
pub enum RepoWorkerError {
    /// There is no repository there.
    #[error(transparent)]
    Repository(#[from] paths::RepositoryError),
    /// The port can't be had.
    #[error(transparent)]
    Listen(#[from] listen::ListenError),
    /// The process can't be told to leave, so it must not begin.
    #[error("can't listen for signals")]
    Signals(#[source] std::io::Error),
}

impl RepoWorkerError {
    /// What the process exits with.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Repository(_) => program::CONFIG,
            Self::Listen(_) => program::TEMPFAIL,
            Self::Signals(_) => program::SOFTWARE,
        }
    }
}

/// Serves the repository until the worker is asked to leave. Wants a runtime with I/O and
/// time; one thread is enough.
pub async fn run(args: RepoWorkerArgs) -> Result<(), RepoWorkerError> {
    let root = paths::Root::find(&args.repo)?;
    let (requests, mut triggers) = leave::triggers().map_err(RepoWorkerError::Signals)?;
    let listeners = listen::bind(args.port)?;
    let app = Arc::new(http::App::new(root, requests));
    tracing::info!(repo = %app.repo(), port = args.port.get(), "serving");

    let connections = TaskTracker::new();
    for listener in listeners {
        connections.spawn(http::accept(listener, app.clone(), connections.clone()));
    }
    let reason = triggers.first().await;
    tracing::info!(reason, "leaving");
    leave::goodbye(&app, &connections, reason).await;
    Ok(())
}
