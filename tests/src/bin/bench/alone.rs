//! Times of a single worker without a daemon.

use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use mcpd_common::ids::Port;
use mcpd_tests::{binaries, http, ports};

use crate::watch::{Watch, millis};

const POLL_INTERVAL: Duration = Duration::from_micros(200);
const BOUND: Duration = Duration::from_secs(30);

/// From the stop request until the process has exited, in milliseconds.
pub fn exit_time() -> f64 {
    let claim = ports::claim();
    let mut worker = start(claim.port(), &[]);
    wait_healthy(claim.port());
    let watch = Watch::on_child(&worker);
    let begin = Instant::now();
    // The worker may exit before the response is read.
    let _ = http::request(claim.port(), "POST /shutdown");
    watch.wait();
    let took = begin.elapsed();
    worker.wait().expect("a child can be waited for");
    millis(took)
}

/// From the start of the process until it responds, in milliseconds.
pub fn start_time(flags: &[&str]) -> f64 {
    let claim = ports::claim();
    let begin = Instant::now();
    let mut worker = start(claim.port(), flags);
    wait_healthy(claim.port());
    let took = begin.elapsed();
    worker.kill().expect("an unreaped child can be killed");
    worker.wait().expect("a child can be waited for");
    millis(took)
}

/// Waits until a worker responds on this port.
pub fn wait_healthy(port: Port) {
    let end = Instant::now() + BOUND;
    while !http::request(port, "GET /health").is_ok_and(|response| response.status == 200) {
        assert!(Instant::now() < end, "no response on port {port} after {BOUND:?}");
        thread::sleep(POLL_INTERVAL);
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
