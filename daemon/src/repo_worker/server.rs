//! The MCP server: its description and its connected clients.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rmcp::handler::server::router::tool::ToolRouter;
use rmcp::model::{Implementation, ServerCapabilities, ServerConfig};
use rmcp::service::NotificationContext;
use rmcp::transport::streamable_http_server::session::local::{LocalSessionHandle, LocalSessionManager};
use rmcp::{Peer, RoleServer, ServerHandler, tool_handler};
use tokio_util::sync::CancellationToken;

use super::git::Git;
use super::paths::Root;

/// Idle limit of a session. The SDK's default of five minutes would end the sessions of editors that are only
/// idle, and most clients can't begin a new one.
const SESSION_IDLE: Duration = Duration::from_secs(24 * 60 * 60);

const INSTRUCTIONS: &str = "Read-only access to one git repository. Paths are relative to its root. \
    Revisions are branches, tags or commit ids. Nothing here changes the repository.";

/// Serves one repository; cloned for each session, which is cheap.
#[derive(Clone)]
pub struct RepoServer {
    pub(super) root: Root,
    pub(super) git: Git,
    /// Cancelled when requests in flight have to end.
    pub(super) interrupted: CancellationToken,
    sessions: McpSessions,
    tool_router: ToolRouter<Self>,
}

impl RepoServer {
    pub fn new(root: Root, sessions: McpSessions, interrupted: CancellationToken) -> Self {
        let git = Git::new(root.path().to_owned());
        Self { root, git, interrupted, sessions, tool_router: Self::tools() }
    }
}

#[tool_handler(router = self.tool_router)]
impl ServerHandler for RepoServer {
    fn get_info(&self) -> ServerConfig {
        let name = self.root.name();
        let implementation = Implementation::new("mcpd-repository", env!("CARGO_PKG_VERSION"))
            .with_title(format!("git repository {name}"));
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(implementation)
            .with_instructions(format!("{INSTRUCTIONS} The repository is {}.", self.root.path().display()))
    }

    async fn on_initialized(&self, context: NotificationContext<RoleServer>) {
        self.sessions.add(context.peer);
    }
}

/// The sessions of clients up to MCP 2025-11-25; later ones have none.
#[derive(Clone)]
pub struct McpSessions {
    manager: Arc<LocalSessionManager>,
    peers: Arc<Mutex<Vec<Peer<RoleServer>>>>,
}

impl Default for McpSessions {
    fn default() -> Self {
        let mut manager = LocalSessionManager::default();
        manager.session_config.keep_alive = Some(SESSION_IDLE);
        Self { manager: Arc::new(manager), peers: Arc::default() }
    }
}

impl McpSessions {
    /// For the SDK.
    pub fn manager(&self) -> Arc<LocalSessionManager> {
        self.manager.clone()
    }

    pub async fn count(&self) -> usize {
        self.manager.sessions.read().await.len()
    }

    /// To send notifications to the sessions.
    pub fn peers(&self) -> Vec<Peer<RoleServer>> {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        peers.retain(|peer| !peer.is_transport_closed());
        peers.clone()
    }

    /// To end the event streams of the sessions.
    pub async fn handles(&self) -> Vec<LocalSessionHandle> {
        self.manager.sessions.read().await.values().cloned().collect()
    }

    fn add(&self, peer: Peer<RoleServer>) {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        peers.retain(|peer| !peer.is_transport_closed());
        peers.push(peer);
    }
}
