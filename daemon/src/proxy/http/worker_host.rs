//! Which `Host` a worker gets: the client's, or its own if it has a list of hosts that it serves (R-CLIENT-13).

use std::sync::atomic::{AtomicU8, Ordering};

use mcpd_common::config::HostPolicy;

use super::worker_connection::Response;

const MISDIRECTED: u16 = 421;
const FORBIDDEN: u16 = 403;

/// What is configured, or was found out.
#[derive(Debug)]
pub struct WorkerHost(AtomicU8);

const KEEP: u8 = 0;
const OWN: u8 = 1;
/// The client's, until the worker refuses it.
const UNDECIDED: u8 = 2;

impl WorkerHost {
    pub fn new(policy: Option<HostPolicy>) -> Self {
        Self(AtomicU8::new(match policy {
            Some(HostPolicy::Keep) => KEEP,
            Some(HostPolicy::Worker) => OWN,
            None => UNDECIDED,
        }))
    }

    /// Whether the worker gets its own.
    pub fn is_own(&self) -> bool {
        self.0.load(Ordering::Relaxed) == OWN
    }

    /// Whether to send a request again, with the worker's own host, because the worker refused that of the client. `was_own`:
    /// it had its own host.
    pub async fn is_refused(&self, was_own: bool, response: &mut Response) -> bool {
        let may_change = !was_own && self.0.load(Ordering::Relaxed) != KEEP;
        if !may_change || !is_refusal(response).await {
            return false;
        }
        if self.0.swap(OWN, Ordering::Relaxed) != OWN {
            tracing::info!("the worker has a list of hosts: from now on it gets its own (host = \"worker\")");
        }
        true
    }
}

/// Whether the worker refused the request because of its host, and so has not executed it.
async fn is_refusal(response: &mut Response) -> bool {
    match response.head.status {
        MISDIRECTED => true,
        FORBIDDEN => response.read_refusal().await.is_some_and(speaks_of_host),
        _ => false,
    }
}

fn speaks_of_host(body: &[u8]) -> bool {
    let text = String::from_utf8_lossy(body).to_lowercase();
    text.split(|letter: char| !letter.is_ascii_alphanumeric()).any(|word| word == "host")
}

/// The head of a request with this `Host` instead of its own.
pub fn replace_host(head: &[u8], host: &str) -> Vec<u8> {
    const NAME: &[u8] = b"host:";
    let mut out = Vec::with_capacity(head.len() + host.len());
    for line in head.split_inclusive(|byte| *byte == b'\n') {
        if line.get(..NAME.len()).is_some_and(|name| name.eq_ignore_ascii_case(NAME)) {
            out.extend_from_slice(b"host: ");
            out.extend_from_slice(host.as_bytes());
            out.extend_from_slice(b"\r\n");
        } else {
            out.extend_from_slice(line);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_of_real_servers_speak_of_the_host() {
        for text in [
            r#"{"error":{"message":"Invalid Host: localhost:8081"}}"#,
            "Invalid Host header",
            "host not allowed",
        ] {
            assert!(speaks_of_host(text.as_bytes()), "{text}");
        }
        for text in ["", "forbidden", "Origin http://localhost:3000 is not allowed", "ghosts"] {
            assert!(!speaks_of_host(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn only_the_host_is_replaced() {
        let head = b"POST /mcp HTTP/1.1\r\nHost: localhost:8081\r\nx-host: a\r\n\r\n";
        let expected = b"POST /mcp HTTP/1.1\r\nhost: 127.0.0.1:9\r\nx-host: a\r\n\r\n";
        assert_eq!(replace_host(head, "127.0.0.1:9"), expected);
    }
}
