//! Workers get no signal before the clients have disconnected, except as a stop request. The connections are real, the
//! workers are fake.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use mcpd_common::ids::Port;
use mcpd_common::outcome::{Departure, FindingKind, PhaseOutcome};
use mcpd_common::phase::Phase;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use super::shutdown_run::{RunResult, ShutdownRun};
use crate::client_ports::ClientPorts;
use crate::supervisor::fake::behaviour::{Behaviour, Reply, SignalReaction, ms};
use crate::supervisor::fake::harness::{Harness, name};
use crate::supervisor::fake::system::Effect::{Gone, Killed, Posted, Terminated};

/// A connection to a worker's port that has no listener any more. The client's end is in flight through a Unix socket,
/// because a socket of this process would not count as a client.
struct Connection {
    _worker: TcpStream,
    _client: (UnixStream, UnixStream),
}

fn connection() -> (Connection, ClientPorts) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = listener.local_addr().expect("an address");
    let client = TcpStream::connect(address).expect("connected");
    let (worker, _) = listener.accept().expect("connected");
    let ports = ClientPorts::from([(Port::new(address.port()).expect("not 0"), name("docs"))]);
    (Connection { _worker: worker, _client: in_flight(&client) }, ports)
}

fn in_flight(socket: &TcpStream) -> (UnixStream, UnixStream) {
    let (from, to) = UnixStream::pair().expect("a pair");
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut rights = SendAncillaryBuffer::new(&mut space);
    let sockets = [socket.as_fd()];
    assert!(rights.push(SendAncillaryMessage::ScmRights(&sockets)));
    sendmsg(&from, &[IoSlice::new(b"!")], &mut rights, SendFlags::empty()).expect("sent");
    (from, to)
}

/// Shuts down one worker with a client that disconnects after `stays_ms`; `--now` comes after `now_after_ms`.
async fn with_client(behaviour: Behaviour, stays_ms: u64, now_after_ms: Option<u64>) -> RunResult {
    let (connection, ports) = connection();
    let mut run = ShutdownRun::of(Harness::running([("docs", behaviour)]).await);
    run.ports = ports;
    run = run.after(ms(stays_ms), move || drop(connection));
    if let Some(wait) = now_after_ms {
        run = run.cut_short_after(ms(wait));
    }
    run.run().await
}

/// R-SHUT-2: until the last one has disconnected.
#[tokio::test(start_paused = true)]
async fn clients_are_waited_for() {
    let result = with_client(Behaviour::exits_on_request(), 3_000, None).await;
    assert_eq!((result.code(), result.seconds()), (0, 3.0));
    let clients = &result.report.clients;
    assert_eq!((clients.seen, clients.left, clients.forced), (1, 1, 0));
}

/// R-EXIT-1: code 1. The limit is 30 s for all clients together.
#[tokio::test(start_paused = true)]
async fn a_client_that_stays_is_disconnected_and_counted() {
    let result = with_client(Behaviour::exits_on_request(), 31_000, None).await;
    assert_eq!(result.code(), 1);
    assert_eq!(result.faults(), [FindingKind::ClientForced]);
    assert_eq!(result.phase(Phase::Clients).outcome, PhaseOutcome::Deadline);
    assert_eq!(result.phase(Phase::Clients).duration_ms / 1000, 30);
    assert!(result.detail(FindingKind::ClientForced).contains("at the client timeout"));
}

#[tokio::test(start_paused = true)]
async fn now_cuts_the_wait_for_clients_short() {
    let result = with_client(Behaviour::exits_on_request(), 5_000, Some(4_000)).await;
    assert_eq!(result.code(), 1);
    assert_eq!(result.phase(Phase::Clients).outcome, PhaseOutcome::CutShort);
    assert!(result.detail(FindingKind::ClientForced).contains("when the waits were cut short"));
}

/// Section 6: the 20 s for `SIGTERM` start after the clients phase.
#[tokio::test(start_paused = true)]
async fn no_signal_is_sent_while_clients_are_waited_for() {
    let result =
        with_client(Behaviour::ignores_request().with_leader(SignalReaction::IGNORES_SIGTERM), 25_000, None)
            .await;
    assert_eq!(result.code(), 3);
    assert_eq!(result.effects("docs"), [(0.0, Posted), (25.0, Terminated), (45.0, Killed), (45.0, Gone)]);
}

#[tokio::test(start_paused = true)]
async fn sigkill_waits_for_the_clients_even_after_an_early_sigterm() {
    let behaviour = Behaviour::replies(Reply::Status(500)).with_leader(SignalReaction::IGNORES_SIGTERM);
    let result = with_client(behaviour, 25_000, None).await;
    assert_eq!(result.effects("docs"), [(0.0, Posted), (0.0, Terminated), (25.0, Killed), (25.0, Gone)]);
}

/// R-EXIT-1: an exit after the graceful time counts as terminated even without a signal, but the report names no signal
/// that was not sent.
#[tokio::test(start_paused = true)]
async fn a_worker_that_exits_after_the_graceful_time_without_a_signal_is_a_finding() {
    let result = with_client(Behaviour::exits_on_request().exiting_after(ms(12_000)), 15_000, None).await;
    assert_eq!((result.code(), result.worker("docs").departure), (2, Departure::Terminated));
    assert_eq!(result.effects("docs"), [(0.0, Posted), (12.0, Gone)]);
    let detail = result.detail(FindingKind::WorkerTerminated);
    assert_eq!(detail, "exited only 12.0 s after the request (response: 202)");
}
