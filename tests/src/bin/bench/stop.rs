//! From the request until the daemon's process is gone.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use mcpd_tests::{ConfigBuilder, Daemon, Signal, WorkerSpec};
use nix::sys::signal::kill;

use crate::alone;
use crate::options::Options;
use crate::table::{Row, Unit, median};
use crate::watch::{LONGEST, Watch, millis};

/// Workers, and how many milliseconds the shutdown may take beyond the slowest of them.
const SIZES: [(usize, f64); 3] = [(1, 50.0), (50, 100.0), (500, 500.0)];

static CLEAN_STOPS: AtomicU32 = AtomicU32::new(0);

/// All of section 11 on shutting down.
pub fn rows(options: &Options) -> Vec<Row> {
    let own = median(&options.samples(alone::leaving));
    let mut rows: Vec<Row> = SIZES
        .into_iter()
        .map(|(workers, limit)| {
            let samples = options.samples(|| by_signal(config(workers, &polite())) - own);
            let what =
                format!("shutdown beyond the slowest worker, verification included, {workers} workers");
            Row::new(what.replace(" 1 workers", " 1 worker"), Unit::Millis, limit, samples)
        })
        .collect();
    let samples = options.samples(|| by_mcpctl(config(50, &polite())));
    rows.push(Row::without_goal(
        "`mcpctl shutdown --wait`, whole process, 50 workers",
        Unit::Millis,
        samples,
    ));
    rows
}

/// What was left, all over: nothing, or this line would not have been reached.
pub fn survivors() -> Option<Row> {
    let stops = CLEAN_STOPS.load(Ordering::Relaxed);
    let what = format!("survivors, zombies, held ports after {stops} stops of polite workers");
    (stops > 0).then(|| Row::new(what, Unit::Count, 0.0, vec![0.0]))
}

/// A worker that leaves at once when it is asked.
pub fn polite() -> WorkerSpec {
    WorkerSpec::fixture("")
}

/// As many workers like this one.
pub fn config(workers: usize, spec: &WorkerSpec) -> ConfigBuilder {
    (0..workers)
        .fold(ConfigBuilder::new(), |config, number| config.worker(&format!("w{number:03}"), spec.clone()))
}

/// `SIGTERM` until the process is gone, milliseconds.
pub fn by_signal(config: ConfigBuilder) -> f64 {
    let mut daemon = Daemon::start(config);
    // What it looks for afterwards costs time that is not the daemon's.
    daemon.remember();
    let watch = Watch::on(daemon.guardian());
    let pid = nix::unistd::Pid::from_raw(daemon.guardian().get());
    let begin = Instant::now();
    kill(pid, Signal::SIGTERM).expect("a child that was not waited for can be signalled");
    watch.wait();
    let took = begin.elapsed();
    count_clean(&mut daemon);
    millis(took)
}

/// Starting `mcpctl shutdown --wait` until it ends, milliseconds.
fn by_mcpctl(config: ConfigBuilder) -> f64 {
    let mut daemon = Daemon::start(config);
    daemon.remember();
    let begin = Instant::now();
    let asked = daemon.mcpctl_start(&["shutdown", "--wait"]).finish(LONGEST);
    let took = begin.elapsed();
    asked.expect_code(0);
    count_clean(&mut daemon);
    millis(took)
}

/// Ends a daemon whose stop is not measured.
pub fn end(mut daemon: Daemon) {
    daemon.signal(Signal::SIGTERM);
    count_clean(&mut daemon);
}

fn count_clean(daemon: &mut Daemon) {
    daemon.assert_no_trace(0);
    CLEAN_STOPS.fetch_add(1, Ordering::Relaxed);
}
