//! Real sockets in every situation that a shutdown may find.

use std::io::Read;
use std::net::{Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};

use super::*;
use crate::os::socket::{Reuse, try_bind};

fn name() -> WorkerName {
    "alpha".parse().expect("a name")
}

fn nobody(_: Pid) -> Option<WorkerName> {
    None
}

fn port_of(listener: &TcpListener) -> Port {
    Port::new(listener.local_addr().expect("bound").port()).expect("not 0")
}

fn look(port: Port, worker: Option<WorkerName>, ours: &dyn Fn(Pid) -> Option<WorkerName>) -> PortReport {
    let reports = examine(&[KnownPort { port, worker }], ours);
    reports.into_iter().next().expect("one report a port")
}

/// A port that nobody has, and a connection on it that is past: the server's side closed first.
fn past_connection(server: &str) -> Port {
    let listener = TcpListener::bind(server).expect("a free port");
    let port = port_of(&listener);
    let mut client = TcpStream::connect(listener.local_addr().expect("bound")).expect("our own listener");
    let (accepted, _) = listener.accept().expect("the client");
    accepted.shutdown(Shutdown::Both).expect("connected");
    drop((accepted, listener));
    assert_eq!(client.read(&mut [0]).expect("end of stream"), 0);
    port
}

#[test]
fn a_port_given_back_is_free() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = port_of(&listener);
    assert!(!is_bindable(port));
    drop(listener);
    assert!(is_bindable(port));
    let report = look(port, None, &nobody);
    assert_eq!((report.state, report.refused, report.holders), (PortState::Free, vec![], vec![]));
}

/// R-SUP-6, R-VER-2: a stranger is named with pid, command, user, state and address.
#[test]
fn a_stranger_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = port_of(&listener);
    let report = look(port, Some(name()), &nobody);
    assert_eq!(report.state, PortState::InUse);
    let [holder] = report.holders.as_slice() else { panic!("one holder: {report:?}") };
    assert_eq!((holder.pid, holder.state.as_str()), (Some(Pid::current()), "LISTEN"));
    let command = process::describe(Pid::current()).expect("ourselves").command;
    let user = user_name(nix::unistd::geteuid().as_raw());
    let expected = format!(
        "port {port} is held by {command} (pid {}, user {user}, LISTEN on 127.0.0.1:{port})",
        Pid::current()
    );
    assert_eq!(report.holders_sentence(), expected);
}

/// R-VER-5: a worker that serves its own port is no finding; one that sits on another's is.
#[test]
fn a_worker_serves_its_own_port_only() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = port_of(&listener);
    let ours = |pid: Pid| (pid == Pid::current()).then(name);
    assert_eq!(look(port, Some(name()), &ours).state, PortState::Serving);
    assert_eq!(look(port, "beta".parse().ok(), &ours).state, PortState::InUse);
    assert_eq!(look(port, None, &ours).state, PortState::InUse);
}

/// R-VER-2: a listener on any one address is found; beside 127.0.0.2 only the wildcard can't be bound.
#[test]
fn every_address_counts() {
    for address in ["127.0.0.1:0", "127.0.0.2:0", "[::1]:0"] {
        let Ok(listener) = TcpListener::bind(address) else { continue };
        let port = port_of(&listener);
        assert!(!is_bindable(port), "{address}");
        assert_eq!(look(port, None, &nobody).state, PortState::InUse, "{address}");
    }
}

/// R-VER-2: what the replaced system waited a minute for is information, with count and seconds.
#[test]
fn a_past_connection_is_no_leak() {
    let port = past_connection("127.0.0.1:0");
    let report = look(port, None, &nobody);
    assert_eq!(report.state, PortState::TimeWait, "{report:?}");
    assert_eq!((report.time_wait, report.holders.len()), (1, 0));
    assert!((1..=60).contains(&report.time_wait_seconds), "{report:?}");
    assert!(!report.refused.is_empty());
    assert!(is_bindable(port));
}

#[test]
fn a_past_connection_of_ipv6_is_no_leak_either() {
    if try_bind(SocketAddr::from((Ipv6Addr::LOCALHOST, 0)), Reuse::No).is_err() {
        return; // no IPv6 here
    }
    let report = look(past_connection("[::1]:0"), None, &nobody);
    assert_eq!((report.state, report.time_wait), (PortState::TimeWait, 1), "{report:?}");
}

/// A hung worker closes its listener first: the port can be bound although it lives. Its connection is
/// shown as held.
#[test]
fn a_connection_that_somebody_holds_is_shown() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = port_of(&listener);
    let client = TcpStream::connect(listener.local_addr().expect("bound")).expect("our own listener");
    let accepted = listener.accept().expect("the client");
    drop(listener);
    let report = look(port, None, &nobody);
    assert_eq!(report.state, PortState::TimeWait);
    assert_eq!(report.holders.len(), 1, "{report:?}");
    assert!(report.holders_sentence().contains("ESTABLISHED on 127.0.0.1:"), "{report:?}");
    drop((client, accepted));
}

/// Bound and no more: nobody can connect, and yet nobody else can bind.
#[cfg(target_os = "linux")]
#[test]
fn a_port_that_is_only_bound_is_in_use() {
    use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};
    let holder = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    bind(&holder, &SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
    let address = SocketAddr::try_from(getsockname(&holder).expect("bound")).expect("IPv4");
    let port = Port::new(address.port()).expect("not 0");
    assert!(!is_bindable(port));
    let report = look(port, None, &nobody);
    assert_eq!(report.state, PortState::InUse, "{report:?}");
    assert!(report.refused.contains(&format!("{address}: address in use")), "{report:?}");
    // Named since Linux 6.8; before that only the error is known.
    let sentence = report.holders_sentence();
    assert!(
        sentence.contains("CLOSE on 127.0.0.1:") || sentence.contains("no holder can be seen"),
        "{sentence}"
    );
}

#[test]
fn many_ports_are_looked_at_at_once() {
    let held: Vec<_> = (0..20).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
    let ports: Vec<_> =
        held.iter().map(|listener| KnownPort { port: port_of(listener), worker: None }).collect();
    let reports = examine(&ports, &nobody);
    assert_eq!(reports.len(), ports.len());
    assert!(reports.iter().zip(&ports).all(|(report, known)| report.port == known.port));
    assert!(reports.iter().all(|report| report.state == PortState::InUse && report.holders.len() == 1));
}
