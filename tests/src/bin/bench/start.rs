//! From starting `mcpd` until all workers are ready.

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
/// Asking for the status takes a process; asking rarely leaves the processor to the workers.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Workers that start at once, and workers that take half a second.
pub fn rows(options: &Options) -> Vec<Row> {
    [("start at once", ""), ("take 500 ms to start", "--start-delay 500")]
        .into_iter()
        .map(|(kind, flags)| {
            let words: Vec<&str> = flags.split_whitespace().collect();
            let own = median(&options.samples(|| alone::starting(&words)));
            let config = || stop::config(WORKERS, &WorkerSpec::fixture(flags));
            let samples = options.samples(|| all_ready(config()) - own);
            let what = format!("all of {WORKERS} workers started, beyond one's own start; they {kind}");
            Row::new(what, Unit::Millis, LIMIT, samples)
        })
        .collect()
}

/// By the times at which the daemon saw each worker answer; milliseconds.
pub fn all_ready(config: ConfigBuilder) -> f64 {
    let home = tempfile::tempdir().expect("a temporary directory");
    // Directories are made before the clock runs.
    config.write(home.path());
    let begin = Timestamp::now();
    let mut daemon = Daemon::launch_in(home, config);
    let last = wait_ready(&mut daemon, begin);
    stop::end(daemon);
    last.duration_since(begin).as_secs_f64() * 1000.0
}

/// When the last of them became ready.
fn wait_ready(daemon: &mut Daemon, begin: Timestamp) -> Timestamp {
    loop {
        thread::sleep(LOOK_AGAIN);
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
