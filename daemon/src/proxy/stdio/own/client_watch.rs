//! Ends the processes of sessions whose client has exited, or that have not been used for long.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Occupation, ProcessNumber, SessionProcesses};
use crate::deadline;
use crate::proxy::observe::client_process::ClientProcess;
use crate::proxy::observe::socket_table::{self, Endpoints};

/// Interval of looking, while there are processes.
const INTERVAL: Duration = Duration::from_secs(3);
/// A client may be a command that connects once for each message: another one may follow.
const SHORT_PAUSE: Duration = Duration::from_secs(3);
/// A session that is unused for this time has no process any more; it gets one when it is used again.
const UNUSED: Duration = Duration::from_secs(30 * 60);

/// The session that a process belongs to, and its client.
#[derive(Clone, Debug)]
pub struct Owner {
    /// The id that the client knows.
    session: String,
    /// `None` as long as it was not found.
    client: Option<ClientProcess>,
    /// The connection whose process was looked up last: that of another user is never found.
    looked_up: Option<Endpoints>,
}

impl Owner {
    pub fn new(session: String) -> Self {
        Self { session, client: None, looked_up: None }
    }
}

/// What is known about the client of an idle process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    Connected,
    Exited,
    /// It is not connected, and runs, or was never found.
    Unknown,
}

/// Whether a process that has been idle for this long ends.
fn is_over(idle_for: Duration, client: Presence) -> bool {
    idle_for >= UNUSED || (client == Presence::Exited && idle_for >= SHORT_PAUSE)
}

impl SessionProcesses {
    /// Until mcpd closes its listeners.
    pub async fn watch_clients(self: Arc<Self>, closed: CancellationToken) {
        loop {
            let next =
                (!self.state().processes.is_empty()).then(|| deadline::next_beat(deadline::now(), INTERVAL));
            tokio::select! {
                () = closed.cancelled() => return,
                () = self.claimed.notified() => {}
                () = deadline::until_some(next) => {}
            }
            self.find_clients().await;
            for number in self.over() {
                self.end(number);
            }
        }
    }

    /// Looks up the processes of clients that are connected, if they are not known.
    async fn find_clients(&self) {
        let connections = self.connections();
        let unknown: Vec<_> = self
            .owners()
            .into_iter()
            .filter(|(_, owner)| !owner.client.is_some_and(ClientProcess::is_running))
            .filter_map(|(number, owner)| {
                let endpoints = *connections.get(&owner.session)?;
                (owner.looked_up != Some(endpoints)).then_some((number, endpoints))
            })
            .collect();
        if unknown.is_empty() {
            return;
        }
        let endpoints: Vec<_> = unknown.iter().map(|(_, endpoints)| *endpoints).collect();
        let found = tokio::task::spawn_blocking(move || socket_table::processes_at(&endpoints)).await;
        let found = found.unwrap_or_default();
        let mut state = self.state();
        for (number, endpoints) in unknown {
            let client = found.get(&endpoints).and_then(|info| ClientProcess::of(info.pid));
            let process = state.processes.get_mut(&number);
            if let Some(owner) = process.and_then(|it| it.session.as_mut()) {
                owner.looked_up = Some(endpoints);
                owner.client = client.or(owner.client);
            }
        }
    }

    fn over(&self) -> Vec<ProcessNumber> {
        let now = deadline::now();
        let connections = self.connections();
        let state = self.state();
        let is_over = |number: &ProcessNumber| {
            let process = state.processes.get(number)?;
            let Occupation::Idle { since } = process.occupation() else { return None };
            let owner = process.session.as_ref()?;
            let client = match owner.client {
                _ if connections.contains_key(&owner.session) => Presence::Connected,
                Some(client) if !client.is_running() => Presence::Exited,
                Some(_) | None => Presence::Unknown,
            };
            is_over(now.saturating_duration_since(since), client).then_some(*number)
        };
        state.processes.keys().filter_map(is_over).collect()
    }

    fn owners(&self) -> Vec<(ProcessNumber, Owner)> {
        let state = self.state();
        state.processes.iter().filter_map(|(number, it)| Some((*number, it.session.clone()?))).collect()
    }

    /// The connections of this worker's clients, by the session that was last used on them.
    fn connections(&self) -> HashMap<String, Endpoints> {
        let all = self.registry.all().into_iter().filter(|connection| connection.worker == self.worker);
        all.filter_map(|connection| Some((connection.session()?, connection.endpoints))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R-STDIO-2: a process ends with its client.
    #[test]
    fn a_process_ends_when_its_client_has_exited_or_it_was_unused_for_long() {
        let seconds = Duration::from_secs;
        assert!(!is_over(seconds(1), Presence::Exited), "another command of the same user may follow");
        assert!(is_over(seconds(3), Presence::Exited));
        for present in [Presence::Connected, Presence::Unknown] {
            assert!(!is_over(seconds(29 * 60), present));
            assert!(is_over(seconds(30 * 60), present));
        }
    }
}
