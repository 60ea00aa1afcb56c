//! The load: `wrk` with one thread sends requests like those of MCP clients.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use mcpd_common::ids::{Pid, Port};
use mcpd_tests::{http, wire};
use tempfile::TempDir;

use crate::idle;

const CALL: &str = concat!(
    r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","#,
    r#""arguments":{"text":"hello"},"_meta":{"progressToken":1}}}"#
);
/// The first message of a session.
pub const HELLO: &str = concat!(
    r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","#,
    r#""capabilities":{},"clientInfo":{"name":"bench","version":"1"}}}"#
);
const HEADERS: [&str; 3] = [
    "content-type: application/json",
    "accept: application/json, text/event-stream",
    "mcp-protocol-version: 2025-06-18",
];

/// The results of one round.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    /// Responses per second.
    pub rate: f64,
    /// The median latency in microseconds.
    pub p50: f64,
    /// The 99th percentile in microseconds.
    pub p99: f64,
    /// CPU time of the process that listens, in microseconds per request.
    pub cpu: f64,
}

/// The load on one server, in one session.
pub struct Load {
    script: PathBuf,
    port: Port,
    pid: Pid,
    _directory: TempDir,
}

impl Load {
    /// Whether `wrk` is installed.
    pub fn is_installed() -> bool {
        Command::new("wrk").arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
    }

    /// Opens a session on this port of a process.
    pub fn new(port: Port, pid: Pid) -> Self {
        let reply = wire::request(port, &wire::compose("POST /mcp", &HEADERS, HELLO));
        let session = reply.header("mcp-session-id").expect("initialize opens a session").to_owned();
        let directory = tempfile::tempdir().expect("a temporary directory");
        let script = directory.path().join("call.lua");
        fs::write(&script, lua(&session)).expect("a file can be written");
        Self { script, port, pid, _directory: directory }
    }

    /// Runs the load for a second from this number of connections.
    pub fn round(&self, path: &str, connections: usize) -> Round {
        let before = idle::cpu_nanos(self.pid);
        let output = Command::new("wrk")
            .args(["-t1", "-d1s", "--timeout", "5s", "-c", &connections.to_string(), "-s"])
            .arg(&self.script)
            .arg(format!("http://127.0.0.1:{}{path}", self.port))
            .stdin(Stdio::null())
            .output()
            .expect("wrk can be started");
        let busy = idle::cpu_nanos(self.pid) - before;
        let text = String::from_utf8_lossy(&output.stdout);
        let line =
            text.lines().find_map(|line| line.strip_prefix("figures ")).expect("wrk ends with figures");
        let figures: Vec<f64> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
        let [requests, micros, p50, p99, errors] = figures[..] else { panic!("not figures: {line}") };
        assert!(errors == 0.0 && requests > 0.0, "errors on port {}: {text}", self.port);
        Round { rate: requests / micros * 1e6, p50, p99, cpu: busy / 1e3 / requests }
    }

    /// Connections that have sent one request and are idle since.
    pub fn idle(&self, connections: usize) -> Vec<std::net::TcpStream> {
        let open = |_| {
            let stream = http::connect(self.port).expect("the server listens");
            let mut writer = &stream;
            let text = wire::compose("POST /mcp", &HEADERS, CALL);
            std::io::Write::write_all(&mut writer, text.as_bytes()).expect("sent");
            let (_, stream) = wire::Reply::read(stream).and_then(wire::Reply::finish).expect("a response");
            stream
        };
        (0..connections).map(open).collect()
    }
}

/// The request is constant, so the script needs no time while the load runs.
fn lua(session: &str) -> String {
    let header = |line: &str| {
        let (name, value) = line.split_once(": ").expect("a header");
        format!("wrk.headers[\"{name}\"] = \"{value}\"\n")
    };
    let headers: String = HEADERS.into_iter().map(header).collect();
    format!(
        "wrk.method = \"POST\"\nwrk.body = [[{CALL}]]\n{headers}wrk.headers[\"mcp-session-id\"] = \"{session}\"
function done(summary, latency, requests)
  local e = summary.errors
  local errors = e.connect + e.read + e.write + e.status + e.timeout
  io.write(string.format(\"figures %d %d %d %d %d\\n\", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99), errors))
end
"
    )
}
