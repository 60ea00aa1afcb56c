//! Measures figures of section 11 and prints them as a Markdown table.
//!
//! ```text
//! options  which rows, how often
//! alone    times of a single worker, which "beyond the slowest worker" is compared with
//! stop     SIGTERM or `mcpctl shutdown --wait` until the daemon has exited
//! crash    `kill -9` of the daemon until nothing is left
//! start    from the start of mcpd until all workers are ready
//! contained   all of these with a cgroup for each worker, and without
//! idle     memory, CPU and `mcpctl status` of an idle daemon
//! door     the front door compared with nginx, in front of the same server
//! stdio    a shared server that speaks stdio, compared with its own HTTP and with bridges
//! peer     the same 50 workers under s6, in turns with mcpd
//! watch    waits for the exit of a process, precise to the microsecond
//! table    medians, spreads, results
//! ```
//!
//! `scripts/bench.sh` builds everything in release mode and runs this. Each measured stop is also checked from outside
//! (`assert_no_trace`); if it leaves something, the run fails.

use std::process::ExitCode;

mod alone;
mod contained;
mod crash;
mod door;
mod idle;
mod options;
mod peer;
mod start;
mod stdio;
mod stop;
mod table;
mod watch;

use options::Options;
use table::Row;

/// A group of rows: its name on the command line, and the function that measures it.
type Group = (&'static str, fn(&Options) -> Vec<Row>);

/// In the order of the table.
const GROUPS: [Group; 9] = [
    ("stop", stop::rows),
    ("crash", crash::rows),
    ("peer", peer::rows),
    ("start", start::rows),
    ("contained", contained::rows),
    ("idle", idle::rows),
    ("status", idle::status_rows),
    ("door", door::rows),
    ("stdio", stdio::rows),
];

fn main() -> ExitCode {
    if let Some(port) = served_port() {
        return door::server::run(port);
    }
    let known = GROUPS.map(|(name, _)| name);
    let options = match Options::parse(std::env::args().skip(1), &known) {
        Ok(options) => options,
        Err(problem) => {
            print_progress(&format!("bench: {problem}\nusage: bench [--repeat N] [{}] ...", known.join("|")));
            return ExitCode::from(64);
        }
    };
    let load = table::load();
    let mut rows = Vec::new();
    for (name, measure) in GROUPS.into_iter().filter(|(name, _)| options.wants(name)) {
        print_progress(&format!("measuring: {name}"));
        rows.extend(measure(&options));
    }
    // A stop that left something has ended the run with a panic before this line.
    rows.extend(stop::survivors());
    table::print(&rows, &options, &load);
    if rows.iter().all(Row::is_met) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// `bench serve PORT`: the server behind the front door, started by the benchmark itself.
fn served_port() -> Option<u16> {
    let mut args = std::env::args().skip(1);
    (args.next()? == "serve").then(|| args.next()?.parse().ok())?
}

/// Progress goes to standard error: the table alone is on standard output.
#[expect(clippy::print_stderr, reason = "progress of a program that runs for minutes")]
fn print_progress(text: &str) {
    eprintln!("{text}");
}
