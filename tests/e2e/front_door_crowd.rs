//! A thousand clients at once that do not read, are slow, or vanish: memory is bounded, and others notice nothing.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

use mcpd_common::ids::Pid;
use mcpd_common::outcome::FindingKind;
use mcpd_common::status::WorkerState;
use mcpd_tests::mcp::Client;
use mcpd_tests::wire::compose;
use mcpd_tests::{BOUND, ConfigBuilder, Daemon, http, until};
use nix::sys::socket::{setsockopt, sockopt};
use serde_json::json;

use crate::control_socket::raise_open_files;
use crate::front_door::behind_front_door;

const CROWD: usize = 1000;
/// More than idle, in KiB.
const MEMORY: u64 = 64 * 1024;

fn start() -> Daemon {
    raise_open_files();
    let config = ConfigBuilder::new().shutdown("clients = \"1s\"").worker("alpha", behind_front_door(""));
    Daemon::start(config)
}

/// Memory in KiB: at this moment (`VmRSS`), or the most since the start (`VmHWM`).
pub fn kibibytes(pid: Pid, which: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix(which)).expect("the line is there");
    line.trim_start_matches(':').trim().trim_end_matches(" kB").trim().parse().expect("a number")
}

fn connect(daemon: &Daemon) -> TcpStream {
    let stream = http::connect(daemon.port("alpha")).expect("mcpd listens");
    // A small window, so that the kernel does not read for the client.
    setsockopt(&stream, sockopt::RcvBuf, &4096).expect("set");
    stream
}

fn wait_connections(daemon: &mut Daemon, wanted: impl Fn(usize) -> bool) {
    until("the connections", BOUND, || {
        let report = daemon.mcpctl(&["status", "--json"]);
        let value: serde_json::Value = serde_json::from_str(&report.stdout).ok()?;
        let count = value["workers"][0]["clients"].as_u64()? as usize;
        wanted(count).then_some(())
    });
}

/// Others are served, the worker was not started again, and memory is bounded.
fn assert_nobody_suffers(daemon: &mut Daemon, before: (u64, Option<Pid>)) {
    Client::initialize(daemon.port("alpha")).state();
    let worker = daemon.wait_state("alpha", WorkerState::Ready);
    assert_eq!(worker.pid, before.1);
    let grown = kibibytes(daemon.pid(), "VmHWM").saturating_sub(before.0);
    assert!(grown < MEMORY, "{grown} KiB");
}

fn before(daemon: &mut Daemon) -> (u64, Option<Pid>) {
    Client::initialize(daemon.port("alpha")).state();
    let worker = daemon.wait_state("alpha", WorkerState::Ready);
    (kibibytes(daemon.pid(), "VmRSS"), worker.pid)
}

/// Half of them do not read a large response, the others no event stream.
#[test]
fn clients_that_never_read() {
    let mut daemon = start();
    let before = before(&mut daemon);
    let client = Client::initialize(daemon.port("alpha"));
    let call = client.compose(&client.tool("chunks", &json!({ "mebibytes": 1 })));
    let session = format!("mcp-session-id: {}", client.session);
    let get = compose("GET /mcp?flood", &["accept: text/event-stream", &session], "");
    let clients: Vec<_> = (0..CROWD)
        .map(|number| {
            let mut stream = connect(&daemon);
            let request = if number % 2 == 0 { &call } else { &get };
            stream.write_all(request.as_bytes()).expect("sent");
            stream
        })
        .collect();
    for mut stream in &clients {
        let mut first = [0; 12];
        stream.read_exact(&mut first).expect("a response begins");
        assert_eq!(&first, b"HTTP/1.1 200");
    }
    assert_nobody_suffers(&mut daemon, before);
    let report = daemon.assert_shuts_down(1);
    let forced = report.findings.iter().filter(|finding| finding.kind == FindingKind::ClientForced);
    assert!(forced.count() > 0, "{report:?}");
    drop(clients);
}

/// They send their requests byte by byte.
#[test]
fn clients_that_are_slow() {
    let mut daemon = start();
    let before = before(&mut daemon);
    let mut clients: Vec<_> = (0..CROWD).map(|_| connect(&daemon)).collect();
    for byte in b"POST /mcp" {
        for stream in &mut clients {
            stream.write_all(&[*byte]).expect("sent");
        }
    }
    wait_connections(&mut daemon, |count| count >= CROWD);
    assert_nobody_suffers(&mut daemon, before);
    // A head has a limit of 10 s.
    let mut slow = clients.swap_remove(0);
    let mut response = String::new();
    slow.read_to_string(&mut response).expect("a response");
    assert!(response.starts_with("HTTP/1.1 408 "), "{response}");
    daemon.assert_shuts_down(0);
    drop(clients);
}

/// With calls in flight, and without closing their connections properly.
#[test]
fn clients_that_vanish() {
    let mut daemon = start();
    let before = before(&mut daemon);
    let client = Client::initialize(daemon.port("alpha"));
    let call = client.compose(&client.tool("slow", &json!({ "steps": 100, "pause": 100 })));
    let clients: Vec<_> = (0..CROWD)
        .map(|_| {
            let mut stream = connect(&daemon);
            stream.write_all(call.as_bytes()).expect("sent");
            stream
        })
        .collect();
    wait_connections(&mut daemon, |count| count >= CROWD);
    for stream in &clients {
        let reset = nix::libc::linger { l_onoff: 1, l_linger: 0 };
        setsockopt(stream, sockopt::Linger, &reset).expect("set");
    }
    drop(clients);
    wait_connections(&mut daemon, |count| count < 10);
    assert_nobody_suffers(&mut daemon, before);
    daemon.assert_shuts_down(0);
}
