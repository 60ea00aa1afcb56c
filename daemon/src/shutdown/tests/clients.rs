//! Clients come before any signal that was not asked for. Their connections are real, the
//! workers are not.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use mcpd_common::ids::Port;
use mcpd_common::outcome::{Departure, FindingKind, PhaseOutcome};
use mcpd_common::phase::Phase;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use super::shutdown_run::{Ended, ShutdownRun};
use crate::client_ports::ClientPorts;
use crate::supervisor::fake::behaviour::{Behaviour, Reply, SignalReaction, ms};
use crate::supervisor::fake::harness::{Harness, name};
use crate::supervisor::fake::system::Effect::{Gone, Killed, Posted, Terminated};

/// A connection to a worker's port that has no listener any more. The client's end is
/// in flight through a Unix socket: a socket of this process would not count as a client.
struct Conversation {
    _worker: TcpStream,
    _client: (UnixStream, UnixStream),
}

fn conversation() -> (Conversation, ClientPorts) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = listener.local_addr().expect("an address");
    let client = TcpStream::connect(address).expect("connected");
    let (worker, _) = listener.accept().expect("connected");
    let ports = ClientPorts::from([(Port::new(address.port()).expect("not 0"), name("docs"))]);
    (Conversation { _worker: worker, _client: on_its_way(&client) }, ports)
}

fn on_its_way(socket: &TcpStream) -> (UnixStream, UnixStream) {
    let (from, to) = UnixStream::pair().expect("a pair");
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut rights = SendAncillaryBuffer::new(&mut space);
    let sockets = [socket.as_fd()];
    assert!(rights.push(SendAncillaryMessage::ScmRights(&sockets)));
    sendmsg(&from, &[IoSlice::new(b"!")], &mut rights, SendFlags::empty()).expect("sent");
    (from, to)
}

/// One worker, one client that stays for this time, and perhaps `--now` after a time.
async fn with_client(behaviour: Behaviour, stays_ms: u64, now_after_ms: Option<u64>) -> Ended {
    let (conversation, ports) = conversation();
    let mut ending = ShutdownRun::of(Harness::running([("docs", behaviour)]).await);
    ending.ports = ports;
    ending = ending.after(ms(stays_ms), move || drop(conversation));
    if let Some(wait) = now_after_ms {
        ending = ending.cut_short_after(ms(wait));
    }
    ending.run().await
}

/// R-SHUT-2: over when the last one has left.
#[tokio::test(start_paused = true)]
async fn clients_are_waited_for() {
    let ended = with_client(Behaviour::exits_on_request(), 3_000, None).await;
    assert_eq!((ended.code(), ended.seconds()), (0, 3.0));
    let clients = &ended.report.clients;
    assert_eq!((clients.seen, clients.left, clients.forced), (1, 1, 0));
}

/// R-EXIT-1: 1. Thirty seconds for all of them together.
#[tokio::test(start_paused = true)]
async fn a_client_that_stays_is_cut_off_and_counted() {
    let ended = with_client(Behaviour::exits_on_request(), 31_000, None).await;
    assert_eq!(ended.code(), 1);
    assert_eq!(ended.faults(), [FindingKind::ClientForced]);
    assert_eq!(ended.phase(Phase::Clients).outcome, PhaseOutcome::Deadline);
    assert_eq!(ended.phase(Phase::Clients).duration_ms / 1000, 30);
    assert!(ended.detail(FindingKind::ClientForced).contains("at the client timeout"));
}

#[tokio::test(start_paused = true)]
async fn now_cuts_the_wait_for_clients_short() {
    let ended = with_client(Behaviour::exits_on_request(), 5_000, Some(4_000)).await;
    assert_eq!(ended.code(), 1);
    assert_eq!(ended.phase(Phase::Clients).outcome, PhaseOutcome::CutShort);
    assert!(ended.detail(FindingKind::ClientForced).contains("when the waits were cut short"));
}

/// Section 6: 20 s for `SIGTERM`, however long the clients took.
#[tokio::test(start_paused = true)]
async fn no_signal_is_sent_while_clients_are_waited_for() {
    let ended =
        with_client(Behaviour::ignores_request().with_leader(SignalReaction::IGNORES_SIGTERM), 25_000, None)
            .await;
    assert_eq!(ended.code(), 3);
    assert_eq!(ended.effects("docs"), [(0.0, Posted), (25.0, Terminated), (45.0, Killed), (45.0, Gone)]);
}

#[tokio::test(start_paused = true)]
async fn sigkill_waits_for_the_clients_even_where_sigterm_was_early() {
    let behaviour = Behaviour::replies(Reply::Status(500)).with_leader(SignalReaction::IGNORES_SIGTERM);
    let ended = with_client(behaviour, 25_000, None).await;
    assert_eq!(ended.effects("docs"), [(0.0, Posted), (0.0, Terminated), (25.0, Killed), (25.0, Gone)]);
}

/// R-EXIT-1: still being there after the graceful time counts, with or without a signal; but no
/// signal is claimed that was not sent.
#[tokio::test(start_paused = true)]
async fn a_worker_that_exits_late_was_late() {
    let ended = with_client(Behaviour::exits_on_request().exiting_after(ms(12_000)), 15_000, None).await;
    assert_eq!((ended.code(), ended.worker("docs").departure), (2, Departure::Terminated));
    assert_eq!(ended.effects("docs"), [(0.0, Posted), (12.0, Gone)]);
    let detail = ended.detail(FindingKind::WorkerTerminated);
    assert_eq!(detail, "exited only 12.0 s after the request (response: 202)");
}
