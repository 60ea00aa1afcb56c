//! Three sinks (R-LOG-3): the console for people (INFO), the debug log for everything, the
//! shutdown log for the shutdown alone. Writing never fails for the caller (R-LOG-5).

pub mod console;
pub mod journal;
mod sink;
pub mod state;

use std::borrow::Cow;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mcpd_common::ids::RunId;
use tracing::Level;
use tracing_subscriber::filter::{self, LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::fmt::writer::{MakeWriter, OptionalWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

use console::Console;
use journal::JournalFormat;
use sink::LogFile;

/// Format of the console output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ConsoleFormat {
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
    /// For the journal of systemd, which adds the time: the level is the prefix `<N>`.
    Journal,
}

/// Set when the shutdown begins.
#[derive(Clone)]
pub struct ShutdownMark(Arc<AtomicBool>);

impl ShutdownMark {
    /// From now on all events go to the shutdown log, too.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The logs of this run.
pub struct Logs {
    pub shutdown: ShutdownMark,
    /// For `status`.
    pub warnings: Vec<String>,
    /// `None` where it could not be started: then nothing is printed.
    pub console: Option<Console>,
}

/// Sets all sinks up, once for the process. An unwritable directory is a warning.
pub fn start(log_dir: &Path, run: RunId, console: ConsoleFormat) -> Logs {
    let shutdown = ShutdownMark(Arc::new(AtomicBool::new(false)));
    let mut warnings = vec![];
    let mut open = |kind| {
        LogFile::open(log_dir, kind, run).unwrap_or_else(|error| {
            warnings.push(format!("can't write the {kind} log in {}: {error}", log_dir.display()));
            LogFile::nowhere()
        })
    };
    let debug = open(sink::DEBUG);
    let shutdown_log = open(sink::SHUTDOWN);
    let begun = shutdown.0.clone();

    let everything = Targets::new()
        .with_default(Level::INFO)
        .with_target("mcpd", Level::DEBUG)
        .with_target("mcpd_common", Level::DEBUG);
    let debug = fmt::layer()
        .with_writer(debug)
        .with_ansi(false)
        .with_timer(Clock::Microseconds)
        .with_file(true)
        .with_line_number(true)
        .with_filter(everything);
    let shutdown_log = fmt::layer()
        .with_writer(shutdown_log)
        .with_ansi(false)
        .with_timer(Clock::Microseconds)
        .with_target(false)
        .with_filter(LevelFilter::INFO)
        .with_filter(filter::filter_fn(move |_| begun.load(Ordering::Relaxed)));
    let stderr = Console::start(std::io::stderr().as_fd())
        .inspect_err(|error| warnings.push(format!("can't print to the console: {error}")))
        .ok();
    let lines = fmt::layer().with_writer(OptionalConsole(stderr.clone())).with_target(false);
    let lines = match console {
        ConsoleFormat::Human => lines.with_timer(Clock::Milliseconds).with_ansi(stderr_has_colours()).boxed(),
        ConsoleFormat::Json => lines.with_timer(Clock::Microseconds).json().boxed(),
        ConsoleFormat::Journal => {
            lines.with_ansi(false).map_event_format(|_| JournalFormat::default()).boxed()
        }
    };
    tracing_subscriber::registry()
        .with(debug)
        .with(shutdown_log)
        .with(lines.with_filter(LevelFilter::INFO))
        .init();
    log_panics();
    Logs { shutdown, warnings, console: stderr }
}

/// Nothing is printed where there is no console.
struct OptionalConsole(Option<Console>);

impl<'a> MakeWriter<'a> for OptionalConsole {
    type Writer = OptionalWriter<&'a Console>;

    fn make_writer(&'a self) -> Self::Writer {
        self.0.as_ref().map_or_else(OptionalWriter::none, OptionalWriter::some)
    }
}

/// Panics are logged with their location.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        tracing::error!(place, "panic: {}", panic.payload_as_str().unwrap_or("no message"));
    }));
}

fn stderr_has_colours() -> bool {
    use std::io::IsTerminal;
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// The time in RFC 3339, with the offset of the local time zone.
#[derive(Clone, Copy)]
enum Clock {
    Milliseconds,
    Microseconds,
}

impl Clock {
    fn now(self) -> String {
        let format = match self {
            Self::Milliseconds => "%Y-%m-%dT%H:%M:%S%.3f%:z",
            Self::Microseconds => "%Y-%m-%dT%H:%M:%S%.6f%:z",
        };
        jiff::Zoned::now().strftime(format).to_string()
    }
}

impl FormatTime for Clock {
    fn format_time(&self, writer: &mut Writer<'_>) -> std::fmt::Result {
        writer.write_str(&self.now())
    }
}

/// Set once by `--log-format json`.
static IS_JSON: AtomicBool = AtomicBool::new(false);

/// From now on, what this process prints beside the log is JSON, too.
pub fn print_json() {
    IS_JSON.store(true, Ordering::Relaxed);
}

/// Whether everything on the console is JSON.
pub fn is_json() -> bool {
    IS_JSON.load(Ordering::Relaxed)
}

/// The text of an error that is printed without the logger: in the shape of the JSON log, or with prefixes if standard
/// error is the journal.
pub fn error_text(text: &str) -> Cow<'_, str> {
    if is_json() {
        let fields = serde_json::json!({ "message": text.trim_end() });
        let line = serde_json::json!({
            "timestamp": Clock::Microseconds.now(), "level": "ERROR", "fields": fields,
        });
        return Cow::Owned(format!("{line}\n"));
    }
    journal::error_text(text)
}
