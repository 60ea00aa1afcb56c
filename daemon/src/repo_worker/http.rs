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
use hyper_util::rt::{TokioIo, TokioTimer};
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connections::{self, ConnectionGuard, Connections, InFlightBody};
use super::paths::Root;
use super::server::{McpSessions, RepoServer};
use super::stop::{StopSender, TOKEN_VARIABLE};
use crate::deadline;
use crate::host_check::Allowed;

type Reply = Response<BoxBody<Bytes, Infallible>>;
type Mcp = StreamableHttpService<
    RepoServer,
    rmcp::transport::streamable_http_server::session::local::LocalSessionManager,
>;

/// Pause after a failed accept: a shortage of descriptors passes, and retrying at once would only use CPU.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Limit for all request headers together, in bytes.
const MAX_HEAD: usize = 64 * 1024;

/// Sent to a connection over the limit, before any request of it is read.
const TOO_MANY: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 5\r\n\
    Connection: close\r\n\r\n\
    {\"error\": \"all connections that this worker allows are in use: close event streams that are not needed\"}";

/// The limits of the HTTP server; tests have lower ones.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// For a request head, and for the time between two requests.
    pub head: Duration,
    pub connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { head: Duration::from_secs(10), connections: connections::default_limit() }
    }
}

/// What all connections share.
pub struct App {
    limits: Limits,
    connections: Arc<Connections>,
    root: Root,
    mcp: Mcp,
    sessions: McpSessions,
    stop: StopSender,
    token: Option<String>,
    /// Cancelled when the listening sockets have to be closed.
    stop_accepting: CancellationToken,
    /// Cancelled when each connection has to be closed after its current request.
    close_connections: CancellationToken,
    /// Cancelled when requests in flight have to end.
    interrupt_requests: CancellationToken,
}

impl App {
    /// The route `/shutdown` sends to `stop`.
    pub fn new(root: Root, stop: StopSender) -> Self {
        Self::with(root, stop, std::env::var(TOKEN_VARIABLE).ok(), Limits::default())
    }

    /// With this token and these limits.
    pub fn with(root: Root, stop: StopSender, token: Option<String>, limits: Limits) -> Self {
        let sessions = McpSessions::default();
        let interrupt_requests = CancellationToken::new();
        let server = RepoServer::new(root.clone(), sessions.clone(), interrupt_requests.clone());
        let mut config = StreamableHttpServerConfig::default();
        config.cancellation_token = interrupt_requests.clone();
        let mcp = StreamableHttpService::new(move || Ok(server.clone()), sessions.manager(), config);
        let connections = Connections::new(limits.connections);
        Self {
            limits,
            connections,
            root,
            mcp,
            sessions,
            stop,
            token,
            stop_accepting: CancellationToken::new(),
            close_connections: CancellationToken::new(),
            interrupt_requests,
        }
    }

    /// The repository, for a log line.
    pub fn repo(&self) -> String {
        self.root.path().display().to_string()
    }

    pub fn sessions(&self) -> &McpSessions {
        &self.sessions
    }

    /// Closes the listening sockets.
    pub fn stop_accepting(&self) {
        self.stop_accepting.cancel();
    }

    /// Closes connections, each after the request it is serving.
    pub fn close_connections(&self) {
        self.close_connections.cancel();
    }

    /// Ends requests in flight and their git commands.
    pub fn interrupt_requests(&self) {
        self.interrupt_requests.cancel();
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

    /// Whether the request carries the token. Without a token every request may stop the worker.
    fn may_stop(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &self.token else { return true };
        let given = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        given
            .and_then(|value| value.strip_prefix("Bearer "))
            .is_some_and(|given| equal_in_constant_time(given, token))
    }
}

/// Compares tokens in a time that depends on their lengths only.
fn equal_in_constant_time(a: &str, b: &str) -> bool {
    let differing = a.bytes().zip(b.bytes()).fold(0, |differing, (a, b)| differing | (a ^ b));
    a.len() == b.len() && differing == 0
}

/// Accepts connections until the worker stops.
pub async fn accept(listener: TcpListener, app: Arc<App>, tasks: TaskTracker) {
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => match app.connections.admit() {
                    Some(guard) => { tasks.spawn(serve(stream, guard, app.clone())); }
                    None => refuse(&stream, app.connections.limit()),
                },
                Err(error) => {
                    tracing::warn!(%error, "can't accept a connection");
                    deadline::until(deadline::now() + ACCEPT_PAUSE).await;
                }
            },
            () = app.stop_accepting.cancelled() => return,
        }
    }
}

/// Best effort: a client that sends before it reads may see only that the connection was closed.
fn refuse(stream: &TcpStream, limit: usize) {
    tracing::warn!(limit, "all connections are in use, a new one was refused");
    let _ = stream.try_write(TOO_MANY.as_bytes());
}

async fn serve(stream: TcpStream, guard: Arc<ConnectionGuard>, app: Arc<App>) {
    // Without TCP_NODELAY small events wait for acknowledgements, some 40 ms each.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "can't set TCP_NODELAY on a connection");
    }
    let answer = service_fn(|request| {
        let app = app.clone();
        let in_flight = guard.begin_request();
        async move {
            let reply = route(&app, request).await;
            Ok::<_, Infallible>(reply.map(|body| InFlightBody::new(body, in_flight)))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(app.limits.head)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), answer);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = app.close_connections.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        () = guard.evicted() => {
            tracing::debug!("an idle connection was closed in favour of a new one");
            return;
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended with an error");
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
        _ => reply(
            StatusCode::NOT_FOUND,
            &json!({ "error": "there is nothing at this path: the MCP endpoint is /mcp" }),
        ),
    }
}

fn shutdown(app: &App, headers: &HeaderMap) -> Reply {
    if !app.may_stop(headers) {
        return reply(StatusCode::FORBIDDEN, &json!({ "error": "only the daemon may stop this worker" }));
    }
    // A full channel means that the stop was requested before.
    let _ = app.stop.try_send("manual");
    reply(StatusCode::ACCEPTED, &json!({ "status": "stopping" }))
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
