//! The shutdown notice for clients of the front door (R-CLIENT-5).

use std::io::{Read, Write};
use std::thread;
use std::time::Duration;

use mcpd_common::outcome::{Asked, Departure, FindingKind};
use mcpd_tests::mcp::{Client, Event, Events};
use mcpd_tests::wire::{self, Reply, compose};
use mcpd_tests::{ConfigBuilder, Daemon, Signal, http, timed};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::json;

use crate::front_door::{behind_front_door, start};

const SOON: Duration = Duration::from_secs(3);
/// Far less than a thousand clients would take one after the other, and far more than all at once take on a busy
/// machine.
const BOUND_FOR_MANY: Duration = Duration::from_secs(10);

/// Two workers that exit only when no client is connected to them.
fn two_workers_that_wait_for_clients() -> Daemon {
    let worker = || behind_front_door("--wait-for-clients");
    Daemon::start(ConfigBuilder::new().worker("alpha", worker()).worker("beta", worker()))
}

fn wait_begun(daemon: &Daemon) {
    daemon.wait_log("phase started phase=workers-graceful");
}

fn assert_shutdown_notice(events: &[Event], reason: &str) {
    let [retry, shutdown, message] = &events[events.len() - 3..] else { panic!("{events:?}") };
    assert_eq!(retry.retry.as_deref(), Some("5000"));
    let shutdown = shutdown.json();
    assert_eq!(shutdown["method"], "notifications/shutdown");
    assert_eq!(shutdown["params"]["reason"], reason);
    let message = message.json();
    assert_eq!(
        (&message["method"], &message["params"]["level"]),
        (&json!("notifications/message"), &json!("warning"))
    );
    assert_eq!(message["params"]["data"]["event"], "shutdown");
}

/// Streams detach from their workers at once, so that no worker waits for a client.
#[test]
fn every_open_stream_gets_a_shutdown_notice_and_a_clean_end() {
    let mut daemon = two_workers_that_wait_for_clients();
    let ports = [daemon.port("alpha"), daemon.port("beta")];
    let readers: Vec<_> = ports
        .into_iter()
        .flat_map(|port| [port, port])
        .map(|port| {
            let mut events = Client::initialize(port).listen(&[]);
            assert!(events.next().is_some_and(|event| event.retry.is_some()));
            thread::spawn(move || events.collect::<Vec<_>>())
        })
        .collect();
    daemon.wait_status("four clients", |status| status.workers.iter().all(|worker| worker.clients == 2));
    let (output, took) = timed(|| daemon.mcpctl(&["shutdown", "--wait", "--reason", "maintenance"]));
    output.expect_code(0);
    assert!(took < SOON, "{took:?}");
    for reader in readers {
        assert_shutdown_notice(&reader.join().expect("a clean end"), "maintenance");
    }
    let report = daemon.assert_no_trace(0);
    for worker in &report.workers {
        assert_eq!((worker.asked, worker.departure), (Asked::Http, Departure::Left));
    }
    let clients = &report.clients;
    assert_eq!((clients.seen, clients.told, clients.left, clients.forced), (4, 4, 4, 0));
}

/// Python clients keep such a connection open until they exit.
#[test]
fn an_idle_connection_does_not_delay_the_shutdown() {
    let mut daemon = two_workers_that_wait_for_clients();
    let mut stream = http::connect(daemon.port("alpha")).expect("mcpd listens");
    stream.write_all(compose("GET /echo", &[], "").as_bytes()).expect("sent");
    let (_, mut idle) = Reply::read(stream).expect("a response").finish().expect("a complete body");
    let unused = http::connect(daemon.port("beta")).expect("mcpd listens");
    daemon.wait_status("both", |status| status.workers.iter().all(|worker| worker.clients == 1));
    let (report, took) = timed(|| daemon.assert_shuts_down(0));
    assert!(took < SOON, "{took:?}");
    assert_eq!(report.clients.forced, 0);
    assert_eq!(idle.read(&mut [0]).expect("a clean end"), 0);
    drop(unused);
}

/// The listener stays open until the clients phase ends, and the responses are valid for an MCP client.
#[test]
fn requests_during_the_shutdown_get_a_response() {
    let config = ConfigBuilder::new().worker("alpha", behind_front_door("--slow-exit 4000"));
    let mut daemon = Daemon::start(config);
    let client = Client::initialize(daemon.port("alpha"));
    let slow = client.tool("slow", &json!({ "steps": 2, "pause": 500 }));
    let mut running = Events::of(client.post(&slow));
    assert_eq!(running.next().expect("progress").json()["method"], "notifications/progress");
    daemon.signal(Signal::SIGTERM);
    wait_begun(&daemon);

    let ping = client.request("ping", &json!({}));
    let reply = client.post(&ping);
    assert_eq!((reply.status, reply.header("connection")), (200, Some("close")));
    let error = reply.json();
    assert_eq!((&error["id"], &error["error"]["code"]), (&ping["id"], &json!(-32000)));
    let batch = client.post(&json!([client.request("ping", &json!({})), ping])).json();
    assert_eq!(batch.as_array().map(Vec::len), Some(2));
    let note = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
    assert_eq!(client.post(&note).status, 202);
    let mut stream = client.listen(&[]);
    assert_eq!(stream.next().and_then(|event| event.retry).as_deref(), Some("5000"));
    assert_eq!(stream.next(), None);
    let other = wire::request(daemon.port("alpha"), &compose("GET /echo", &[], ""));
    assert_eq!((other.status, other.header("retry-after")), (503, Some("5")));
    assert_eq!(other.header("connection"), Some("close"));

    let last = running.last().expect("the request in flight is finished").json();
    assert_eq!((&last["id"], mcpd_tests::mcp::text(&last)), (&slow["id"], "slow"));
    let report = daemon.assert_no_trace(0);
    assert_eq!(report.workers[0].departure, Departure::Left);
}

/// Its stream ends cleanly.
#[test]
fn a_request_in_flight_when_its_worker_exits_gets_an_error() {
    let mut daemon = Daemon::start(ConfigBuilder::new().worker("alpha", behind_front_door("")));
    let client = Client::initialize(daemon.port("alpha"));
    let slow = client.tool("slow", &json!({ "steps": 100, "pause": 300 }));
    let mut running = Events::of(client.post(&slow));
    assert_eq!(running.next().expect("progress").json()["method"], "notifications/progress");
    let reader = thread::spawn(move || running.last().expect("the error").json());
    let report = daemon.assert_shuts_down(0);
    let last = reader.join().expect("a clean end");
    assert_eq!((&last["id"], &last["error"]["code"]), (&slow["id"], &json!(-32000)));
    assert_eq!(report.clients.forced, 0);
}

/// All three at the same client timeout.
#[test]
fn clients_that_never_read_are_disconnected_by_force() {
    let config = ConfigBuilder::new()
        .shutdown("worker_graceful = \"1s\"")
        .shutdown("clients = \"1500ms\"")
        .worker("alpha", behind_front_door("--big-answer"));
    let mut daemon = Daemon::start(config);
    let hanging: Vec<_> = (0..3).map(|_| http::hang(daemon.port("alpha"))).collect();
    daemon.wait_status("three clients", |status| status.workers[0].clients == 3);
    let (report, took) = timed(|| daemon.assert_shuts_down(1));
    drop(hanging);
    assert!(took < Duration::from_secs(6), "{took:?}");
    assert_eq!((report.clients.forced, report.workers[0].departure), (3, Departure::Left));
    assert!(report.findings.iter().all(|finding| finding.kind == FindingKind::ClientForced));
}

/// R-CLIENT-5: the limit does not depend on the number of clients.
#[test]
fn a_thousand_streams_end_within_the_client_timeout() {
    const MANY: u32 = 1000;
    let mut daemon = two_workers_that_wait_for_clients();
    let mut streams = open_streams(&mut daemon, MANY);
    let (output, took) = timed(|| daemon.mcpctl(&["shutdown", "--wait"]));
    output.expect_code(0);
    assert!(took < BOUND_FOR_MANY, "{took:?}");
    let report = daemon.assert_no_trace(0);
    let clients = &report.clients;
    assert_eq!((clients.seen, clients.told, clients.left, clients.forced), (MANY, MANY, MANY, 0));
    let last = streams.pop().expect("many").collect::<Vec<_>>();
    assert_shutdown_notice(&last, "manual");
}

/// R-CLIENT-5: it does not delay the others.
#[test]
fn among_a_thousand_clients_only_the_one_that_never_reads_is_forced() {
    const MANY: u32 = 999;
    let worker = || behind_front_door("--big-answer");
    let config = ConfigBuilder::new()
        .shutdown("worker_graceful = \"2s\"")
        .shutdown("clients = \"3s\"")
        .worker("alpha", worker())
        .worker("beta", worker());
    let mut daemon = Daemon::start(config);
    let streams = open_streams(&mut daemon, MANY);
    let hanging = http::hang(daemon.port("beta"));
    daemon.wait_status("the client that hangs", |status| {
        status.workers.iter().any(|worker| worker.clients == 1)
    });
    let (output, took) = timed(|| daemon.mcpctl(&["shutdown", "--wait"]));
    output.expect_code(1);
    assert!(took < BOUND_FOR_MANY, "{took:?}");
    let report = daemon.assert_no_trace(1);
    let clients = &report.clients;
    assert_eq!((clients.seen, clients.told, clients.left, clients.forced), (MANY + 1, MANY, MANY, 1));
    assert!(report.findings.iter().all(|finding| finding.kind == FindingKind::ClientForced));
    drop((streams, hanging));
}

/// Opens this number of streams to `alpha`, in one session.
fn open_streams(daemon: &mut Daemon, many: u32) -> Vec<Events> {
    allow_descriptors();
    let client = Client::initialize(daemon.port("alpha"));
    let streams: Vec<_> = (0..many).map(|_| client.listen(&[])).collect();
    daemon.wait_status("all of them", |status| status.workers.iter().any(|worker| worker.clients == many));
    streams
}

/// A thousand sockets are more than a process may have open by default.
fn allow_descriptors() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("known");
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(4096), hard).expect("up to the hard limit");
}

/// R-VER-2.
#[test]
fn client_port_and_private_port_are_verified() {
    let mut daemon = start();
    let client_port = daemon.port("alpha");
    let report = daemon.assert_shuts_down(0);
    assert_eq!(report.ports.len(), 2, "{:?}", report.ports);
    assert!(report.ports.iter().any(|report| report.port == client_port));
    assert!(report.ports.iter().all(|report| report.holders.is_empty()), "{:?}", report.ports);
}
