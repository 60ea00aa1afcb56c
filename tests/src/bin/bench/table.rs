//! Medians, spreads, and whether limits are met.

use std::fs;
use std::thread;

use crate::options::Options;

/// The unit of a figure.
#[derive(Clone, Copy, Debug)]
pub enum Unit {
    /// Milliseconds.
    Millis,
    /// Millions of bytes.
    Megabytes,
    /// Thousands of bytes.
    Kilobytes,
    /// Hundredths of a core.
    Percent,
    /// The ratio of two figures.
    Ratio,
    /// A number of things.
    Count,
    /// A number per second.
    Rate,
}

/// The limit of a figure.
#[derive(Clone, Copy, Debug)]
enum Limit {
    None,
    AtMost(f64),
    AtLeast(f64),
}

/// A line of the table.
#[derive(Debug)]
pub struct Row {
    what: String,
    unit: Unit,
    limit: Limit,
    samples: Vec<f64>,
}

impl Row {
    /// A figure with an upper limit.
    pub fn new(what: impl Into<String>, unit: Unit, limit: f64, samples: Vec<f64>) -> Self {
        Self { limit: Limit::AtMost(limit), ..Self::without_limit(what, unit, samples) }
    }

    /// A figure with a lower limit.
    pub fn at_least(what: impl Into<String>, unit: Unit, limit: f64, samples: Vec<f64>) -> Self {
        Self { limit: Limit::AtLeast(limit), ..Self::without_limit(what, unit, samples) }
    }

    /// A figure without a limit.
    pub fn without_limit(what: impl Into<String>, unit: Unit, samples: Vec<f64>) -> Self {
        Self { what: what.into(), unit, limit: Limit::None, samples }
    }

    /// Whether the limit is met; true if there is none.
    pub fn is_met(&self) -> bool {
        match self.limit {
            Limit::None => true,
            Limit::AtMost(limit) => median(&self.samples) <= limit,
            Limit::AtLeast(limit) => median(&self.samples) >= limit,
        }
    }

    fn line(&self) -> String {
        let show = |value| self.unit.show(value);
        let lowest = self.samples.iter().copied().fold(f64::INFINITY, f64::min);
        let highest = self.samples.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let limit = match self.limit {
            Limit::None => "-".to_owned(),
            Limit::AtMost(limit) => show(limit),
            Limit::AtLeast(limit) => format!("at least {}", show(limit)),
        };
        let met = match self.limit {
            Limit::None => "-",
            _ if self.is_met() => "yes",
            _ => "no",
        };
        let middle = show(median(&self.samples));
        format!("| {} | {limit} | {middle} | {} to {} | {met} |", self.what, show(lowest), show(highest))
    }
}

impl Unit {
    fn show(self, value: f64) -> String {
        match self {
            Self::Millis => format!("{value:.1} ms"),
            Self::Megabytes => format!("{value:.1} MB"),
            Self::Kilobytes => format!("{value:.1} kB"),
            Self::Percent => format!("{value:.3} %"),
            Self::Ratio => format!("{value:.2}"),
            Self::Count => format!("{value:.0}"),
            Self::Rate => format!("{value:.2}/s"),
        }
    }
}

/// The median; for an even number of samples, the mean of the two middle ones.
pub fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// The load average of the last minute. The figures are useless if other programs kept the machine busy.
pub fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or("unknown").to_owned()
}

/// Prints the table, the machine, and its load before and after the run.
#[expect(clippy::print_stdout, reason = "the output of this program")]
pub fn print(rows: &[Row], options: &Options, load_before: &str) {
    println!("| what | limit | median | spread | met |");
    println!("|---|---|---|---|---|");
    for row in rows {
        println!("{}", row.line());
    }
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let repeat = options.repeat;
    let kernel = kernel.trim();
    println!("\n{repeat} samples of each figure; {cores} cores, Linux {kernel}.");
    println!("Load of the machine: {load_before} before, {} after.", load());
}
