//! Clients with a session each, which send one request after the other.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use mcpd_common::ids::{Pid, Port};
use mcpd_tests::{http, wire};

use super::call;
use crate::door::wrk::HELLO;
use crate::idle;

const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
const JSON: [&str; 2] = ["content-type: application/json", "accept: application/json, text/event-stream"];
const ROUND: Duration = Duration::from_secs(1);

/// The results of one round.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    /// Responses a second.
    pub rate: f64,
    /// The median latency in microseconds.
    pub p50: f64,
    /// The 99th percentile in microseconds.
    pub p99: f64,
    /// CPU time of the process that listens, in microseconds per request.
    pub cpu: f64,
}

/// Runs the load for a second from this number of clients.
pub fn round((port, pid): (Port, Pid), path: &str, clients: usize) -> Round {
    let sessions: Vec<String> = (0..clients).map(|_| begin(port, path)).collect();
    let before = idle::cpu_nanos(pid);
    let begin = Instant::now();
    let mut latencies: Vec<f64> = thread::scope(|scope| {
        let running: Vec<_> =
            sessions.iter().map(|session| scope.spawn(move || calls(port, path, session))).collect();
        running
            .into_iter()
            .flat_map(|it| it.join().expect("no panic").expect("an answer to each request"))
            .collect()
    });
    let took = begin.elapsed().as_secs_f64();
    let busy = idle::cpu_nanos(pid) - before;
    latencies.sort_by(f64::total_cmp);
    let at = |part: f64| latencies[((latencies.len() - 1) as f64 * part) as usize];
    let count = latencies.len() as f64;
    Round { rate: count / took, p50: at(0.5), p99: at(0.99), cpu: busy / 1e3 / count }
}

/// The header of a new session; the trivial server behind the front door has none.
fn begin(port: Port, path: &str) -> String {
    if path != "/mcp" {
        return "mcp-session-id: none".to_owned();
    }
    let reply = wire::request(port, &wire::compose("POST /mcp", &JSON, HELLO));
    let session = format!("mcp-session-id: {}", reply.header("mcp-session-id").expect("a session"));
    // Bridges answer 200 to it, although 202 is right.
    wire::request(port, &wire::compose("POST /mcp", &[&JSON[..], &[&session]].concat(), INITIALIZED));
    session
}

/// Sends requests for a second; returns their latencies in microseconds.
fn calls(port: Port, path: &str, session: &str) -> io::Result<Vec<f64>> {
    let mut stream = http::connect(port)?;
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let headers = [&JSON[..], &[session]].concat();
    let begin = Instant::now();
    let mut latencies = Vec::new();
    while begin.elapsed() < ROUND {
        let request = wire::compose(&format!("POST {path}"), &headers, &call(latencies.len() as u64 + 2));
        let sent = Instant::now();
        stream.write_all(request.as_bytes())?;
        read_response(&mut reader)?;
        latencies.push(sent.elapsed().as_secs_f64() * 1e6);
    }
    Ok(latencies)
}

/// Reads a response with a length or in chunks to its end.
fn read_response(reader: &mut BufReader<TcpStream>) -> io::Result<()> {
    let mut line = String::new();
    let mut length = None;
    let mut is_first = true;
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if std::mem::take(&mut is_first) && !line.contains(" 200") {
            return Err(io::Error::other(format!("answered {line}")));
        }
        let line = line.trim_end().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse::<u64>().ok();
        }
        if line.is_empty() {
            break;
        }
    }
    match length {
        Some(length) => skip(reader, length),
        None => read_chunks(reader, line),
    }
}

fn read_chunks(reader: &mut BufReader<TcpStream>, mut line: String) -> io::Result<()> {
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let size = u64::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
        skip(reader, size + 2)?;
        if size == 0 {
            return Ok(());
        }
    }
}

fn skip(reader: &mut BufReader<TcpStream>, bytes: u64) -> io::Result<()> {
    io::copy(&mut reader.take(bytes), &mut io::sink()).map(drop)
}
