//! Medians, spreads, verdicts.

use std::fs;
use std::thread;

use crate::options::Options;

/// What a figure counts.
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
    /// Times as much as something else.
    Ratio,
    /// Things.
    Count,
}

/// What a figure is held against.
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
    /// A figure that must not be higher.
    pub fn new(what: impl Into<String>, unit: Unit, limit: f64, samples: Vec<f64>) -> Self {
        Self { limit: Limit::AtMost(limit), ..Self::without_goal(what, unit, samples) }
    }

    /// A figure that must not be lower.
    pub fn at_least(what: impl Into<String>, unit: Unit, limit: f64, samples: Vec<f64>) -> Self {
        Self { limit: Limit::AtLeast(limit), ..Self::without_goal(what, unit, samples) }
    }

    /// A figure without a goal.
    pub fn without_goal(what: impl Into<String>, unit: Unit, samples: Vec<f64>) -> Self {
        Self { what: what.into(), unit, limit: Limit::None, samples }
    }

    /// Whether it was reached; true if there is nothing to reach.
    pub fn is_met(&self) -> bool {
        match self.limit {
            Limit::None => true,
            Limit::AtMost(limit) => median(&self.samples) <= limit,
            Limit::AtLeast(limit) => median(&self.samples) >= limit,
        }
    }

    fn line(&self) -> String {
        let show = |value| self.unit.show(value);
        let least = self.samples.iter().copied().fold(f64::INFINITY, f64::min);
        let most = self.samples.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let limit = match self.limit {
            Limit::None => "-".to_owned(),
            Limit::AtMost(limit) => show(limit),
            Limit::AtLeast(limit) => format!("at least {}", show(limit)),
        };
        let met = match (self.limit, self.is_met()) {
            (Limit::None, _) => "-",
            (_, true) => "yes",
            (_, false) => "no",
        };
        let middle = show(median(&self.samples));
        format!("| {} | {limit} | {middle} | {} to {} | {met} |", self.what, show(least), show(most))
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
        }
    }
}

/// The middle one; of an even number the mean of the two in the middle.
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

/// How many processes wanted a processor in the last minute, on average.
///
/// A machine that was busy before the run, or much busier than the run makes it, spoils the figures.
pub fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or("unknown").to_owned()
}

/// Prints the table and what it was measured on; `load` as it was before.
#[expect(clippy::print_stdout, reason = "the output of this program")]
pub fn print(rows: &[Row], options: &Options, load_before: &str) {
    println!("| what | to reach | median | spread | met |");
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
