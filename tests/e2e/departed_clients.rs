//! A client that exits without a word leaves no session behind (R-CLIENT-9).

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use mcpd_common::ids::Port;
use mcpd_common::status::WorkerState;
use mcpd_tests::mcp::{Client, JSON};
use mcpd_tests::wire::{self, compose};
use mcpd_tests::{BOUND, ConfigBuilder, Daemon, Signal, WorkerSpec, binaries, until};
use serde_json::{Value, json};

use crate::front_door::behind_front_door;

/// The spec's limit is 10 s; the rest is for a busy machine.
const LIMIT: Duration = Duration::from_secs(10);
/// Longer than mcpd waits before it ends an abandoned session.
const LONG_ENOUGH: Duration = Duration::from_secs(7);

/// A client that is a process of its own, with one connection.
struct ClientProcess {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    session: Option<String>,
}

impl ClientProcess {
    fn connect(port: Port) -> Self {
        let mut child = Command::new(binaries::fixture_worker())
            .args(["--role", "relay", &port.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("started");
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        Self { input: child.stdin.take(), child, output, session: None }
    }

    fn initialize(port: Port) -> Self {
        let mut client = Self::connect(port);
        let (status, session) = client.post(&initialize());
        assert_eq!(status, 200);
        client.session = session;
        client.initialized();
        client
    }

    /// Another process with the session of this one.
    fn with_session(port: Port, session: &str) -> Self {
        let mut client = Self::connect(port);
        client.session = Some(session.to_owned());
        client.initialized();
        client
    }

    fn initialized(&mut self) {
        assert_eq!(self.post(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })).0, 202);
    }

    fn session(&self) -> String {
        self.session.clone().expect("a session")
    }

    /// Returns the status and the session of the response.
    fn post(&mut self, message: &Value) -> (u16, Option<String>) {
        let session = self.session.as_ref().map(|id| format!("mcp-session-id: {id}"));
        let headers: Vec<_> = JSON.into_iter().chain(session.as_deref()).collect();
        let request = compose("POST /mcp", &headers, &message.to_string());
        self.input.as_mut().expect("connected").write_all(request.as_bytes()).expect("sent");
        self.read_response()
    }

    fn read_response(&mut self) -> (u16, Option<String>) {
        let (mut status, mut session, mut length) = (0, None, 0);
        loop {
            let mut line = String::new();
            self.output.read_line(&mut line).expect("a line");
            match line.trim_end().split_once(": ") {
                Some((name, id)) if name.eq_ignore_ascii_case("mcp-session-id") => {
                    session = Some(id.to_owned())
                }
                Some((name, text)) if name.eq_ignore_ascii_case("content-length") => {
                    length = text.parse().expect("a number");
                }
                Some(_) => {}
                None if line.starts_with("HTTP/1.1 ") => status = line[9..12].parse().expect("a status"),
                None => break,
            }
        }
        self.output.read_exact(&mut vec![0; length]).expect("a body");
        (status, session)
    }

    /// Closes its connection, and lives on.
    fn disconnect(&mut self) {
        self.input = None;
    }

    fn kill(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("reaped");
    }
}

impl Drop for ClientProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn initialize() -> Value {
    let params = json!({
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "relay", "version": "1" }
    });
    json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params })
}

fn start(worker: WorkerSpec) -> Daemon {
    let mut daemon = Daemon::start(ConfigBuilder::new().worker("alpha", worker));
    daemon.wait_state("alpha", WorkerState::Ready);
    daemon
}

fn deleted(daemon: &Daemon) -> Value {
    wire::request(daemon.port("alpha"), &compose("GET /counts", &[], "")).json()["deleted"].clone()
}

fn ended(daemon: &mut Daemon) -> u32 {
    daemon.try_status().expect("a status").workers[0].ended_sessions
}

/// mcpd finds the process of a connection only after a while.
fn wait_until_found(daemon: &mut Daemon) {
    until("the connection to be old enough", BOUND, || {
        let clients = daemon.mcpctl(&["clients", "--json"]).json();
        let all = clients["clients"].as_array().expect("an array").clone();
        let is_old = |client: &Value| {
            let since: jiff::Timestamp = client["since"].as_str().expect("a time").parse().expect("a time");
            jiff::Timestamp::now().duration_since(since) > jiff::SignedDuration::from_secs(4)
        };
        all.iter().all(is_old).then_some(())
    });
}

fn stays(daemon: &mut Daemon, session: &str) {
    let end = Instant::now() + LONG_ENOUGH;
    until("the time in which it could be ended", BOUND, || (Instant::now() > end).then_some(()));
    assert_eq!(ended(daemon), 0);
    let mut client = ClientProcess::connect(daemon.port("alpha"));
    client.session = Some(session.to_owned());
    let list = json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/list" });
    assert_eq!(client.post(&list).0, 200, "the session is there");
}

fn wait_ended(daemon: &mut Daemon, killed: Instant) {
    daemon.wait_status("the end of the session", |status| status.workers[0].ended_sessions == 1);
    assert!(killed.elapsed() < LIMIT, "{:?}", killed.elapsed());
}

/// Servers with one global transport refuse all others until then.
#[test]
fn the_session_of_a_killed_client_is_ended_and_the_next_one_is_accepted() {
    let mut daemon = start(behind_front_door("--one-session"));
    let mut client = ClientProcess::initialize(daemon.port("alpha"));
    wait_until_found(&mut daemon);
    let mut second = ClientProcess::connect(daemon.port("alpha"));
    assert_eq!(second.post(&initialize()).0, 400, "there is one place");
    let killed = Instant::now();
    client.kill();
    wait_ended(&mut daemon, killed);
    assert_eq!(deleted(&daemon), 1);
    assert_eq!(second.post(&initialize()).0, 200);
    let status = daemon.mcpctl(&["status"]).stdout;
    assert!(status.contains("1 session of a client that is gone was ended"), "{status}");
    drop(second);
    let report = daemon.assert_shuts_down(0);
    assert_eq!(report.clients.ended_sessions, 1);
}

/// Each process of a client ends only its own sessions.
#[test]
fn another_process_keeps_the_session() {
    let mut daemon = start(behind_front_door(""));
    let mut first = ClientProcess::initialize(daemon.port("alpha"));
    let session = first.session();
    let mut second = ClientProcess::with_session(daemon.port("alpha"), &session);
    wait_until_found(&mut daemon);
    first.kill();
    second.disconnect();
    stays(&mut daemon, &session);
    daemon.assert_shuts_down(0);
}

#[test]
fn a_client_that_lives_without_a_connection_keeps_its_session() {
    let mut daemon = start(behind_front_door(""));
    let mut client = ClientProcess::initialize(daemon.port("alpha"));
    wait_until_found(&mut daemon);
    client.disconnect();
    stays(&mut daemon, &client.session());
    daemon.assert_shuts_down(0);
}

/// Whose session it is was never found out: its connections were closed at once.
#[test]
fn a_session_whose_client_was_never_found_stays() {
    let mut daemon = start(behind_front_door(""));
    let client = Client::initialize(daemon.port("alpha"));
    stays(&mut daemon, &client.session);
    daemon.assert_shuts_down(0);
}

/// A worker that wants a token, which mcpd does not keep.
#[test]
fn a_session_that_its_worker_does_not_end_stays() {
    let mut daemon = start(behind_front_door("--no-delete"));
    let mut client = ClientProcess::initialize(daemon.port("alpha"));
    let session = client.session();
    wait_until_found(&mut daemon);
    client.kill();
    daemon.wait_log("the worker keeps the session of a client that has exited");
    stays(&mut daemon, &session);
    daemon.assert_shuts_down(0);
}

#[test]
fn the_session_at_a_server_that_speaks_stdio_is_ended_as_well() {
    let mut daemon = start(WorkerSpec::stdio(""));
    let mut client = ClientProcess::initialize(daemon.port("alpha"));
    let session = client.session();
    wait_until_found(&mut daemon);
    let killed = Instant::now();
    client.kill();
    wait_ended(&mut daemon, killed);
    let mut next = ClientProcess::connect(daemon.port("alpha"));
    next.session = Some(session);
    assert_eq!(next.post(&json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/list" })).0, 404);
    drop(next);
    daemon.signal(Signal::SIGTERM);
    daemon.assert_no_trace(0);
}
