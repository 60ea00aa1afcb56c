//! From the start of `mcpd` until all workers are ready.

use std::thread;
use std::time::Duration;

use jiff::Timestamp;
use mcpd_common::status::WorkerState;
use mcpd_tests::{BOUND, ConfigBuilder, Daemon, WorkerSpec};

use crate::alone;
use crate::options::Options;
use crate::stop;
use crate::table::{Row, Unit, median};

const WORKERS: usize = 50;
const LIMIT: f64 = 200.0;
/// Each poll starts a process, so it is rare, to leave the CPU to the workers.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Workers that start at once, and workers that need half a second.
pub fn rows(options: &Options) -> Vec<Row> {
    [("start at once", ""), ("take 500 ms to start", "--start-delay 500")]
        .into_iter()
        .map(|(kind, flags)| {
            let words: Vec<&str> = flags.split_whitespace().collect();
            let alone = median(&options.samples(|| alone::start_time(&words)));
            let config = || stop::config(WORKERS, &WorkerSpec::fixture(flags));
            let samples = options.samples(|| all_ready(config()) - alone);
            let what = format!("all of {WORKERS} workers started, beyond one's own start; they {kind}");
            Row::new(what, Unit::Millis, LIMIT, samples)
        })
        .collect()
}

/// In milliseconds, from the times at which the workers became ready in the status.
pub fn all_ready(config: ConfigBuilder) -> f64 {
    let home = tempfile::tempdir().expect("a temporary directory");
    // The directories are made before the time is taken.
    config.write(home.path());
    let begin = Timestamp::now();
    let mut daemon = Daemon::launch_in(home, config);
    let last = wait_ready(&mut daemon, begin);
    stop::end(daemon);
    last.duration_since(begin).as_secs_f64() * 1000.0
}

/// The time at which the last worker became ready.
fn wait_ready(daemon: &mut Daemon, begin: Timestamp) -> Timestamp {
    loop {
        thread::sleep(POLL_INTERVAL);
        let workers = daemon.try_status().map(|status| status.workers).unwrap_or_default();
        let ready = workers.iter().filter(|worker| worker.state == WorkerState::Ready);
        let since: Vec<Timestamp> = ready.map(|worker| worker.since).collect();
        if since.len() == WORKERS {
            return since.into_iter().max().expect("there are workers");
        }
        let waited = Timestamp::now().duration_since(begin).unsigned_abs();
        assert!(waited < BOUND, "{} of {WORKERS} workers are ready after {BOUND:?}", since.len());
    }
}
