//! Tests with real sockets, in every state that a shutdown may find.

use std::io::Read;
use std::net::{Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};

use super::*;
use crate::os::socket::{Reuse, try_bind};

fn name() -> WorkerName {
    "alpha".parse().expect("a name")
}

fn no_worker(_: Pid) -> Option<WorkerName> {
    None
}

fn port_of(listener: &TcpListener) -> Port {
    Port::new(listener.local_addr().expect("bound").port()).expect("not 0")
}

fn check(
    port: Port,
    worker: Option<WorkerName>,
    worker_of: &dyn Fn(Pid) -> Option<WorkerName>,
) -> PortReport {
    let reports = examine(&[KnownPort { port, worker }], worker_of);
    reports.into_iter().next().expect("one report for each port")
}

/// A free port with a connection in `TIME_WAIT`: the server closed it first.
fn closed_connection(server: &str) -> Port {
    let listener = TcpListener::bind(server).expect("a free port");
    let port = port_of(&listener);
    let mut client = TcpStream::connect(listener.local_addr().expect("bound")).expect("the listener");
    let (accepted, _) = listener.accept().expect("the client");
    accepted.shutdown(Shutdown::Both).expect("connected");
    drop((accepted, listener));
    assert_eq!(client.read(&mut [0]).expect("end of stream"), 0);
    port
}

#[test]
fn a_released_port_is_free() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = port_of(&listener);
    assert!(!is_bindable(port));
    drop(listener);
    assert!(is_bindable(port));
    let report = check(port, None, &no_worker);
    assert_eq!((report.state, report.refused, report.holders), (PortState::Free, vec![], vec![]));
}

/// R-SUP-6, R-VER-2: the holder is reported with pid, command, user, state and address.
#[test]
fn the_holder_of_a_port_is_reported() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = port_of(&listener);
    let report = check(port, Some(name()), &no_worker);
    assert_eq!(report.state, PortState::InUse);
    let [holder] = report.holders.as_slice() else { panic!("one holder: {report:?}") };
    assert_eq!((holder.pid, holder.state.as_str()), (Some(Pid::current()), "LISTEN"));
    let command = process::describe(Pid::current()).expect("this process").command;
    let user = user_name(nix::unistd::geteuid().as_raw());
    let expected = format!(
        "port {port} is held by {command} (pid {}, user {user}, LISTEN on 127.0.0.1:{port})",
        Pid::current()
    );
    assert_eq!(report.holders_sentence(), expected);
}

/// R-VER-5: a worker may listen on its own port, but not on that of another worker.
#[test]
fn a_worker_serves_its_own_port_only() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = port_of(&listener);
    let worker_of = |pid: Pid| (pid == Pid::current()).then(name);
    assert_eq!(check(port, Some(name()), &worker_of).state, PortState::Serving);
    assert_eq!(check(port, "beta".parse().ok(), &worker_of).state, PortState::InUse);
    assert_eq!(check(port, None, &worker_of).state, PortState::InUse);
}

/// R-VER-2: a listener on any single address is found. With one on 127.0.0.2, only the wildcard can't be
/// bound.
#[test]
fn a_listener_on_any_address_is_found() {
    for address in ["127.0.0.1:0", "127.0.0.2:0", "[::1]:0"] {
        let Ok(listener) = TcpListener::bind(address) else { continue };
        let port = port_of(&listener);
        assert!(!is_bindable(port), "{address}");
        assert_eq!(check(port, None, &no_worker).state, PortState::InUse, "{address}");
    }
}

/// R-VER-2: `TIME_WAIT` is information, with count and seconds, and does not delay the shutdown.
#[test]
fn a_connection_in_time_wait_is_not_a_leak() {
    let port = closed_connection("127.0.0.1:0");
    let report = check(port, None, &no_worker);
    assert_eq!(report.state, PortState::TimeWait, "{report:?}");
    assert_eq!((report.time_wait, report.holders.len()), (1, 0));
    assert!((1..=60).contains(&report.time_wait_seconds), "{report:?}");
    assert!(!report.refused.is_empty());
    assert!(is_bindable(port));
}

#[test]
fn an_ipv6_connection_in_time_wait_is_not_a_leak() {
    if try_bind(SocketAddr::from((Ipv6Addr::LOCALHOST, 0)), Reuse::No).is_err() {
        return; // This machine has no IPv6.
    }
    let report = check(closed_connection("[::1]:0"), None, &no_worker);
    assert_eq!((report.state, report.time_wait), (PortState::TimeWait, 1), "{report:?}");
}

/// A hung worker may have closed its listener: the port can be bound although the worker runs. Its connection
/// is still reported.
#[test]
fn an_open_connection_without_a_listener_is_reported() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = port_of(&listener);
    let client = TcpStream::connect(listener.local_addr().expect("bound")).expect("the listener");
    let accepted = listener.accept().expect("the client");
    drop(listener);
    let report = check(port, None, &no_worker);
    assert_eq!(report.state, PortState::TimeWait);
    assert_eq!(report.holders.len(), 1, "{report:?}");
    assert!(report.holders_sentence().contains("ESTABLISHED on 127.0.0.1:"), "{report:?}");
    drop((client, accepted));
}

/// A socket that is bound but does not listen: no client can connect, and no other process can bind.
#[cfg(target_os = "linux")]
#[test]
fn a_port_that_is_only_bound_is_in_use() {
    use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};
    let holder = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    bind(&holder, &SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
    let address = SocketAddr::try_from(getsockname(&holder).expect("bound")).expect("IPv4");
    let port = Port::new(address.port()).expect("not 0");
    assert!(!is_bindable(port));
    let report = check(port, None, &no_worker);
    assert_eq!(report.state, PortState::InUse, "{report:?}");
    assert!(report.refused.contains(&format!("{address}: address in use")), "{report:?}");
    // The socket table lists such sockets since Linux 6.8; before that only the error is known.
    let sentence = report.holders_sentence();
    assert!(
        sentence.contains("CLOSE on 127.0.0.1:") || sentence.contains("its holder can't be read"),
        "{sentence}"
    );
}

#[test]
fn many_ports_are_checked_with_one_call() {
    let held: Vec<_> = (0..20).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
    let ports: Vec<_> =
        held.iter().map(|listener| KnownPort { port: port_of(listener), worker: None }).collect();
    let reports = examine(&ports, &no_worker);
    assert_eq!(reports.len(), ports.len());
    assert!(reports.iter().zip(&ports).all(|(report, known)| report.port == known.port));
    assert!(reports.iter().all(|report| report.state == PortState::InUse && report.holders.len() == 1));
}

/// R-VER-6: a server without `SO_REUSEADDR` closed first. No process holds the port, so it is no leak.
#[test]
fn time_wait_of_a_server_without_reuse_is_not_a_leak() {
    use rustix::net::{AddressFamily, SocketType, bind, listen, socket};
    let server = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    bind(&server, &SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
    listen(&server, 8).expect("bound");
    let listener = TcpListener::from(server);
    let port = port_of(&listener);
    let mut client = TcpStream::connect(listener.local_addr().expect("bound")).expect("the listener");
    let (accepted, _) = listener.accept().expect("the client");
    drop((accepted, listener));
    assert_eq!(client.read(&mut [0]).expect("end of stream"), 0);
    drop(client);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    let report = loop {
        let report = check(port, Some(name()), &no_worker);
        if report.time_wait > 0 || std::time::Instant::now() > deadline {
            break report;
        }
        std::thread::yield_now();
    };
    assert_eq!((report.state, report.time_wait), (PortState::TimeWait, 1), "{report:?}");
    assert!(!report.refused.is_empty() && report.holders.is_empty(), "{report:?}");
    assert!(!is_bindable(port), "the kernel refuses every bind");
}
