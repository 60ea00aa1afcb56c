//! The two requests that the daemon itself sends to a worker: the probe and the stop request.
//!
//! The daemon closes the connection as soon as it has the status, so that no worker waits for it and
//! `TIME_WAIT` mostly stays on the daemon's side.

use std::sync::Arc;

use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::deadline::Deadline;
use crate::worker_listener::WorkerListener;

const NOT_IN_TIME: &str = "no response in time";

/// A request to a worker.
#[derive(Clone)]
pub struct WorkerRequest {
    /// `GET` or `POST`.
    pub method: Method,
    pub listener: Arc<WorkerListener>,
    pub path: String,
    /// Sent as bearer token.
    pub token: Option<String>,
}

impl WorkerRequest {
    /// The status of the response.
    ///
    /// # Errors
    /// A sentence for the user: refused, interrupted, timed out.
    pub async fn status(self, deadline: Deadline) -> Result<u16, String> {
        let exchange = async {
            let stream = self.listener.connect().await.map_err(|error| error.to_string())?;
            self.exchange(stream).await
        };
        deadline.wait(exchange).await.unwrap_or_else(|_| Err(NOT_IN_TIME.to_owned()))
    }

    /// The same, over a connection that was made already.
    ///
    /// # Errors
    /// A sentence for the user: interrupted, timed out.
    pub async fn status_over(self, stream: TcpStream, deadline: Deadline) -> Result<u16, String> {
        deadline.wait(self.exchange(stream)).await.unwrap_or_else(|_| Err(NOT_IN_TIME.to_owned()))
    }

    async fn exchange(&self, stream: TcpStream) -> Result<u16, String> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(describe)?;
        let mut request = Request::builder()
            .method(self.method.clone())
            .uri(&self.path)
            .header("host", format!("127.0.0.1:{}", self.listener.port()));
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(|error| error.to_string())?;
        // The connection is driven and closed by this future. If the connection ends first, the
        // response may still have arrived.
        let mut response = std::pin::pin!(sender.send_request(request));
        let response = tokio::select! {
            biased;
            response = &mut response => response,
            _ = connection => response.await,
        };
        response.map(|response| response.status().as_u16()).map_err(describe)
    }
}

/// hyper's error says what failed, its source says why.
fn describe(error: hyper::Error) -> String {
    match std::error::Error::source(&error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
