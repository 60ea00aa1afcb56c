//! The client connections of a shutdown: seen, disconnected, or closed by force.

use std::collections::BTreeMap;

use mcpd_common::outcome::{ClientReport, ClientsReport, Finding, FindingKind, PhaseOutcome};
use tokio::time::Instant;

use super::socket_table::{self, ClientSocket};
use crate::client_ports::ClientPorts;
use crate::deadline;
use crate::progress::millis;

/// Every connection seen since the shutdown began.
pub struct ClientDrain {
    ports: ClientPorts,
    began: Instant,
    seen: BTreeMap<ClientSocket, Seen>,
    notified: u32,
}

struct Seen {
    report: ClientReport,
    fate: Fate,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Connected,
    Left,
    Forced,
}

impl ClientDrain {
    /// Knows no connection yet. `began` is when the shutdown began.
    pub fn new(ports: ClientPorts, began: Instant) -> Self {
        Self { ports, began, seen: BTreeMap::new(), notified: 0 }
    }

    /// Reads the socket table; true when no client is connected any more.
    pub fn scan(&mut self) -> bool {
        // If the socket table can't be read, the known connections stay as they are.
        let Ok(now) = socket_table::connections(&self.ports) else {
            return self.connected() == 0;
        };
        let new: Vec<_> =
            now.iter().filter(|connection| !self.seen.contains_key(connection)).cloned().collect();
        if !new.is_empty() {
            let reports = socket_table::reports(&new);
            let seen = reports.into_iter().map(|report| Seen { report, fate: Fate::Connected });
            self.seen.extend(new.into_iter().zip(seen));
        }
        let elapsed = millis(deadline::now().saturating_duration_since(self.began));
        for (connection, seen) in &mut self.seen {
            if seen.fate == Fate::Connected && !now.contains(connection) {
                seen.fate = Fate::Left;
                seen.report.left_after_ms = Some(elapsed);
            }
        }
        self.connected() == 0
    }

    pub fn connected(&self) -> u32 {
        self.count(Fate::Connected)
    }

    /// The connected clients: "a client of docs (127.0.0.1:40312, python3, pid 4711)".
    pub fn remaining(&self) -> Vec<String> {
        let connected = self.seen.values().filter(|seen| seen.fate == Fate::Connected);
        connected.map(|seen| label(&seen.report)).collect()
    }

    /// The phase is over: clients that are still connected are closed by force, and counted.
    pub fn force(&mut self, outcome: PhaseOutcome) -> Vec<Finding> {
        let why = match outcome {
            PhaseOutcome::CutShort => "when the waits were cut short",
            _ => "at the client timeout",
        };
        let mut findings = vec![];
        for seen in self.seen.values_mut().filter(|seen| seen.fate == Fate::Connected) {
            seen.fate = Fate::Forced;
            let detail = format!("{} had not taken its last bytes {why}", label(&seen.report));
            findings.push(Finding::new(FindingKind::ClientForced, &seen.report.worker, detail));
        }
        findings
    }

    /// Streams that got the shutdown notice. Clients of direct workers can't get it: mcpd holds no
    /// connection of them.
    pub fn set_notified(&mut self, streams: u32) {
        self.notified = streams;
    }

    /// For the report.
    pub fn report(&self) -> ClientsReport {
        ClientsReport {
            seen: self.seen.len().try_into().unwrap_or(u32::MAX),
            told: self.notified,
            left: self.count(Fate::Left),
            forced: self.count(Fate::Forced),
            connections: self.seen.values().map(|seen| seen.report.clone()).collect(),
        }
    }

    fn count(&self, fate: Fate) -> u32 {
        self.seen.values().filter(|seen| seen.fate == fate).count().try_into().unwrap_or(u32::MAX)
    }
}

fn label(client: &ClientReport) -> String {
    let process = client.process.as_ref().map(|process| format!(", {}, pid {}", process.name, process.pid));
    format!("a client of {} ({}{})", client.worker, client.peer, process.unwrap_or_default())
}
