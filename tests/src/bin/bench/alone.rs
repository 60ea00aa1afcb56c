//! What one worker takes alone, without a daemon.

use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use mcpd_common::ids::Port;
use mcpd_tests::{binaries, http, ports};

use crate::watch::{Watch, millis};

const LOOK_AGAIN: Duration = Duration::from_micros(200);
const BOUND: Duration = Duration::from_secs(30);

/// From the request to exit until the process is gone, milliseconds.
pub fn leaving() -> f64 {
    let claim = ports::claim();
    let mut worker = start(claim.port(), &[]);
    wait_healthy(claim.port());
    let watch = Watch::on_child(&worker);
    let begin = Instant::now();
    // It may be gone before the answer is read.
    let _ = http::request(claim.port(), "POST /shutdown");
    watch.wait();
    let took = begin.elapsed();
    worker.wait().expect("a child can be waited for");
    millis(took)
}

/// From starting the process until it answers, milliseconds.
pub fn starting(flags: &[&str]) -> f64 {
    let claim = ports::claim();
    let begin = Instant::now();
    let mut worker = start(claim.port(), flags);
    wait_healthy(claim.port());
    let took = begin.elapsed();
    worker.kill().expect("a child that was not waited for can be killed");
    worker.wait().expect("a child can be waited for");
    millis(took)
}

/// Waits until a worker answers on this port.
pub fn wait_healthy(port: Port) {
    let end = Instant::now() + BOUND;
    while !http::request(port, "GET /health").is_ok_and(|answer| answer.status == 200) {
        assert!(Instant::now() < end, "no answer on port {port} after {BOUND:?}");
        thread::sleep(LOOK_AGAIN);
    }
}

fn start(port: Port, flags: &[&str]) -> Child {
    Command::new(binaries::fixture_worker())
        .args(["--port", &port.to_string(), "--tag", "alone"])
        .args(flags)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("a fixture worker can be started")
}
