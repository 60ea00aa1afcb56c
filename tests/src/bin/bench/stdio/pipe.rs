//! The server on its own pipe, without anything between.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::call;
use crate::door::wrk::HELLO;

const ROUND: Duration = Duration::from_secs(1);

/// Requests a second, with this number of them under way.
pub fn rate(server: &str, under_way: usize) -> f64 {
    let mut child = Command::new(server)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the server can be started");
    let mut input = child.stdin.take().expect("a pipe");
    let mut output = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    let mut read = || {
        line.clear();
        output.read_line(&mut line).expect("an answer");
    };
    input.write_all(format!("{HELLO}\n").as_bytes()).expect("sent");
    read();
    input.write_all(b"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}\n").expect("sent");
    let mut next = 1;
    let mut send = || {
        next += 1;
        input.write_all(format!("{}\n", call(next)).as_bytes()).expect("sent");
    };
    (0..under_way).for_each(|_| send());
    let begin = Instant::now();
    let mut answered = 0.0;
    while begin.elapsed() < ROUND {
        read();
        answered += 1.0;
        send();
    }
    let rate = answered / begin.elapsed().as_secs_f64();
    let _ = child.kill();
    let _ = child.wait();
    rate
}
