//! The worker as a whole, in this process, over real sockets and a real repository.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::http::{self, App, Limits};
use super::repository;
use super::stop::{self, Reason};

const BOUND: Duration = Duration::from_secs(20);

struct Worker {
    app: Arc<App>,
    address: SocketAddr,
    connections: TaskTracker,
    requests: mpsc::Receiver<Reason>,
    repo: PathBuf,
    _dir: tempfile::TempDir,
}

fn git(repo: &Path, args: &[&str]) {
    let identity = ["-c", "user.name=Kim", "-c", "user.email=kim@example.org", "-c", "commit.gpgSign=false"];
    let output = std::process::Command::new("git")
        .args(identity)
        .args(args)
        .current_dir(repo)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .expect("git runs");
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Worker {
    async fn start(token: Option<&str>) -> Self {
        Self::start_with(token, Limits::default()).await
    }

    async fn start_with(token: Option<&str>, limits: Limits) -> Self {
        let dir = tempfile::tempdir().expect("temporary directory");
        let repo = dir.path().join("alpha");
        std::fs::create_dir_all(repo.join("src")).expect("made");
        std::fs::write(repo.join("src/lib.rs"), "one\ntwo\nthree\n").expect("written");
        std::fs::write(repo.join("README"), "hello\n").expect("written");
        git(&repo, &["init", "-q", "-b", "main"]);
        git(&repo, &["add", "."]);
        git(&repo, &["commit", "-q", "-m", "begin"]);
        git(&repo, &["tag", "v1"]);
        std::fs::write(repo.join("README"), "hello\nagain\n").expect("written");
        git(&repo, &["commit", "-q", "-a", "-m", "go on"]);
        std::fs::write(repo.join("README"), "hello\nagain\nnot yet\n").expect("written");

        let (sender, requests) = mpsc::channel(1);
        let root = repository::open(&repo.join("src")).await.expect("found from below");
        let app = Arc::new(App::with(root, sender, token.map(str::to_owned), limits));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("bound");
        let connections = TaskTracker::new();
        connections.spawn(http::accept(listener, app.clone(), connections.clone()));
        Self { app, address, connections, requests, repo, _dir: dir }
    }

    async fn connect(&self) -> SendRequest<Full<Bytes>> {
        let stream = TcpStream::connect(self.address).await.expect("connected");
        let (sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("HTTP");
        tokio::spawn(connection);
        sender
    }

    /// The event stream of a new session.
    async fn events(&self) -> Response<Incoming> {
        let session = self.session().await;
        let headers = [("accept", "text/event-stream"), ("mcp-session-id", session.as_str())];
        let stream = self.send("GET", "/mcp", &headers, String::new()).await;
        assert_eq!(stream.status(), StatusCode::OK);
        stream
    }

    async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> Response<Incoming> {
        let mut sender = self.connect().await;
        let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from(body))).expect("a request");
        tokio::time::timeout(BOUND, sender.send_request(request)).await.expect("in time").expect("an answer")
    }

    async fn status(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> StatusCode {
        self.send(method, path, headers, String::new()).await.status()
    }

    async fn post(&self, path: &str, session: Option<&str>, message: Value) -> Response<Incoming> {
        let mut headers =
            vec![("content-type", "application/json"), ("accept", "application/json, text/event-stream")];
        headers.extend(session.map(|session| ("mcp-session-id", session)));
        self.send("POST", path, &headers, message.to_string()).await
    }

    async fn session(&self) -> String {
        let params = json!({ "protocolVersion": "2025-06-18", "capabilities": {},
            "clientInfo": { "name": "test", "version": "1" } });
        let begin = json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params });
        let answer = self.post("/mcp/", None, begin).await;
        let session = answer.headers()["mcp-session-id"].to_str().expect("plain").to_owned();
        let info = message(&text(answer).await);
        assert_eq!(info["result"]["serverInfo"]["name"], "mcpd-repository");
        let ready = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
        assert_eq!(self.post("/mcp", Some(&session), ready).await.status(), StatusCode::ACCEPTED);
        session
    }

    async fn request(&self, session: &str, method: &str, params: Value) -> Value {
        let request = json!({ "jsonrpc": "2.0", "id": 7, "method": method, "params": params });
        message(&text(self.post("/mcp", Some(session), request).await).await)
    }

    /// The text of a tool's result, and whether it is an error.
    async fn call(&self, session: &str, tool: &str, arguments: Value) -> (String, bool) {
        let answer =
            self.request(session, "tools/call", json!({ "name": tool, "arguments": arguments })).await;
        let result = &answer["result"];
        let text = result["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{tool}: {answer}"));
        (text.to_owned(), result["isError"] == true)
    }
}

async fn text(answer: Response<Incoming>) -> String {
    let body = tokio::time::timeout(BOUND, answer.into_body().collect()).await.expect("in time");
    String::from_utf8(body.expect("a body").to_bytes().to_vec()).expect("text")
}

/// The JSON-RPC message in an answer of one event.
fn message(events: &str) -> Value {
    let data = events.lines().find_map(|line| line.strip_prefix("data: {")).expect(events);
    serde_json::from_str(&format!("{{{data}")).expect("JSON")
}

const CALLS: [(&str, &str, &str); 15] = [
    ("status", "{}", " M README"),
    ("log", r#"{"limit": 1}"#, "go on"),
    ("log", r#"{"revision": "v1..main", "stat": true}"#, "README | 1 +"),
    ("diff", "{}", "+not yet"),
    ("diff", r#"{"from": "v1", "to": "main"}"#, "+again"),
    ("show", r#"{"revision": "v1"}"#, "+two"),
    ("blame", r#"{"path": "README", "start_line": 1, "end_line": 1}"#, "hello"),
    ("blame", r#"{"path": "README"}"#, "not yet"),
    ("branches", r#"{"tags": true}"#, "* main"),
    ("grep", r#"{"pattern": "^t(wo|en)$", "glob": "**/*.rs"}"#, "src/lib.rs:2:two"),
    ("grep", r#"{"pattern": "--nothing"}"#, "no matches"),
    ("list_files", "{}", "src/lib.rs"),
    ("list_files", r#"{"revision": "v1", "path": "src"}"#, "src/lib.rs"),
    ("read_file", r#"{"path": "src/lib.rs", "start_line": 2, "end_line": 2}"#, "two\n"),
    ("read_file", r#"{"path": "README", "revision": "v1"}"#, "hello\n"),
];

/// R-WORK: a real MCP server at `/mcp` and `/mcp/`.
#[tokio::test]
async fn every_tool_answers() {
    let worker = Worker::start(None).await;
    let session = worker.session().await;
    let list = worker.request(&session, "tools/list", json!({})).await;
    let tools = list["result"]["tools"].as_array().expect("tools").clone();
    for tool in &tools {
        assert!(tool["description"].as_str().is_some_and(|text| text.len() > 20), "{tool}");
        assert_eq!(tool["inputSchema"]["type"], "object", "{tool}");
        assert_eq!(tool["annotations"]["readOnlyHint"], true, "{tool}");
        assert!(CALLS.iter().any(|(name, ..)| tool["name"] == *name), "{tool} is called below");
    }
    assert_eq!(tools.len(), 9);
    for (tool, arguments, expected) in CALLS {
        let arguments = serde_json::from_str(arguments).expect("JSON");
        let (text, failed) = worker.call(&session, tool, arguments).await;
        assert!(!failed && text.contains(expected), "{tool}: {text}");
    }
}

/// R-WORK: read-only, never outside, and clear errors.
#[tokio::test]
async fn calls_that_would_write_or_lead_outside_are_refused() {
    let worker = Worker::start(None).await;
    let session = worker.session().await;
    let trap = worker.repo.join("trap");
    let option = format!("--output={}", trap.display());
    std::os::unix::fs::symlink("/etc/passwd", worker.repo.join("link")).expect("linked");
    for (tool, arguments, expected) in [
        ("log", json!({ "revision": option }), "not a revision"),
        ("log", json!({ "revision": format!("main..{option}") }), "not a revision"),
        ("show", json!({ "revision": option }), "not a revision"),
        ("diff", json!({ "from": "nowhere" }), "no revision \"nowhere\""),
        ("diff", json!({ "to": "main" }), "needs `from`"),
        ("diff", json!({ "paths": ["/etc/passwd", "/etc/group"] }), "outside the repository"),
        ("blame", json!({ "path": "../x" }), "outside the repository"),
        ("grep", json!({ "pattern": "root", "path": "../.." }), "outside the repository"),
        ("grep", json!({ "pattern": "a(" }), "git grep failed"),
        ("list_files", json!({ "glob": "../*" }), "outside the repository"),
        ("read_file", json!({ "path": "link" }), "outside the repository"),
        ("read_file", json!({ "path": ".git/config" }), "belongs to git"),
        ("read_file", json!({ "path": "" }), "must name a file"),
    ] {
        let (text, failed) = worker.call(&session, tool, arguments.clone()).await;
        assert!(failed && text.contains(expected), "{tool} {arguments}: {text}");
    }
    assert!(!trap.exists());
}

/// R-WORK: never outside the repository, also where git itself reads the working tree.
#[tokio::test]
async fn a_tracked_directory_that_became_a_link_is_not_followed() {
    let worker = Worker::start(None).await;
    let session = worker.session().await;
    let outside = worker.repo.with_file_name("outside");
    std::fs::create_dir(&outside).expect("made");
    std::fs::write(outside.join("lib.rs"), "one secret\n").expect("written");
    std::fs::remove_dir_all(worker.repo.join("src")).expect("removed");
    std::os::unix::fs::symlink(&outside, worker.repo.join("src")).expect("linked");
    for (tool, arguments, expected) in [
        ("blame", json!({ "path": "src/lib.rs" }), "is a symbolic link"),
        ("blame", json!({ "path": "src/lib.rs", "revision": "HEAD" }), "two"),
        ("grep", json!({ "pattern": "secret" }), "no matches"),
        ("grep", json!({ "pattern": "secret", "path": "src/lib.rs" }), "no matches"),
        ("grep", json!({ "pattern": "secret", "glob": "**/*.rs" }), "no matches"),
        ("grep", json!({ "pattern": "hello" }), "README:1:hello"),
        ("grep", json!({ "pattern": "two", "revision": "HEAD" }), "src/lib.rs:2:two"),
        ("diff", json!({}), "deleted file"),
        ("read_file", json!({ "path": "src/lib.rs" }), "outside the repository"),
    ] {
        let (text, _) = worker.call(&session, tool, arguments.clone()).await;
        assert!(text.contains(expected) && !text.contains("one secret"), "{tool} {arguments}: {text}");
    }
}

/// R-WORK: reading never runs what a repository's own configuration names.
#[tokio::test]
async fn a_hostile_repository_runs_nothing() {
    let worker = Worker::start(None).await;
    let marker = worker.repo.with_file_name("ran");
    let program = worker.repo.with_file_name("program");
    std::fs::write(&program, format!("#!/bin/sh\ntouch '{}'\n", marker.display())).expect("written");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&program, mode).expect("executable");
    let program = program.to_str().expect("plain");
    for (name, value) in [
        ("core.fsmonitor", program),
        ("core.pager", program),
        ("core.hooksPath", worker.repo.parent().and_then(Path::to_str).expect("plain")),
        ("core.worktree", "/"),
        ("diff.external", program),
        ("diff.bad.textconv", program),
        ("diff.bad.command", program),
        ("gpg.program", program),
        ("log.showSignature", "true"),
    ] {
        git(&worker.repo, &["config", name, value]);
    }
    std::fs::write(worker.repo.join(".git/info/attributes"), "* diff=bad\n").expect("written");
    let session = worker.session().await;
    for (tool, arguments, expected) in CALLS {
        let arguments = serde_json::from_str(arguments).expect("JSON");
        let (text, failed) = worker.call(&session, tool, arguments).await;
        assert!(!failed && text.contains(expected), "{tool}: {text}");
        assert!(!marker.exists(), "{tool} ran a program that the repository names");
    }
}

/// R-WORK: `/health`, the token of stop requests, and the check of `Origin`.
#[tokio::test]
async fn a_stop_request_needs_the_token() {
    let mut worker = Worker::start(Some("secret")).await;
    let health = worker.send("GET", "/health", &[], String::new()).await;
    let health: Value = serde_json::from_str(&text(health).await).expect("JSON");
    assert_eq!(health["name"], "alpha");
    assert_eq!(health["pid"], std::process::id());
    assert_eq!(health["sessions"], 0);

    assert_eq!(worker.status("GET", "/nowhere", &[]).await, StatusCode::NOT_FOUND);
    assert_eq!(worker.status("GET", "/shutdown", &[]).await, StatusCode::METHOD_NOT_ALLOWED);
    let evil = [("origin", "http://evil.example")];
    assert_eq!(worker.status("GET", "/health", &evil).await, StatusCode::FORBIDDEN);
    for wrong in ["Bearer secreT", "Bearer secret2", "Bearer ", "secret"] {
        let wrong = [("authorization", wrong)];
        assert_eq!(worker.status("POST", "/shutdown", &wrong).await, StatusCode::FORBIDDEN);
    }
    assert_eq!(worker.status("POST", "/shutdown", &[]).await, StatusCode::FORBIDDEN);
    assert!(worker.requests.try_recv().is_err());
    let right = [("authorization", "Bearer secret")];
    assert_eq!(worker.status("POST", "/shutdown", &right).await, StatusCode::ACCEPTED);
    assert_eq!(worker.status("POST", "/shutdown", &right).await, StatusCode::ACCEPTED, "again");
    assert_eq!(worker.requests.recv().await, Some("manual"));
}

/// R-WORK: a stop notifies the sessions, ends their streams, and closes all connections.
#[tokio::test]
async fn sessions_are_notified_and_their_streams_end() {
    let worker = Worker::start(None).await;
    let events = tokio::spawn(text(worker.events().await));

    let begin = crate::deadline::now();
    stop::drain(&worker.app, &worker.connections, "manual").await;
    assert!(worker.connections.is_empty(), "all connections have ended");
    assert!(begin.elapsed() < Duration::from_secs(3), "no request had to be interrupted");
    let events = events.await.expect("read");
    assert_eq!(message(&events)["method"], "notifications/shutdown");
    assert_eq!(message(&events)["params"]["reason"], "manual");
    assert!(events.trim_end().ends_with("retry: 5000"), "{events}");
    assert!(TcpStream::connect(worker.address).await.is_err(), "the port is closed");
}

/// A client that never finishes its request can't delay a stop beyond the limits.
#[tokio::test]
async fn a_request_that_never_ends_is_interrupted() {
    let worker = Worker::start(None).await;
    let stuck = TcpStream::connect(worker.address).await.expect("connected");
    let half = b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
        Accept: application/json, text/event-stream\r\nContent-Length: 100\r\n\r\n{";
    let mut written = 0;
    while written < half.len() {
        stuck.writable().await.expect("open");
        written += stuck.try_write(&half[written..]).unwrap_or(0);
    }
    // The listener is one of them.
    let accepted = async {
        while worker.connections.len() < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(BOUND, accepted).await.expect("accepted");
    let drained = stop::drain(&worker.app, &worker.connections, "manual");
    tokio::time::timeout(BOUND, drained).await.expect("bounded");
}

/// The bytes that arrive on a connection until it is closed.
async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(BOUND, stream.read_to_end(&mut bytes)).await.expect("closed in time");
    // A connection that is reset has been closed, too.
    drop(read);
    String::from_utf8(bytes).expect("text")
}

/// A request head has a time limit; a response may take longer.
#[tokio::test]
async fn a_head_that_does_not_arrive_ends_its_connection() {
    let limits = Limits { head: Duration::from_millis(200), ..Limits::default() };
    let worker = Worker::start_with(None, limits).await;
    let stream = worker.events().await;
    for part in ["", "GET /health HTTP/1.1\r\nHost: local"] {
        let mut stuck = TcpStream::connect(worker.address).await.expect("connected");
        stuck.write_all(part.as_bytes()).await.expect("sent");
        assert_eq!(read_to_end(&mut stuck).await, "", "{part:?}");
    }
    // More than the limit has passed for the event stream, too.
    let events = tokio::spawn(text(stream));
    stop::drain(&worker.app, &worker.connections, "manual").await;
    assert_eq!(message(&events.await.expect("read"))["method"], "notifications/shutdown");
}

/// A connection over the limit takes the place of an idle one.
#[tokio::test]
async fn an_idle_connection_makes_room_for_a_new_one() {
    let worker = Worker::start_with(None, Limits { connections: 2, ..Limits::default() }).await;
    let health = || {
        let request = Request::get("/health").header("host", "localhost");
        request.body(Full::new(Bytes::new())).expect("a request")
    };
    let mut oldest = TcpStream::connect(worker.address).await.expect("connected");
    let mut second = worker.connect().await;
    let answer = second.send_request(health()).await.expect("an answer");
    text(answer).await;
    let mut third = worker.connect().await;
    assert_eq!(third.send_request(health()).await.expect("an answer").status(), StatusCode::OK);
    assert_eq!(read_to_end(&mut oldest).await, "", "closed");
    assert_eq!(second.send_request(health()).await.expect("an answer").status(), StatusCode::OK);
}

/// If all are in use, the new one is refused with a reason, and a later one is served.
#[tokio::test]
async fn a_connection_over_the_limit_is_refused_with_the_reason() {
    let worker = Worker::start_with(None, Limits { connections: 2, ..Limits::default() }).await;
    let streams = [worker.events().await, worker.events().await];
    let mut refused = TcpStream::connect(worker.address).await.expect("connected");
    let answer = read_to_end(&mut refused).await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("are in use"), "{answer}");
    drop(streams);
    let served = async {
        loop {
            let mut sender = worker.connect().await;
            let request = Request::get("/health").header("host", "localhost");
            let request = request.body(Full::new(Bytes::new())).expect("a request");
            if sender.send_request(request).await.is_ok_and(|answer| answer.status() == StatusCode::OK) {
                return;
            }
        }
    };
    tokio::time::timeout(BOUND, served).await.expect("a place becomes free");
}
