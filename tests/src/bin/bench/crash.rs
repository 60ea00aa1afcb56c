//! From `SIGKILL` for the daemon until nothing is left and its guardian has exited.

use std::time::Instant;

use mcpd_tests::{ConfigBuilder, Daemon, Signal, WorkerSpec};
use nix::sys::signal::kill;

use crate::options::Options;
use crate::stop;
use crate::table::{Row, Unit};
use crate::watch::{Watch, millis};

/// The figures of section 11 on crashes.
pub fn rows(options: &Options) -> Vec<Row> {
    let orphans = || ConfigBuilder::new().worker("orphans", WorkerSpec::fixture("--escape-polite 300"));
    let row = |what: &str, limit, config: &dyn Fn() -> ConfigBuilder| {
        let what = format!("from `kill -9` of the daemon to nothing left, {what}");
        Row::new(what, Unit::Millis, limit, options.samples(|| cleanup_time(config())))
    };
    vec![
        row("1 worker", 1000.0, &|| stop::config(1, &stop::graceful())),
        row("50 workers", 1000.0, &|| stop::config(50, &stop::graceful())),
        row("300 double-forked orphans", 100.0, &orphans),
    ]
}

/// In milliseconds.
pub fn cleanup_time(config: ConfigBuilder) -> f64 {
    let mut daemon = Daemon::start(config);
    daemon.remember();
    let watch = Watch::on(daemon.guardian());
    let pid = nix::unistd::Pid::from_raw(daemon.pid().get());
    let begin = Instant::now();
    kill(pid, Signal::SIGKILL).expect("the daemon is running");
    watch.wait();
    let took = begin.elapsed();
    daemon.assert_cleaned_up(101);
    millis(took)
}
