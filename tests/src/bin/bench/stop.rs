//! From the request until the daemon has exited.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use mcpd_tests::{ConfigBuilder, Daemon, Signal, WorkerSpec};
use nix::sys::signal::kill;

use crate::alone;
use crate::options::Options;
use crate::table::{Row, Unit, median};
use crate::watch::{WAIT_LIMIT, Watch, millis};

/// The number of workers, and the limit in milliseconds beyond the slowest of them.
const SIZES: [(usize, f64); 3] = [(1, 50.0), (50, 100.0), (500, 500.0)];

static CLEAN_STOPS: AtomicU32 = AtomicU32::new(0);

/// The figures of section 11 on shutdowns.
pub fn rows(options: &Options) -> Vec<Row> {
    let alone = median(&options.samples(alone::exit_time));
    let mut rows: Vec<Row> = SIZES
        .into_iter()
        .map(|(workers, limit)| {
            let samples = options.samples(|| by_signal(config(workers, &graceful())) - alone);
            let what =
                format!("shutdown beyond the slowest worker, verification included, {workers} workers");
            Row::new(what.replace(" 1 workers", " 1 worker"), Unit::Millis, limit, samples)
        })
        .collect();
    let samples = options.samples(|| by_mcpctl(config(50, &graceful())));
    rows.push(Row::without_limit(
        "`mcpctl shutdown --wait`, whole process, 50 workers",
        Unit::Millis,
        samples,
    ));
    rows
}

/// Number of leftovers after all stops. It is always 0: otherwise `count_clean` has panicked.
pub fn survivors() -> Option<Row> {
    let stops = CLEAN_STOPS.load(Ordering::Relaxed);
    let what = format!("survivors, zombies, held ports after {stops} stops of graceful workers");
    (stops > 0).then(|| Row::new(what, Unit::Count, 0.0, vec![0.0]))
}

/// A worker that exits at once on request.
pub fn graceful() -> WorkerSpec {
    WorkerSpec::fixture("")
}

/// A configuration with this number of equal workers.
pub fn config(workers: usize, spec: &WorkerSpec) -> ConfigBuilder {
    (0..workers)
        .fold(ConfigBuilder::new(), |config, number| config.worker(&format!("w{number:03}"), spec.clone()))
}

/// From `SIGTERM` until the process has exited, in milliseconds.
pub fn by_signal(config: ConfigBuilder) -> f64 {
    let mut daemon = Daemon::start(config);
    // Before the measurement, because it takes time.
    daemon.remember();
    let watch = Watch::on(daemon.guardian());
    let pid = nix::unistd::Pid::from_raw(daemon.guardian().get());
    let begin = Instant::now();
    kill(pid, Signal::SIGTERM).expect("an unreaped child can be signalled");
    watch.wait();
    let took = begin.elapsed();
    count_clean(&mut daemon);
    millis(took)
}

/// From the start of `mcpctl shutdown --wait` until its exit, in milliseconds.
fn by_mcpctl(config: ConfigBuilder) -> f64 {
    let mut daemon = Daemon::start(config);
    daemon.remember();
    let begin = Instant::now();
    let output = daemon.mcpctl_start(&["shutdown", "--wait"]).finish(WAIT_LIMIT);
    let took = begin.elapsed();
    output.expect_code(0);
    count_clean(&mut daemon);
    millis(took)
}

/// Shuts a daemon down without measuring it.
pub fn end(mut daemon: Daemon) {
    daemon.signal(Signal::SIGTERM);
    count_clean(&mut daemon);
}

fn count_clean(daemon: &mut Daemon) {
    daemon.assert_no_trace(0);
    CLEAN_STOPS.fetch_add(1, Ordering::Relaxed);
}
