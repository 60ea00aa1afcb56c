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
    /// Hundredths of a core.
    Percent,
    /// Times as much as something else.
    Ratio,
    /// Things.
    Count,
}

/// A line of the table.
#[derive(Debug)]
pub struct Row {
    what: String,
    unit: Unit,
    limit: Option<f64>,
    samples: Vec<f64>,
}

impl Row {
    /// A figure that has to be reached.
    pub fn new(what: impl Into<String>, unit: Unit, limit: f64, samples: Vec<f64>) -> Self {
        Self { limit: Some(limit), ..Self::told(what, unit, samples) }
    }

    /// A figure that is only told.
    pub fn told(what: impl Into<String>, unit: Unit, samples: Vec<f64>) -> Self {
        Self { what: what.into(), unit, limit: None, samples }
    }

    /// Whether it was reached; true if there is nothing to reach.
    pub fn is_met(&self) -> bool {
        self.limit.is_none_or(|limit| median(&self.samples) <= limit)
    }

    fn line(&self) -> String {
        let show = |value| self.unit.show(value);
        let least = self.samples.iter().copied().fold(f64::INFINITY, f64::min);
        let most = self.samples.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let limit = self.limit.map_or("-".to_owned(), show);
        let met = match self.limit {
            None => "-",
            Some(_) if self.is_met() => "yes",
            Some(_) => "no",
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
    let (repeat, kernel) = (options.repeat, kernel.trim());
    println!("\n{repeat} samples of each figure; {cores} cores, Linux {kernel}.");
    println!("Load of the machine: {load_before} before, {} after.", load());
}
