//! The actions of the soak test. Each cleans up after itself; the daemon stops the processes that are left.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use mcpd_common::exit_code::program;
use mcpd_common::ids::Port;
use mcpd_common::os::child::{Handle, Signal as ProcessSignal};
use mcpd_common::os::process;
use mcpd_tests::limits::FewDescriptors;
use mcpd_tests::random::SeededRandom;
use mcpd_tests::{Signal, http, wire};

use crate::stage::{SERVERS, SHARED, STEADY, Stage};

/// An action: its name and its function.
type Action = (&'static str, fn(&mut Stage, &mut SeededRandom));

pub const ACTIONS: [Action; 12] = [
    ("kill a worker", kill_worker),
    ("restart", restart),
    ("restart of the daemon", restart_daemon),
    ("client storm", client_storm),
    ("bad clients", bad_clients),
    ("rude clients of a shared server", rude_clients),
    ("control calls", control_calls),
    ("log flood", log_flood),
    ("crash loop", crash_loop),
    ("full disk", full_disk),
    ("no descriptors", no_descriptors),
    ("clock jump", clock_jump),
];

const PAUSE: Duration = Duration::from_millis(300);

/// Kills a worker.
fn kill_worker(stage: &mut Stage, random: &mut SeededRandom) {
    let Some(process) = stage.leader(random.pick(&STEADY)).and_then(process::best_effort::read) else {
        return;
    };
    // The handle checks the start time, so a process with a reused pid is never killed.
    if let Ok(Some(handle)) = Handle::open(&process) {
        let _ = handle.signal(ProcessSignal::Kill);
    }
}

fn restart(stage: &mut Stage, random: &mut SeededRandom) {
    stage.daemon.mcpctl(&["restart", random.pick(&STEADY)]);
}

/// Once in ten times, so that a leak has time to grow.
fn restart_daemon(stage: &mut Stage, random: &mut SeededRandom) {
    if random.below(10) > 0 {
        return;
    }
    let output = stage.daemon.mcpctl(&["restart", "--daemon", "--json"]);
    let result = output.json_lines().pop().expect("a result");
    // After the crash loop of an earlier action, a worker may be failed.
    let all_ready = result["workers_ready"] == result["workers"];
    output.expect_code(if all_ready { 0 } else { program::UNAVAILABLE });
}

/// Many clients at once; each opens a session, sends a request and ends the session.
fn client_storm(stage: &mut Stage, random: &mut SeededRandom) {
    let ports: Vec<Port> = (0..20 + random.below(40)).map(|_| stage.port(random.pick(&SERVERS))).collect();
    thread::scope(|scope| {
        for port in ports {
            scope.spawn(move || session(port));
        }
    });
}

/// Clients that leave while they are served, that do not read, and whose server misbehaves: it writes garbage and long
/// lines, does not read for a while, and never answers.
fn rude_clients(stage: &mut Stage, random: &mut SeededRandom) {
    const TOOLS: [(&str, &str); 8] = [
        ("stuck", "{}"),
        ("slow", r#"{"steps":50,"pause":5}"#),
        ("text", r#"{"length":300000}"#),
        ("text", r#"{"length":17000000}"#),
        ("stray", r#"{"line":"Server started"}"#),
        ("deaf", r#"{"ms":100}"#),
        ("notify", r#"{"method":"notifications/tools/list_changed","params":{}}"#),
        ("ask", "{}"),
    ];
    let port = stage.port(SHARED);
    let calls: Vec<_> = (0..15).map(|_| (random.pick(&TOOLS), random.below(3))).collect();
    thread::scope(|scope| {
        for ((tool, arguments), patience) in calls {
            scope.spawn(move || rude_client(port, tool, arguments, patience));
        }
    });
}

fn rude_client(port: Port, tool: &str, arguments: &str, patience: usize) -> io::Result<()> {
    let Some(session) = begin_session(port)? else { return Ok(()) };
    let mut unread = http::connect(port)?;
    unread.write_all(wire::compose("GET /mcp", &["accept: text/event-stream", &session], "").as_bytes())?;
    let params = format!(r#"{{"name":"{tool}","arguments":{arguments},"_meta":{{"progressToken":1}}}}"#);
    let call = format!(r#"{{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{params}}}"#);
    let mut stream = http::connect(port)?;
    stream.write_all(wire::compose("POST /mcp", &[&JSON[..], &[&session]].concat(), &call).as_bytes())?;
    stream.set_read_timeout(Some(PAUSE))?;
    // Some leave at once, some read the begin of the response.
    for _ in 0..patience {
        let _ = stream.read(&mut [0; 4096]);
    }
    Ok(())
}

const JSON: [&str; 3] =
    ["content-type: application/json", "accept: application/json, text/event-stream", "connection: close"];

/// The header of a new session.
fn begin_session(port: Port) -> io::Result<Option<String>> {
    let hello = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"storm","version":"1"}}}"#;
    let response = exchange(port, &wire::compose("POST /mcp", &JSON, hello))?;
    let id = response.lines().find_map(|line| line.strip_prefix("mcp-session-id: "));
    Ok(id.map(|id| format!("mcp-session-id: {id}")))
}

/// One client. Any response is accepted, and the end of the connection, too.
fn session(port: Port) -> io::Result<()> {
    let Some(header) = begin_session(port)? else { return Ok(()) };
    let list = r#"{"jsonrpc":"2.0","id":2,"method":"tools/list"}"#;
    exchange(port, &wire::compose("POST /mcp", &[&JSON[..], &[&header]].concat(), list))?;
    exchange(port, &wire::compose("DELETE /mcp", &[&header, "connection: close"], ""))?;
    Ok(())
}

fn exchange(port: Port, request: &str) -> io::Result<String> {
    let mut stream = http::connect(port)?;
    stream.write_all(request.as_bytes())?;
    let mut answer = vec![];
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Incomplete requests, garbage, and connections that are closed without a request.
fn bad_clients(stage: &mut Stage, random: &mut SeededRandom) {
    let mut open = vec![];
    for _ in 0..30 {
        let Ok(mut stream) = http::connect(stage.port(random.pick(&SERVERS))) else { continue };
        let bytes: &[u8] = random.pick(&[
            &b"POST /mcp HTTP/1.1\r\ncontent-length: 1000\r\n\r\n{"[..],
            b"GET /mcp HT",
            b"\x16\x03\x01\x02\x00\x01\x00",
            b"GET /never HTTP/1.1\r\nhost: localhost\r\n\r\n",
            b"",
        ]);
        let _ = stream.write_all(bytes);
        if random.below(3) == 0 {
            let _ = stream.shutdown(Shutdown::Write);
        }
        open.push(stream);
    }
    thread::sleep(PAUSE);
}

/// All queries of `mcpctl` at the same time, and garbage on the control socket.
fn control_calls(stage: &mut Stage, _: &mut SeededRandom) {
    let socket = stage.daemon.places().socket.clone();
    let garbage: Vec<_> = (0..20).filter_map(|_| UnixStream::connect(&socket).ok()).collect();
    for (number, mut stream) in garbage.iter().enumerate() {
        let _ = stream.write_all(if number % 2 == 0 {
            b"PRI * HTTP/2.0\r\n\r\nSM"
        } else {
            b"GET / HTTP/1.1\r\n\r\n"
        });
    }
    let calls = ["status", "health", "clients", "verify-ports", "list-zombies", "history", "report"];
    let running: Vec<_> = calls.iter().map(|call| stage.daemon.mcpctl_start(&[call, "--json"])).collect();
    for call in running {
        call.finish(mcpd_tests::BOUND);
    }
}

fn log_flood(stage: &mut Stage, _: &mut SeededRandom) {
    stage.daemon.mcpctl(&["start", "flood"]);
    thread::sleep(PAUSE * 3);
    stage.daemon.mcpctl(&["stop", "flood"]);
}

fn crash_loop(stage: &mut Stage, _: &mut SeededRandom) {
    stage.daemon.mcpctl(&["start", "crashes"]);
    thread::sleep(PAUSE * 5);
    stage.daemon.mcpctl(&["stop", "crashes"]);
}

/// The daemon continues without logs.
fn full_disk(stage: &mut Stage, random: &mut SeededRandom) {
    let Some(file) = stage.disk().map(|disk| disk.join("filler")) else { return };
    // The disk is full once the copy fails.
    let filled = File::create(&file).and_then(|mut file| io::copy(&mut io::repeat(b'x'), &mut file));
    assert!(filled.is_err(), "the disk fills up");
    for action in [kill_worker, restart, control_calls] {
        action(stage, random);
    }
    std::fs::remove_file(&file).expect("created here");
}

/// The daemon has only two free descriptors while clients connect and a worker is killed.
fn no_descriptors(stage: &mut Stage, random: &mut SeededRandom) {
    let few = FewDescriptors::of(stage.pid, Some(2));
    bad_clients(stage, random);
    kill_worker(stage, random);
    thread::sleep(PAUSE);
    drop(few);
}

/// The wall clock jumps, and then the daemon is stopped for a while, as in a suspended laptop.
fn clock_jump(stage: &mut Stage, random: &mut SeededRandom) {
    stage.set_clock(random.pick(&["+1d", "-1d", "+3h", "-40m", "+0"]));
    stage.daemon.signal_daemon(Signal::SIGSTOP);
    thread::sleep(PAUSE);
    stage.daemon.signal_daemon(Signal::SIGCONT);
    control_calls(stage, random);
    restart(stage, random);
}
