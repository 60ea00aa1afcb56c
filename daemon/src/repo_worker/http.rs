//! The three routes, and one task for each connection.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, AUTHORIZATION, CONTENT_TYPE, HeaderMap};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::paths::Root;
use super::server::{McpSessions, RepoServer};
use super::stop::{Requests, TOKEN_VARIABLE};
use crate::deadline;
use crate::host_check::Allowed;

type Reply = Response<BoxBody<Bytes, Infallible>>;
type Mcp = StreamableHttpService<
    RepoServer,
    rmcp::transport::streamable_http_server::session::local::LocalSessionManager,
>;

/// Pause after a failed accept: a shortage of descriptors passes, and retrying at once would only use CPU.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What all connections share.
pub struct App {
    root: Root,
    mcp: Mcp,
    sessions: McpSessions,
    requests: Requests,
    token: Option<String>,
    listening: CancellationToken,
    open: CancellationToken,
    working: CancellationToken,
}

impl App {
    /// Stop requests go to `requests`.
    pub fn new(root: Root, requests: Requests) -> Self {
        Self::with_token(root, requests, std::env::var(TOKEN_VARIABLE).ok())
    }

    /// With this token, for tests.
    pub fn with_token(root: Root, requests: Requests, token: Option<String>) -> Self {
        let sessions = McpSessions::default();
        let working = CancellationToken::new();
        let server = RepoServer::new(root.clone(), sessions.clone(), working.clone());
        let mut config = StreamableHttpServerConfig::default();
        config.cancellation_token = working.clone();
        let mcp = StreamableHttpService::new(move || Ok(server.clone()), sessions.manager(), config);
        let listening = CancellationToken::new();
        let open = CancellationToken::new();
        Self { root, mcp, sessions, requests, token, listening, open, working }
    }

    /// The repository, for a log line.
    pub fn repo(&self) -> String {
        self.root.path().display().to_string()
    }

    /// Version and repository.
    pub fn sessions(&self) -> &McpSessions {
        &self.sessions
    }

    /// Closes the listening sockets.
    pub fn stop_accepting(&self) {
        self.listening.cancel();
    }

    /// Closes connections, each after the request it is serving.
    pub fn close_connections(&self) {
        self.open.cancel();
    }

    /// Ends requests in flight and their git commands.
    pub fn cut(&self) {
        self.working.cancel();
    }

    async fn health(&self) -> Value {
        json!({
            "status": "ok",
            "name": self.root.name(),
            "repo": self.repo(),
            "pid": std::process::id(),
            "sessions": self.sessions.count().await,
        })
    }

    /// Whether the request has the token, if there is one.
    fn may_stop(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &self.token else { return true };
        let given = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        given.and_then(|value| value.strip_prefix("Bearer ")).is_some_and(|given| same(given, token))
    }
}

/// Compares tokens in a time that depends on their lengths only.
fn same(a: &str, b: &str) -> bool {
    let differing = a.bytes().zip(b.bytes()).fold(0, |differing, (a, b)| differing | (a ^ b));
    a.len() == b.len() && differing == 0
}

/// Accepts connections until the worker stops.
pub async fn accept(listener: TcpListener, app: Arc<App>, connections: TaskTracker) {
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => { connections.spawn(serve(stream, app.clone())); }
                Err(error) => {
                    tracing::warn!(%error, "can't accept a connection");
                    deadline::until(deadline::now() + ACCEPT_PAUSE).await;
                }
            },
            () = app.listening.cancelled() => return,
        }
    }
}

async fn serve(stream: TcpStream, app: Arc<App>) {
    // Without TCP_NODELAY small events wait for acknowledgements, some 40 ms each.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection keeps its delay");
    }
    let answer = service_fn(|request| {
        let app = app.clone();
        async move { Ok::<_, Infallible>(route(&app, request).await) }
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = app.open.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

async fn route(app: &App, request: Request<Incoming>) -> Reply {
    if let Err(refused) = Allowed::default().check(request.uri(), request.headers()) {
        return reply(StatusCode::FORBIDDEN, &json!({ "error": refused.to_string() }));
    }
    match (request.method(), request.uri().path()) {
        (_, "/mcp" | "/mcp/") => app.mcp.handle(request).await,
        (&Method::GET | &Method::HEAD, "/health") => reply(StatusCode::OK, &app.health().await),
        (&Method::POST, "/shutdown") => shutdown(app, request.headers()),
        (_, "/health") => not_allowed("GET, HEAD"),
        (_, "/shutdown") => not_allowed("POST"),
        _ => reply(StatusCode::NOT_FOUND, &json!({ "error": "not here: the MCP endpoint is /mcp" })),
    }
}

fn shutdown(app: &App, headers: &HeaderMap) -> Reply {
    if !app.may_stop(headers) {
        return reply(StatusCode::FORBIDDEN, &json!({ "error": "only the daemon may stop this worker" }));
    }
    // A full channel means that the stop was requested before.
    let _ = app.requests.try_send("manual");
    reply(StatusCode::ACCEPTED, &json!({ "status": "leaving" }))
}

fn not_allowed(allowed: &'static str) -> Reply {
    let mut reply = reply(StatusCode::METHOD_NOT_ALLOWED, &json!({ "error": format!("use {allowed}") }));
    reply.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static(allowed));
    reply
}

fn reply(status: StatusCode, body: &Value) -> Reply {
    let mut reply = Response::new(Full::from(body.to_string()).boxed());
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
    reply
}
