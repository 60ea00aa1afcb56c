//! The client connections of a shutdown: seen, disconnected, or closed by force.

use std::collections::{BTreeMap, BTreeSet};

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
    ended_sessions: u32,
}

/// The socket table at one moment.
pub struct Scan {
    now: BTreeSet<ClientSocket>,
    /// The connections that were not known before, with their processes.
    new: Vec<(ClientSocket, ClientReport)>,
}

impl Scan {
    fn read(ports: &ClientPorts, known: &BTreeSet<ClientSocket>) -> std::io::Result<Self> {
        let now: BTreeSet<_> = socket_table::connections(ports)?.into_iter().collect();
        let new: Vec<_> = now.difference(known).cloned().collect();
        let reports = socket_table::reports(&new);
        Ok(Self { now, new: new.into_iter().zip(reports).collect() })
    }
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
        Self { ports, began, seen: BTreeMap::new(), notified: 0, ended_sessions: 0 }
    }

    /// Reads the socket table; true when no client is connected any more.
    pub async fn scan(&mut self) -> bool {
        let scan = self.begin_scan().await;
        self.finish_scan(scan)
    }

    /// Reads the socket table on another thread, because it takes some milliseconds.
    pub fn begin_scan(&self) -> impl Future<Output = Option<Scan>> + use<> {
        let ports = self.ports.clone();
        let known = self.seen.keys().cloned().collect();
        let scan = tokio::task::spawn_blocking(move || Scan::read(&ports, &known));
        async { scan.await.ok().and_then(Result::ok) }
    }

    /// Whether no client is connected any more.
    pub fn finish_scan(&mut self, scan: Option<Scan>) -> bool {
        // If the socket table can't be read, the known connections stay as they are.
        let Some(Scan { now, new }) = scan else {
            return self.connected() == 0;
        };
        let seen = |(connection, report)| (connection, Seen { report, fate: Fate::Connected });
        self.seen.extend(new.into_iter().map(seen));
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

    /// Sessions of clients that had exited, which mcpd ended before the shutdown.
    pub fn set_ended_sessions(&mut self, sessions: u32) {
        self.ended_sessions = sessions;
    }

    /// For the report.
    pub fn report(&self) -> ClientsReport {
        ClientsReport {
            seen: self.seen.len().try_into().unwrap_or(u32::MAX),
            told: self.notified,
            left: self.count(Fate::Left),
            forced: self.count(Fate::Forced),
            ended_sessions: self.ended_sessions,
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
