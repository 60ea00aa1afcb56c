//! The narrow interface between the supervisor and the network. Tests use a fake (`fake.rs`),
//! so that no process has to listen.

use std::collections::HashSet;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use mcpd_common::config::{Probe, Transport, Variables, WorkerConfig};
use mcpd_common::ids::Port;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;

use super::http::WorkerRequest;
use crate::deadline::Deadline;
use crate::supervisor::state::ProbeResult;
use crate::supervisor::{private_ports, start_check};
use crate::worker_listener::{ConnectError, WorkerListener};

pub const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

pub type ClientFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Whether a failed probe also looks for the addresses on which the worker listens instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Diagnosis {
    Quick,
    /// Reads the descriptors of all processes.
    Thorough,
}

pub trait WorkerClient: Send + Sync {
    /// Sends one probe (R-SUP-2).
    fn probe(
        &self,
        worker: Arc<WorkerConfig>,
        listener: Arc<WorkerListener>,
        diagnosis: Diagnosis,
    ) -> ClientFuture<ProbeResult>;

    /// Sends a request and returns the status of the response, or why there is no response.
    fn send(&self, request: WorkerRequest, deadline: Deadline) -> ClientFuture<Result<u16, String>>;

    /// Checks whether the worker can be started now, and returns its variables. `permit` is held as long as the check runs, which may be
    /// longer than it is waited for.
    fn check_start(
        &self,
        worker: Arc<WorkerConfig>,
        permit: OwnedSemaphorePermit,
    ) -> ClientFuture<Result<Variables, String>>;

    /// The port that the worker has to bind: its client port, or a private one that is none of `assigned`.
    ///
    /// # Errors
    /// If the kernel has no port.
    fn find_port(&self, worker: &WorkerConfig, assigned: &HashSet<Port>) -> Result<Port, String>;
}

pub struct HttpWorkerClient;

impl WorkerClient for HttpWorkerClient {
    fn probe(
        &self,
        worker: Arc<WorkerConfig>,
        listener: Arc<WorkerListener>,
        diagnosis: Diagnosis,
    ) -> ClientFuture<ProbeResult> {
        Box::pin(async move { probe(&worker, &listener, diagnosis).await })
    }

    fn send(&self, request: WorkerRequest, deadline: Deadline) -> ClientFuture<Result<u16, String>> {
        Box::pin(request.status(deadline))
    }

    fn check_start(
        &self,
        worker: Arc<WorkerConfig>,
        permit: OwnedSemaphorePermit,
    ) -> ClientFuture<Result<Variables, String>> {
        Box::pin(async move {
            let check = tokio::task::spawn_blocking(move || {
                let checked = start_check::check(&worker);
                drop(permit);
                checked
            });
            check.await.unwrap_or_else(|error| Err(error.to_string()))
        })
    }

    fn find_port(&self, worker: &WorkerConfig, assigned: &HashSet<Port>) -> Result<Port, String> {
        match worker.transport {
            Transport::Http => private_ports::private(assigned),
            // It binds none: mcpd listens on it.
            Transport::Stdio => Ok(worker.port),
            Transport::Direct => Ok(worker.port),
        }
    }
}

/// A pid proves only that the process exists, not that it serves. A listener is needed for every probe but `none`.
async fn probe(worker: &WorkerConfig, listener: &Arc<WorkerListener>, diagnosis: Diagnosis) -> ProbeResult {
    if worker.ready == Probe::None {
        return ProbeResult::Alive;
    }
    let deadline = Deadline::after(PROBE_TIMEOUT);
    match deadline.wait(listener.connect_to_probe()).await {
        Ok(Ok(stream)) => match &worker.ready {
            Probe::Http(path) => get(path, listener.clone(), stream, deadline).await,
            Probe::Tcp | Probe::None | Probe::Initialize => ProbeResult::Alive,
        },
        Ok(Err(ConnectError::Foreign(holder))) => ProbeResult::ForeignListener(holder),
        Ok(Err(error @ ConnectError::NotListening(given))) if diagnosis == Diagnosis::Thorough => {
            let others = listener.other_addresses().await;
            ProbeResult::NotReady(listens_elsewhere(&others, given).unwrap_or_else(|| error.to_string()))
        }
        Ok(Err(error)) => ProbeResult::NotReady(error.to_string()),
        Err(_) => ProbeResult::NotReady(format!("{} accepts no connection", listener.port())),
    }
}

/// Any HTTP status below 500 counts as alive.
async fn get(
    path: &str,
    listener: Arc<WorkerListener>,
    stream: TcpStream,
    deadline: Deadline,
) -> ProbeResult {
    let request = WorkerRequest { method: Method::GET, listener, path: path.to_owned(), token: None };
    match request.status_over(stream, deadline).await {
        Ok(..500) => ProbeResult::Alive,
        Ok(status) => ProbeResult::NotReady(format!("responds to GET {path} with {status}")),
        Err(error) => ProbeResult::NotReady(format!("does not respond to GET {path}: {error}")),
    }
}

fn listens_elsewhere(addresses: &[SocketAddr], given: Port) -> Option<String> {
    let first = addresses.first()?;
    Some(format!("listens on {first} and not on {given}, the port it was given ({{port}}, PORT)"))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use mcpd_common::check::listener::ListenerOwner;
    use mcpd_common::ids::{Mark, Pid, RunTag, Slot};

    use super::*;

    /// Serves one request with this response; nothing closes the connection before the client does.
    fn worker(response: &'static str) -> Arc<WorkerListener> {
        let server = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = Port::new(server.local_addr().expect("bound").port()).expect("not 0");
        std::thread::spawn(move || {
            let (mut connection, _) = server.accept().expect("a client");
            let mut request = [0; 1024];
            let _ = connection.read(&mut request);
            let _ = connection.write_all(response.as_bytes());
            let _ = if response.is_empty() { connection.read(&mut request) } else { Ok(0) };
        });
        let mark = Mark { run: RunTag(1), slot: Slot(0) };
        WorkerListener::new(port, ListenerOwner { leader: Pid::current(), mark, trusts_user: false })
    }

    async fn probe_of(response: &'static str, limit: Duration) -> ProbeResult {
        let listener = worker(response);
        let stream = listener.connect().await.expect("it listens");
        get("/health", listener, stream, Deadline::after(limit)).await
    }

    /// R-SUP-2: the reason says what the worker did.
    #[tokio::test]
    async fn a_worker_that_serves_nothing_useful_is_not_ready() {
        let long = Duration::from_secs(20);
        let of = |status| match status {
            200 => "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            404 => "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
            _ => "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n",
        };
        assert_eq!(probe_of(of(200), long).await, ProbeResult::Alive);
        assert_eq!(probe_of(of(404), long).await, ProbeResult::Alive, "it serves HTTP");
        let overloaded = ProbeResult::NotReady("responds to GET /health with 503".to_owned());
        assert_eq!(probe_of(of(503), long).await, overloaded);
        let silent = ProbeResult::NotReady("does not respond to GET /health: no response in time".to_owned());
        assert_eq!(probe_of("", Duration::from_millis(300)).await, silent);
        let ProbeResult::NotReady(reason) = probe_of("SSH-2.0-OpenSSH\r\n", long).await else {
            panic!("it is no HTTP server")
        };
        assert!(reason.starts_with("does not respond to GET /health: "), "{reason}");
    }
}
