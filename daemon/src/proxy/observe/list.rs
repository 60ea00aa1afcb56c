//! The connected clients: those of the proxy, and direct ones from the kernel's socket table.

use std::collections::HashSet;
use std::sync::atomic::Ordering;

use mcpd_common::status::{CLIENTS_SCHEMA, ClientConnection, ClientList};

use super::registry::Registry;
use super::socket_table;
use crate::client_ports::ClientPorts;

/// Every client connection, by worker. Reads all processes of the machine: some milliseconds.
pub fn clients(registry: &Registry, ports: &ClientPorts) -> ClientList {
    let known = registry.all();
    let known_ends: HashSet<_> = known.iter().map(|connection| connection.endpoints).collect();
    let mut others = socket_table::connections(ports).unwrap_or_default();
    others.retain(|connection| !known_ends.contains(&connection.endpoints));
    let all: Vec<_> =
        known_ends.into_iter().chain(others.iter().map(|connection| connection.endpoints)).collect();
    let processes = socket_table::processes_at(&all);
    let through_the_door = known.iter().map(|connection| ClientConnection {
        id: Some(connection.id),
        worker: connection.worker.clone(),
        peer: connection.endpoints.client.to_string(),
        process: processes.get(&connection.endpoints).cloned(),
        since: Some(connection.since),
        requests: Some(connection.requests.load(Ordering::Relaxed)),
        session: connection.session(),
        streams: Some(connection.streams.load(Ordering::Relaxed)),
    });
    let direct = others.iter().map(|connection| ClientConnection {
        id: None,
        worker: connection.worker.clone(),
        peer: connection.endpoints.client.to_string(),
        process: processes.get(&connection.endpoints).cloned(),
        since: None,
        requests: None,
        session: None,
        streams: None,
    });
    let mut clients: Vec<_> = through_the_door.chain(direct).collect();
    clients.sort_by(|a, b| (&a.worker, a.id).cmp(&(&b.worker, b.id)));
    ClientList { schema: CLIENTS_SCHEMA.to_owned(), clients }
}
