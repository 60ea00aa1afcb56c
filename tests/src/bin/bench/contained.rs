//! What it costs to hold workers together: the same with a cgroup for each of them, and without.
//!
//! In turns, so that whatever else the machine does hits both alike.

use mcpd_common::os::cgroup::CGROUP_VARIABLE;
use mcpd_tests::ConfigBuilder;
use mcpd_tests::cgroup::Scratch;

use crate::options::Options;
use crate::table::{Row, Unit, median};
use crate::{crash, say, start, stop};

const WORKERS: usize = 50;

/// What is done to a daemon, and how many milliseconds it takes.
type Measurement = (&'static str, fn(ConfigBuilder) -> f64);

const MEASUREMENTS: [Measurement; 3] = [
    ("start until all are ready", start::all_ready),
    ("shutdown", stop::by_signal),
    ("`kill -9` of the daemon to nothing left", crash::death),
];

/// No rows where no cgroup can be made.
pub fn rows(options: &Options) -> Vec<Row> {
    let scratch = match Scratch::make() {
        Ok(scratch) => scratch,
        Err(reason) => {
            say(&format!("left out: {reason}"));
            return Vec::new();
        }
    };
    let config = |where_to: &str| stop::config(WORKERS, &stop::polite()).env(CGROUP_VARIABLE, where_to);
    let row = |(what, measure): Measurement| {
        let turn = |_| (measure(config("off")), measure(config(&scratch.text())));
        let (without, within): (Vec<f64>, Vec<f64>) = (0..options.repeat).map(turn).unzip();
        let ratios = within.iter().zip(&without).map(|(within, without)| within / without).collect();
        let without = median(&without);
        let within = median(&within);
        let what =
            format!("{what}, {WORKERS} workers: a cgroup for each / none ({within:.1} ms / {without:.1} ms)");
        Row::without_goal(what, Unit::Ratio, ratios)
    };
    MEASUREMENTS.map(row).into()
}
