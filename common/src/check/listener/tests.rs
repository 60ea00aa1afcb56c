//! Tests with real sockets and processes.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::process::{Child, Command};

use super::*;
use crate::ids::{RunTag, Slot};
use crate::os::socket::TcpState;

fn owner(leader: Pid) -> ListenerOwner {
    ListenerOwner { leader, mark: Mark { run: RunTag(7), slot: Slot(1) }, trusts_user: false }
}

fn bound(address: &str) -> (TcpListener, Port) {
    let listener = TcpListener::bind(address).expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    (listener, Port::new(port).expect("not 0"))
}

/// A process that holds a copy of this listener.
fn holder(listener: TcpListener) -> (Child, Pid) {
    let child = Command::new("sleep").arg("60").stdin(OwnedFd::from(listener)).spawn().expect("sleep(1)");
    let pid = Pid::new(child.id().cast_signed()).expect("positive");
    (child, pid)
}

fn end(mut child: Child) {
    child.kill().expect("our child");
    child.wait().expect("our child");
}

fn addresses(listener: Listener) -> Vec<String> {
    match listener {
        Listener::Own(proven) => proven.addresses().map(|address| address.to_string()).collect(),
        other => panic!("not the worker's: {other:?}"),
    }
}

/// R-SUP-7: the worker's listener is proved on either loopback address and on all addresses.
#[test]
fn the_listener_of_a_family_is_its_own() {
    for (address, expected) in
        [("127.0.0.1:0", vec!["127.0.0.1"]), ("[::1]:0", vec!["::1"]), ("0.0.0.0:0", vec!["127.0.0.1"])]
    {
        let (listener, port) = bound(address);
        let (child, pid) = holder(listener);
        let found = examine(port, &owner(pid)).expect("a table");
        end(child);
        assert_eq!(addresses(found), expected, "{address}");
    }
    let (listener, port) = bound("[::]:0");
    let (child, pid) = holder(listener);
    let found = examine(port, &owner(pid)).expect("a table");
    end(child);
    assert_eq!(addresses(found), ["127.0.0.1", "::1"]);
}

/// R-SUP-7: another process of the same user is named, and trusted only if the configuration says so.
#[test]
fn the_listener_of_another_process_is_foreign() {
    let (_own, port) = bound("127.0.0.1:0");
    let (child, stranger) = holder(bound("127.0.0.1:0").0);
    let mut owner = owner(stranger);
    let found = examine(port, &owner).expect("a table");
    let Listener::Foreign(sentence) = found else { panic!("{found:?}") };
    assert!(sentence.contains(&format!("pid {}", std::process::id())), "{sentence}");
    owner.trusts_user = true;
    let found = examine(port, &owner).expect("a table");
    end(child);
    assert_eq!(addresses(found), ["127.0.0.1"]);
}

#[test]
fn a_port_without_a_listener_is_none() {
    let (listener, port) = bound("127.0.0.1:0");
    drop(listener);
    assert_eq!(examine(port, &owner(Pid::current())).expect("a table"), Listener::None);
}

/// R-SUP-7: a foreign listener on one address does not hide the worker's on the other, and is never used.
#[test]
fn the_address_of_the_worker_is_preferred_to_a_foreign_one() {
    let (foreign, port) = bound("127.0.0.1:0");
    let own = TcpListener::bind((Ipv6Addr::LOCALHOST, port.get())).expect("free on IPv6");
    let (child, pid) = holder(own);
    let found = examine(port, &owner(pid)).expect("a table");
    end(child);
    drop(foreign);
    assert_eq!(addresses(found), ["::1"]);
}

/// R-SUP-7: another listener on the same port is noticed.
#[test]
fn a_changed_listener_is_noticed() {
    let (listener, port) = bound("127.0.0.1:0");
    let address = listener.local_addr().expect("bound");
    let Listener::Own(proven) = examine(port, &owner(Pid::current())).expect("a table") else {
        panic!("our own")
    };
    let is_unchanged = || proven.is_unchanged(address, &socket::listeners().expect("a table"));
    assert!(is_unchanged());
    drop(listener);
    assert!(!is_unchanged());
    let _another = TcpListener::bind(address).expect("free again");
    assert!(!is_unchanged());
}

fn listening(address: &str) -> Socket {
    Socket {
        local: address.parse().expect("an address"),
        peer: (Ipv4Addr::UNSPECIFIED, 0).into(),
        state: TcpState::Listen,
        inode: 1,
        uid: 0,
        receive_queue: 0,
        send_queue: 0,
        timer: None,
    }
}

/// The more specific address wins, as in the kernel.
#[test]
fn a_connection_reaches_the_most_specific_listener() {
    let sockets = ["0.0.0.0:80", "127.0.0.1:80", "[::]:80", "192.0.2.1:80"].map(listening);
    let reached = |sockets: &[Socket], address: IpAddr| {
        let address = SocketAddr::new(address, 80);
        receiving(sockets, address).map(|socket| socket.local.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(reached(&sockets, LOOPBACK[0]), ["127.0.0.1:80"]);
    assert_eq!(reached(&sockets, LOOPBACK[1]), ["[::]:80"]);
    assert_eq!(reached(&sockets[2..], LOOPBACK[0]), ["[::]:80"]);
    assert!(reached(&sockets[3..], LOOPBACK[0]).is_empty());
    let on_another_port = ["127.0.0.1:81", "0.0.0.0:80"].map(listening);
    assert_eq!(reached(&on_another_port, LOOPBACK[0]), ["0.0.0.0:80"]);
}

/// R-CONF-1: where the worker listens instead.
#[test]
fn all_addresses_of_a_family_are_found() {
    let (listener, _) = bound("127.0.0.1:0");
    let address = listener.local_addr().expect("bound");
    let (child, pid) = holder(listener);
    let found = addresses_of(&owner(pid)).expect("a table");
    end(child);
    assert_eq!(found, [address]);
}
