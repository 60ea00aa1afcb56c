//! The two requests that the daemon itself sends to a worker: the probe and the stop request.
//!
//! The daemon closes the connection as soon as it has the status, so that no worker waits for it and
//! `TIME_WAIT` mostly stays on the daemon's side.

use std::sync::Arc;

use hyper::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::deadline::Deadline;
use crate::worker_listener::WorkerListener;

const NOT_IN_TIME: &str = "no response in time";
/// Limits for the head of a response.
const MAX_HEAD: usize = 64 * 1024;
const MAX_FIELDS: usize = 100;

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

    async fn exchange(&self, mut stream: TcpStream) -> Result<u16, String> {
        // A worker may respond before it reads the request, and close the connection.
        let sent = stream.write_all(self.text().as_bytes()).await;
        let mut received = vec![];
        while received.len() <= MAX_HEAD {
            let failure = match stream.read_buf(&mut received).await {
                Ok(1..) => None,
                Ok(0) => Some("the connection was closed before the response".to_owned()),
                Err(error) => Some(error.to_string()),
            };
            if let Some(failure) = failure {
                return Err(sent.map_or_else(|error| error.to_string(), |()| failure));
            }
            if let Some(status) = final_status(&received)? {
                return Ok(status);
            }
        }
        Err(format!("more than {MAX_HEAD} bytes of header fields"))
    }

    fn text(&self) -> String {
        let Self { method, listener, path, token } = self;
        let token = token.as_ref().map(|token| format!("authorization: Bearer {token}\r\n"));
        format!(
            "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1:{}\r\n{}\r\n",
            listener.port(),
            token.unwrap_or_default()
        )
    }
}

/// The status of the first response that is not interim (RFC 9110, section 15.2), if its head is complete.
fn final_status(mut received: &[u8]) -> Result<Option<u16>, String> {
    loop {
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut response = httparse::Response::new(&mut fields);
        match response.parse(received).map_err(|error| format!("it is not HTTP: {error}"))? {
            httparse::Status::Partial => return Ok(None),
            httparse::Status::Complete(length) => match response.code {
                Some(100 | 102..200) => received = &received[length..],
                status => return Ok(status),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_of_the_final_response_counts_once_its_head_is_complete() {
        let status = |text: &str| final_status(text.as_bytes());
        assert_eq!(status(""), Ok(None));
        assert_eq!(status("HTTP/1.1 204 No Content\r\na: b\r\n"), Ok(None));
        assert_eq!(status("HTTP/1.1 204 No Content\r\na: b\r\n\r\n"), Ok(Some(204)));
        assert_eq!(status("HTTP/1.1 100 Continue\r\n\r\n"), Ok(None));
        assert_eq!(status("HTTP/1.1 103 Early Hints\r\na: b\r\n\r\nHTTP/1.0 503 x\r\n\r\nno"), Ok(Some(503)));
        assert_eq!(status("HTTP/1.1 101 Switching Protocols\r\n\r\n"), Ok(Some(101)));
        assert!(status("SSH-2.0-OpenSSH\r\n").is_err());
    }
}
