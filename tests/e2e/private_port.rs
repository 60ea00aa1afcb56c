//! The private port of a worker: mcpd sends nothing to a process that is not the worker's (R-SUP-7, R-SUP-8).

use std::fs;
use std::net::{Ipv4Addr, TcpListener};

use mcpd_common::ids::Port;
use mcpd_common::status::WorkerState;
use mcpd_tests::wire::{self, compose};
use mcpd_tests::{BOUND, ConfigBuilder, Daemon, WorkerSpec, binaries, until};

use crate::front_door::behind_front_door;

/// A worker that writes down its private port, and binds it only when the file `go` exists.
fn slow_to_bind(tag: &str) -> WorkerSpec {
    let fixture = binaries::fixture_worker();
    let script = format!(
        "echo \"$PORT\" > port.new; mv port.new port; while ! test -e go; do sleep 0.05; done; \
         exec '{}' --port \"$PORT\" --mcp --tag {tag}",
        fixture.display()
    );
    WorkerSpec::command(["sh", "-c", &script]).with("transport = \"http\"")
}

fn private_port(daemon: &Daemon) -> Port {
    let file = daemon.home().join("repos/alpha/port");
    let text = until("the worker to write its port", BOUND, || fs::read_to_string(&file).ok());
    text.trim().parse::<u32>().ok().and_then(Port::new).expect("a port")
}

fn state(daemon: &mut Daemon) -> (WorkerState, String) {
    let status = daemon.try_status().expect("a response");
    (status.workers[0].state, status.workers[0].reason.clone().unwrap_or_default())
}

/// R-SUP-7: the listener of another process is named, gets not even a connection, and another port is tried.
#[test]
fn a_process_that_takes_the_private_port_gets_no_byte() {
    let config = ConfigBuilder::new();
    let worker = slow_to_bind(config.tag());
    let mut daemon = Daemon::launch(config.worker("alpha", worker));
    let port = private_port(&daemon);
    let thief = TcpListener::bind((Ipv4Addr::LOCALHOST, port.get())).expect("not bound by the worker yet");
    thief.set_nonblocking(true).expect("a flag");
    let own_pid = format!("pid {}", std::process::id());
    until("the other listener to be named", BOUND, || {
        let (state, reason) = state(&mut daemon);
        assert_ne!(state, WorkerState::Ready, "{reason}");
        (reason.contains(&own_pid) && reason.contains(&port.to_string())).then_some(())
    });
    fs::write(daemon.home().join("repos/alpha/go"), "").expect("written");
    daemon.wait_ready();
    assert_ne!(private_port(&daemon), port, "another port is tried");
    let client = mcpd_tests::mcp::Client::initialize(daemon.port("alpha"));
    assert!(client.state().is_object());
    let none = thief.accept().expect_err("no connection");
    assert_eq!(none.kind(), std::io::ErrorKind::WouldBlock);
    drop(thief);
    daemon.assert_shuts_down(0);
}

/// R-SUP-7: both loopback addresses count, and all addresses.
#[test]
fn a_worker_may_listen_on_either_loopback_address() {
    for host in ["::1", "127.0.0.1", "0.0.0.0", "::"] {
        let config = ConfigBuilder::new().worker("alpha", behind_front_door(&format!("--host {host}")));
        let mut daemon = Daemon::start(config);
        let client = mcpd_tests::mcp::Client::initialize(daemon.port("alpha"));
        assert!(client.state().is_object(), "{host}");
        daemon.assert_shuts_down(0);
    }
}

/// R-SUP-8: a start that takes long shows why.
#[test]
fn a_worker_that_never_listens_shows_why() {
    let never = WorkerSpec::fixture("--never-ready").with("transport = \"http\"").with("hold = \"1s\"");
    let elsewhere = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let other = elsewhere.local_addr().expect("bound").port();
    drop(elsewhere);
    let wrong = WorkerSpec::fixture(&format!("--bind-other {other}")).with("transport = \"http\"");
    let config = ConfigBuilder::new().worker("never", never).worker("wrong", wrong);
    let mut daemon = Daemon::launch(config);
    let reason_of = |daemon: &mut Daemon, name: &str| {
        let status = daemon.try_status()?;
        status.workers.into_iter().find(|worker| worker.name.as_str() == name)?.reason
    };
    let never = until("a reason", BOUND, || reason_of(&mut daemon, "never"));
    assert!(never.contains("nothing listens on"), "{never}");
    // A client gets the same reason.
    let get = compose("GET /health", &["connection: close"], "");
    let refused = wire::request(daemon.port("never"), &get);
    assert_eq!(refused.status, 503);
    let text = refused.text();
    assert!(text.contains("was not ready within 1 s") && text.contains("nothing listens on"), "{text}");
    let wrong = until("a reason", BOUND, || reason_of(&mut daemon, "wrong"));
    assert!(wrong.contains(&format!("listens on 127.0.0.1:{other} and not on")), "{wrong}");
    daemon.assert_shuts_down(0);
}

/// R-SUP-8: and ends after `ready_within`.
#[test]
fn a_start_that_takes_too_long_is_given_up() {
    let never = WorkerSpec::fixture("--never-ready")
        .with("transport = \"http\"")
        .with("ready_within = \"1s\"")
        .with("restart = \"never\"");
    let mut daemon = Daemon::launch(ConfigBuilder::new().worker("alpha", never));
    let failed = daemon.wait_state("alpha", WorkerState::Failed);
    let reason = failed.reason.unwrap_or_default();
    assert!(reason.contains("not ready within 1 s (ready_within)"), "{reason}");
    daemon.assert_shuts_down(0);
}
