//! Bounds the number of connections. Over the limit, a new connection takes the place of the one that has
//! been idle for the longest time; if all are serving a request, the new one is refused.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use http_body_util::combinators::BoxBody;
use hyper::body::{Body, Bytes, Frame, SizeHint};
use rustix::process::{Resource, getrlimit};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::deadline;

/// Limit where the process may open at least twice as many descriptors.
const MAX_CONNECTIONS: usize = 512;

/// The default limit: at most half of the descriptors, since git commands and files need some, too.
pub fn default_limit() -> usize {
    let descriptors = getrlimit(Resource::Nofile).current.and_then(|soft| usize::try_from(soft).ok());
    descriptors.map_or(MAX_CONNECTIONS, |soft| MAX_CONNECTIONS.min(soft / 2).max(1))
}

/// The open connections.
#[derive(Debug)]
pub struct Connections {
    limit: usize,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    open: BTreeMap<u64, Entry>,
}

#[derive(Debug)]
struct Entry {
    /// Requests whose responses are not sent yet.
    in_flight: usize,
    idle_since: Instant,
    evicted: CancellationToken,
}

/// One connection; removed from the table on drop.
#[derive(Debug)]
pub struct ConnectionGuard {
    connections: Arc<Connections>,
    id: u64,
    evicted: CancellationToken,
}

/// A request in flight: its connection is not idle. Kept until the response has been sent.
#[derive(Debug)]
pub struct RequestGuard(Arc<ConnectionGuard>);

impl Connections {
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, table: Mutex::default() })
    }

    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Enters a new connection, if need be in place of an idle one. `None` if all are serving a request.
    pub fn admit(self: &Arc<Self>) -> Option<Arc<ConnectionGuard>> {
        let mut table = self.table();
        if table.open.len() >= self.limit {
            let idle = table.open.iter().filter(|(_, entry)| entry.in_flight == 0);
            let longest_idle = *idle.min_by_key(|(_, entry)| entry.idle_since)?.0;
            table.open.remove(&longest_idle)?.evicted.cancel();
        }
        let id = table.next;
        table.next += 1;
        let evicted = CancellationToken::new();
        let entry = Entry { in_flight: 0, idle_since: deadline::now(), evicted: evicted.clone() };
        table.open.insert(id, entry);
        Some(Arc::new(ConnectionGuard { connections: self.clone(), id, evicted }))
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ConnectionGuard {
    /// Completes when another connection got its place: it has to be closed at once.
    pub async fn evicted(&self) {
        self.evicted.cancelled().await;
    }

    pub fn begin_request(self: &Arc<Self>) -> RequestGuard {
        if let Some(entry) = self.connections.table().open.get_mut(&self.id) {
            entry.in_flight += 1;
        }
        RequestGuard(self.clone())
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.connections.table().open.remove(&self.id);
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        if let Some(entry) = self.0.connections.table().open.get_mut(&self.0.id) {
            entry.in_flight -= 1;
            entry.idle_since = deadline::now();
        }
    }
}

/// A response body that keeps its request in flight until it has been sent.
pub struct InFlightBody {
    body: BoxBody<Bytes, Infallible>,
    _request: RequestGuard,
}

impl InFlightBody {
    pub fn new(body: BoxBody<Bytes, Infallible>, request: RequestGuard) -> Self {
        Self { body, _request: request }
    }
}

impl Body for InFlightBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_connection_that_was_idle_longest_makes_room() {
        let connections = Connections::new(2);
        let first = connections.admit().expect("room");
        let second = connections.admit().expect("room");
        // From now on it is the first one that was idle more recently.
        drop(first.begin_request());
        let third = connections.admit().expect("an idle one makes room");
        assert!(second.evicted.is_cancelled() && !first.evicted.is_cancelled());
        let _requests = [first.begin_request(), third.begin_request()];
        assert!(connections.admit().is_none(), "all are in use");
        drop(second);
        assert!(connections.admit().is_none(), "its place was given away before");
    }

    #[test]
    fn a_closed_connection_frees_its_place() {
        let connections = Connections::new(1);
        let first = connections.admit().expect("room");
        let request = first.begin_request();
        drop(first);
        assert!(connections.admit().is_none(), "its request is still in flight");
        drop(request);
        assert!(connections.admit().is_some());
    }
}
