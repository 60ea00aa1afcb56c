//! Sessions outlive the daemon: clients continue with the next daemon (R-CLIENT-3, R-CLIENT-7).

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use mcpd_common::status::{StatusReport, WorkerState};
use mcpd_tests::mcp::{Client, Events};
use mcpd_tests::wire::Reply;
use mcpd_tests::{BOUND, ConfigBuilder, Daemon, Signal, binaries, until};
use serde_json::{Value, json};

use crate::front_door::{behind_front_door, start};

/// A session with state to replay.
fn client(daemon: &Daemon) -> Client {
    let client = Client::initialize(daemon.port("alpha"));
    client.call(&client.request("logging/setLevel", &json!({ "level": "debug" })));
    client.call(&client.request("resources/subscribe", &json!({ "uri": "file:///a" })));
    client
}

/// The session has the same state, with another worker process.
#[track_caller]
fn assert_continues(client: &Client, before: &Value) {
    let after = client.state();
    assert_ne!(after["pid"], before["pid"]);
    for kept in ["initialized", "level", "subscriptions"] {
        assert_eq!(after[kept], before[kept], "{kept} is replayed");
    }
}

/// The first events of the first stream after a replay: the reconnect delay, then `list_changed`.
#[track_caller]
fn assert_list_changed(mut events: Events) {
    assert_eq!(events.next().and_then(|event| event.retry).as_deref(), Some("5000"));
    assert_eq!(events.message()["method"], "notifications/tools/list_changed");
}

/// Issue 3: for clients that send no request in between.
#[test]
fn sessions_continue_after_a_stop_and_a_start() {
    let mut daemon = start();
    let client = client(&daemon);
    let deleted = Client::initialize(daemon.port("alpha"));
    let before = client.state();
    assert_eq!(deleted.delete().status, 200);
    daemon.assert_shuts_down(0);
    let mut daemon = daemon.launch_again();
    daemon.wait_ready();
    assert_continues(&client, &before);
    assert_list_changed(client.listen(&[]));
    let reply = deleted.post(&deleted.tool("state", &json!({})));
    assert_eq!(reply.status, 404, "the client had ended this session");
    daemon.assert_shuts_down(0);
}

#[test]
fn sessions_continue_after_a_crash_of_the_daemon() {
    let mut daemon = start();
    let client = client(&daemon);
    let before = client.state();
    daemon.wait_state("alpha", WorkerState::Ready);
    daemon.signal_daemon(Signal::SIGKILL);
    assert_eq!(daemon.wait_exit(BOUND), 101);
    let mut daemon = daemon.launch_again();
    daemon.wait_ready();
    assert_continues(&client, &before);
    daemon.assert_shuts_down(0);
}

fn run_and_pid(status: &StatusReport) -> (String, i32) {
    let daemon = status.daemon.as_ref().expect("a daemon");
    (daemon.run.to_string(), daemon.pid.get())
}

/// R-CLIENT-7: same process, another run, the same session.
#[test]
fn calls_wait_during_a_restart_of_the_daemon() {
    // The next worker starts slowly.
    let mut daemon =
        Daemon::start(ConfigBuilder::new().worker("alpha", behind_front_door("--start-delay 1500")));
    let client = client(&daemon);
    let before = client.state();
    let status = daemon.wait_status("workers", |_| true);
    let mut stream = client.listen(&[]);
    let over = AtomicBool::new(false);
    let (restart, calls) = thread::scope(|scope| {
        let calling = scope.spawn(|| {
            let mut calls = 0;
            while !over.load(Ordering::Relaxed) {
                client.state();
                calls += 1;
            }
            calls
        });
        let restart = daemon.mcpctl(&["restart", "--daemon", "--reason", "an upgrade"]);
        over.store(true, Ordering::Relaxed);
        (restart, calling.join().expect("no call failed"))
    });
    assert_eq!(restart.code, Some(0), "{restart:?}");
    assert!(restart.stdout.contains("1 of 1 worker ready"), "{restart:?}");
    assert!(calls > 0);
    assert_eq!(stream.next().and_then(|event| event.retry).as_deref(), Some("5000"));
    let last = stream.last().expect("another event, and a clean end");
    assert_eq!(last.retry.as_deref(), Some("500"), "reconnect soon");
    let after = daemon.wait_status("workers", |_| true);
    let ((run, pid), (next_run, next_pid)) = (run_and_pid(&status), run_and_pid(&after));
    assert!(run != next_run && pid == next_pid, "{pid} {run}, {next_pid} {next_run}");
    assert_continues(&client, &before);
    let ended = daemon.report();
    assert_eq!((ended.run.to_string(), ended.reason.as_str(), ended.exit_code), (run, "an upgrade", 0));
    let checked: Vec<_> = ended.ports.iter().map(|report| report.port).collect();
    assert!(
        !checked.contains(&daemon.port("alpha")) && checked.len() == 1,
        "only the private port is checked"
    );
    daemon.assert_shuts_down(0);
}

/// R-CLIENT-7: even if mcpd has read a part of the request when the pause starts.
#[test]
fn no_call_fails_when_the_pause_starts() {
    let mut daemon = start();
    let clients: Vec<_> = (0..8).map(|_| client(&daemon)).collect();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for client in &clients {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    client.state();
                }
            });
        }
        for _ in 0..3 {
            daemon.mcpctl(&["restart", "--daemon"]).expect_code(0);
        }
        over.store(true, Ordering::Relaxed);
    });
    daemon.assert_shuts_down(0);
}

/// The session itself continues.
#[test]
fn calls_in_flight_at_the_restart_get_an_error() {
    let config = ConfigBuilder::new().times(BOUND / 100, BOUND / 10).worker("alpha", behind_front_door(""));
    let mut daemon = Daemon::start(config);
    let client = client(&daemon);
    let before = client.state();
    let calls = [client.tool("stuck", &json!({})), client.tool("stuck", &json!({}))];
    let in_flight = thread::scope(|scope| {
        let waiting = calls.each_ref().map(|call| scope.spawn(|| client.post(call)));
        until("the worker to receive them", BOUND, || (stuck(&daemon) == 2).then_some(()));
        let restart = daemon.mcpctl(&["restart", "--daemon"]).expect_code(0);
        let text = format!("{}{}", restart.stdout, restart.stderr);
        assert!(text.contains("2 connections still waiting for a response"), "{text}");
        waiting.map(|waiting| waiting.join().expect("a response"))
    });
    for (call, reply) in calls.iter().zip(in_flight) {
        assert_error(call, reply);
    }
    assert_continues(&client, &before);
    daemon.assert_shuts_down(0);
}

fn stuck(daemon: &Daemon) -> u64 {
    let count = mcpd_tests::wire::compose("GET /stuck", &[], "");
    mcpd_tests::wire::request(daemon.port("alpha"), &count).json().as_u64().expect("a number")
}

#[track_caller]
fn assert_error(call: &Value, reply: Reply) {
    let error = reply.json();
    assert_eq!((&error["id"], &error["error"]["code"]), (&call["id"], &json!(-32000)), "{error}");
}

#[test]
fn sigterm_during_the_restart_shuts_the_daemon_down() {
    let mut daemon =
        Daemon::start(ConfigBuilder::new().worker("alpha", behind_front_door("--slow-exit 700")));
    let restart = daemon.mcpctl_start(&["restart", "--daemon"]);
    daemon.wait_status("the restart", |status| {
        status.daemon.as_ref().is_some_and(|daemon| daemon.shutdown.is_some())
    });
    daemon.signal(Signal::SIGTERM);
    let report = daemon.assert_no_trace(0);
    assert_eq!(report.reason, "signal_SIGTERM");
    let restart = restart.finish(BOUND);
    assert_eq!(restart.code, Some(69), "{restart:?}");
    let reasons = ["did not come back", "asked mcpd to stop meanwhile (signal_SIGTERM)"];
    assert!(reasons.iter().any(|reason| restart.stderr.contains(reason)), "{restart:?}");
}

/// Nothing is stopped then.
#[test]
fn a_restart_with_a_broken_configuration_is_refused() {
    let mut daemon = start();
    let before = daemon.wait_state("alpha", WorkerState::Ready);
    let file = daemon.home().join("config.toml");
    let good = fs::read_to_string(&file).expect("readable");
    fs::write(&file, format!("{good}\n[oops\n")).expect("written");
    let refused = daemon.mcpctl(&["restart", "--daemon"]);
    assert_eq!(refused.code, Some(78), "{refused:?}");
    assert!(refused.stderr.contains("config.toml"), "{refused:?}");
    assert_eq!(daemon.wait_state("alpha", WorkerState::Ready).pid, before.pid);
    fs::write(&file, good).expect("written");
    daemon.assert_shuts_down(0);
}

/// The restart executes the path that the daemon was started with.
#[test]
fn a_restart_executes_an_upgraded_program() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let link = home.path().join("mcpd");
    let new = home.path().join("mcpd-2");
    symlink(binaries::mcpd(), &link).expect("linked");
    fs::copy(binaries::mcpd(), &new).expect("copied");
    let config = ConfigBuilder::new().worker("alpha", behind_front_door(""));
    let template = Daemon::command(home.path(), &config);
    let mut command = Command::new(&link);
    command.env_clear();
    command.envs(template.get_envs().filter_map(|(key, value)| Some((key, value?))));
    let mut daemon = Daemon::launch_by(command, home, config);
    daemon.wait_ready();
    fs::remove_file(&link).expect("unlinked");
    symlink(&new, &link).expect("linked");
    let restart = daemon.mcpctl(&["restart", "--daemon"]);
    assert_eq!(restart.code, Some(0), "{restart:?}");
    let (_, pid) = run_and_pid(&daemon.wait_status("a daemon", |status| status.daemon.is_some()));
    assert_eq!(fs::read_link(format!("/proc/{pid}/exe")).expect("it runs"), new);
    daemon.assert_shuts_down(0);
}
