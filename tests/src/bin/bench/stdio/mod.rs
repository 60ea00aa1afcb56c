//! A server that speaks stdio, shared through mcpd, compared with its own HTTP and with bridges, in one run.
//!
//! ```text
//!   one client on its pipe                 the server alone
//!   clients --> server                         the same server's own HTTP
//!   clients --> mcpd --pipe--> server
//!   clients --> bridge --pipe--> server        mcp-proxy and supergateway, where they are installed
//!   clients --> mcpd --> a trivial server      the front door alone
//! ```
//!
//! Rounds of one second in turns. A ratio is computed within a turn, and the result is the median of the turns. Pipe and front
//! door in series allow as many requests as fit when one follows the other.

use mcpd_common::ids::{Pid, Port};
use mcpd_tests::mcp::Client;
use mcpd_tests::{ConfigBuilder, Daemon, WorkerSpec, binaries};

use crate::options::Options;
use crate::table::{Row, Unit, median};
use crate::{door, idle, stop};

mod load;
mod peers;
mod pipe;

use load::Round;
use peers::Peer;

const CONNECTIONS: [usize; 2] = [1, 8];
/// Number of sessions whose memory is measured.
const SESSIONS: usize = 500;

/// Throughput, latency, CPU and memory.
pub fn rows(options: &Options) -> Vec<Row> {
    let server = binaries::rmcp_server().display().to_string();
    let shared = WorkerSpec::command([&server]).with("transport = \"stdio\"");
    let daemon = Daemon::start(ConfigBuilder::new().worker("shared", shared).worker("fast", door::worker()));
    let (port, pid) = (daemon.port("shared"), daemon.pid());
    let memory = per_session(port, pid);
    let peers = Peer::start_all(&server);
    let fast = daemon.port("fast");
    let mut rows = vec![Row::without_limit(
        format!("memory (PSS) of mcpd for a session, {SESSIONS} of them"),
        Unit::Kilobytes,
        vec![memory],
    )];
    for connections in CONNECTIONS {
        let turn = || Turn {
            mcpd: load::round((port, pid), "/mcp", connections),
            pipe: pipe::rate(&server, connections),
            front_door: load::round((fast, pid), door::server::JSON, connections).rate,
            others: peers
                .iter()
                .map(|peer| load::round((peer.port(), peer.pid()), "/mcp", connections))
                .collect(),
        };
        let turns: Vec<Turn> = (0..options.repeat).map(|_| turn()).collect();
        let names: Vec<_> = peers.iter().map(|peer| peer.name).collect();
        rows.extend(compare(&names, connections, &turns));
    }
    stop::end(daemon);
    rows
}

/// The figures of one turn.
struct Turn {
    mcpd: Round,
    /// Requests a second.
    pipe: f64,
    front_door: f64,
    /// The server's own HTTP first, then the bridges.
    others: Vec<Round>,
}

type Figure = fn(&Round) -> f64;

fn compare(names: &[&str], connections: usize, turns: &[Turn]) -> Vec<Row> {
    let kind = door::count(connections);
    let series = |turn: &Turn| 1.0 / (1.0 / turn.pipe + 1.0 / turn.front_door);
    let all = |figure: &dyn Fn(&Turn) -> f64| turns.iter().map(figure).collect::<Vec<_>>();
    let middle = |figure: &dyn Fn(&Turn) -> f64| median(&all(figure));
    let (mcpd, pipe, front) =
        (middle(&|it| it.mcpd.rate), middle(&|it| it.pipe), middle(&|it| it.front_door));
    let what = format!(
        "{kind}: requests/s, mcpd / pipe and front door in series (pipe {pipe:.0}, front door {front:.0}, mcpd {mcpd:.0})"
    );
    let samples = all(&|it| it.mcpd.rate / series(it));
    let mut rows = vec![match connections {
        1 => Row::at_least(what, Unit::Ratio, 0.7, samples),
        _ => Row::without_limit(what, Unit::Ratio, samples),
    }];
    for (index, name) in names.iter().enumerate() {
        let figures: [(&str, Figure); 4] = [
            ("requests/s", |round| round.rate),
            ("CPU time per request in µs", |round| round.cpu),
            ("p50 in µs", |round| round.p50),
            ("p99 in µs", |round| round.p99),
        ];
        for (figure, of) in figures {
            let (theirs, ours) = (middle(&|it| of(&it.others[index])), middle(&|it| of(&it.mcpd)));
            let what = format!("{kind}: {figure}, mcpd / {name} ({name} {theirs:.1}, mcpd {ours:.1})");
            let samples = all(&|it| of(&it.mcpd) / of(&it.others[index]));
            let least = if *name == Peer::OWN { 0.5 } else { 10.0 };
            rows.push(match (figure, connections, *name) {
                ("requests/s", 8, _) | ("requests/s", _, Peer::OWN) => {
                    Row::at_least(what, Unit::Ratio, least, samples)
                }
                _ => Row::without_limit(what, Unit::Ratio, samples),
            });
        }
    }
    rows
}

/// A request without a progress token: the answer is one message.
fn call(id: u64) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"echo","arguments":{{"text":"hello"}}}}}}"#
    )
}

fn per_session(port: Port, pid: Pid) -> f64 {
    Client::initialize(port);
    let before = idle::proportional_megabytes(pid);
    for _ in 0..SESSIONS {
        Client::initialize(port);
    }
    (idle::proportional_megabytes(pid) - before) * 1000.0 / SESSIONS as f64
}
