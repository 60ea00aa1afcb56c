//! The cost of cgroups: the same measurements with a cgroup for each worker and without.
//!
//! In turns, so that other load on the machine affects both.

use mcpd_common::os::cgroup::CGROUP_VARIABLE;
use mcpd_tests::ConfigBuilder;
use mcpd_tests::cgroup::Scratch;

use crate::options::Options;
use crate::table::{Row, Unit, median};
use crate::{crash, print_progress, start, stop};

const WORKERS: usize = 50;

/// The name of a measurement, and a function that returns its milliseconds.
type Measurement = (&'static str, fn(ConfigBuilder) -> f64);

const MEASUREMENTS: [Measurement; 3] = [
    ("start until all are ready", start::all_ready),
    ("shutdown", stop::by_signal),
    ("`kill -9` of the daemon to nothing left", crash::cleanup_time),
];

/// No rows if no cgroup can be made.
pub fn rows(options: &Options) -> Vec<Row> {
    let scratch = match Scratch::make() {
        Ok(scratch) => scratch,
        Err(reason) => {
            print_progress(&format!("skipped: {reason}"));
            return Vec::new();
        }
    };
    let config = |cgroup: &str| stop::config(WORKERS, &stop::graceful()).env(CGROUP_VARIABLE, cgroup);
    let row = |(what, measure): Measurement| {
        let turn = |_| (measure(config("off")), measure(config(&scratch.text())));
        let (without, within): (Vec<f64>, Vec<f64>) = (0..options.repeat).map(turn).unzip();
        let ratios = within.iter().zip(&without).map(|(within, without)| within / without).collect();
        let without = median(&without);
        let within = median(&within);
        let what =
            format!("{what}, {WORKERS} workers: a cgroup for each / none ({within:.1} ms / {without:.1} ms)");
        Row::without_limit(what, Unit::Ratio, ratios)
    };
    MEASUREMENTS.map(row).into()
}
