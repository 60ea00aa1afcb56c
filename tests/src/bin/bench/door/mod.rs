//! The front door compared with nginx, in front of the same server, in one run.
//!
//! ```text
//!   wrk --> server                 direct
//!   wrk --> nginx --> server       one worker process, connections kept, nothing buffered
//!   wrk --> mcpd  --> server       a worker of transport http
//! ```
//!
//! Rounds of one second in turns (direct, nginx, mcpd, direct, ...), so that other load on the machine affects all. A ratio
//! is computed within a turn, and the result is the median of the turns. The server behind nginx is the direct one; mcpd's
//! worker is another process of the same program.

use std::process::{Child, Command, Stdio};

use mcpd_common::ids::{Pid, Port};
use mcpd_tests::ports::{self, Claim};
use mcpd_tests::{ConfigBuilder, Daemon, WorkerSpec};

use crate::options::Options;
use crate::table::{Row, Unit, median};
use crate::{alone, idle, print_progress, stop};

mod nginx;
pub mod server;
pub mod wrk;

use nginx::Nginx;
use wrk::{Load, Round};

/// Number of parallel connections; each sends one request after the other.
const CONNECTIONS: [usize; 3] = [1, 8, 64];
/// The kinds of response and their paths.
const RESPONSES: [(&str, &str); 2] = [("JSON", server::JSON), ("SSE", server::EVENTS)];
/// Number of idle connections.
const IDLE: usize = 1000;

/// Throughput, latency and memory of the front door.
pub fn rows(options: &Options) -> Vec<Row> {
    if !Nginx::is_installed() || !Load::is_installed() {
        print_progress("nginx or wrk is missing: no comparison (apt-get install nginx-light wrk)");
        return Vec::new();
    }
    let direct = Server::start();
    let nginx = Nginx::start(direct.claim.port());
    let daemon = Daemon::start(ConfigBuilder::new().worker("fast", worker()));
    let peers =
        [(direct.port(), direct.pid()), (nginx.port(), nginx.worker()), (daemon.port("fast"), daemon.pid())];
    let loads = peers.map(|(port, pid)| Load::new(port, pid));
    let memory = [("nginx", nginx.worker(), &loads[1]), ("mcpd", daemon.pid(), &loads[2])];
    // Before the load, because the connections could use memory that was freed after it.
    let mut rows: Vec<Row> = memory
        .map(|(name, pid, load)| {
            let what = format!("memory (PSS) of an idle client connection, {name}, {IDLE} of them");
            let growth = vec![per_idle_connection(pid, load)];
            match name {
                "mcpd" => Row::new(what, Unit::Kilobytes, 2.5, growth),
                _ => Row::without_limit(what, Unit::Kilobytes, growth),
            }
        })
        .into();
    for (kind, path) in RESPONSES {
        for connections in CONNECTIONS {
            let turns: Vec<_> = (0..options.repeat).map(|_| turn(&loads, path, connections)).collect();
            rows.extend(compare(kind, connections, &turns));
        }
    }
    stop::end(daemon);
    rows
}

pub fn count(connections: usize) -> String {
    if connections == 1 { "1 connection".to_owned() } else { format!("{connections} connections") }
}

fn turn(loads: &[Load; 3], path: &str, connections: usize) -> [Round; 3] {
    loads.each_ref().map(|load| load.round(path, connections))
}

/// The ratios of one kind of load. The throughput with few connections is that of waking idle processors, so that a tie is
/// the best result; latency is the inverse of throughput then.
fn compare(kind: &str, connections: usize, turns: &[[Round; 3]]) -> [Row; 4] {
    let kind = format!("{kind}, {}", count(connections));
    let is_busy = connections == CONNECTIONS[2];
    let row = |name: &str, figure: fn(&Round) -> f64, new: &dyn Fn(String, Vec<f64>) -> Row| {
        let of = |peer: usize| -> Vec<f64> { turns.iter().map(|turn| figure(&turn[peer])).collect() };
        let to = |peer: usize| -> Vec<f64> {
            of(2).iter().zip(of(peer)).map(|(mcpd, other)| mcpd / other).collect()
        };
        let [direct, nginx, mcpd] = [0, 1, 2].map(|peer| median(&of(peer)));
        let to_direct = median(&to(0));
        let what = format!(
            "{kind}: {name}, mcpd / nginx (direct {direct:.1}, nginx {nginx:.1}, mcpd {mcpd:.1}; mcpd / direct {to_direct:.2})"
        );
        new(what, to(1))
    };
    let least = if is_busy { 1.0 } else { 0.95 };
    let at_least = |what, samples| Row::at_least(what, Unit::Ratio, least, samples);
    let at_most = |what, samples| Row::new(what, Unit::Ratio, 1.0, samples);
    let latency: &dyn Fn(String, Vec<f64>) -> Row =
        if is_busy { &at_most } else { &|what, samples| Row::without_limit(what, Unit::Ratio, samples) };
    [
        row("requests/s", |round| round.rate, &at_least),
        row("CPU time per request in µs", |round| round.cpu, &at_most),
        row("p50 in µs", |round| round.p50, latency),
        row("p99 in µs", |round| round.p99, latency),
    ]
}

fn per_idle_connection(pid: Pid, load: &Load) -> f64 {
    let before = idle::proportional_megabytes(pid);
    let connections = load.idle(IDLE);
    let growth = idle::proportional_megabytes(pid) - before;
    drop(connections);
    growth * 1000.0 / IDLE as f64
}

pub fn worker() -> WorkerSpec {
    WorkerSpec::command([this_program(), "serve".to_owned(), "{port}".to_owned()])
        .with("transport = \"http\"")
        .with("shutdown_path = \"\"")
}

fn this_program() -> String {
    std::env::current_exe().expect("a running program has a path").display().to_string()
}

/// The server without a proxy.
struct Server {
    child: Child,
    claim: Claim,
}

impl Server {
    fn start() -> Self {
        let claim = ports::claim();
        let mut command = Command::new(this_program());
        command.args(["serve", &claim.port().to_string()]).stdin(Stdio::null()).stdout(Stdio::null());
        let server = Self { child: command.spawn().expect("this program can be started"), claim };
        alone::wait_healthy(server.port());
        server
    }

    fn port(&self) -> Port {
        self.claim.port()
    }

    fn pid(&self) -> Pid {
        Pid::new(self.child.id().cast_signed()).expect("a child's pid is positive")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
