//! Standard output and standard error: the only place that prints.
//!
//! ```text
//! --output table   documents (doc.rs); a live part on a terminal, redrawn in place
//! --output json    one object, or one object a line, "schema" first
//! ```
//!
//! A reader that goes away (`mcpctl ... | head`) is no error: a shutdown that is being
//! waited for must still be waited for, and end with its code.

use std::env;
use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use serde::Serialize;

use crate::doc::Doc;
use crate::exit::Failure;
use crate::paint::{ColorChoice, Palette, Tone};

/// The `schema` of a failure in JSON.
pub const ERROR_SCHEMA: &str = "mcpd.error.v1";

/// `--output`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

/// Whether something is redrawn in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Screen {
    /// A terminal with this many columns and rows.
    Terminal(usize, usize),
    /// A pipe or a file: lines, and no cursor movement.
    Pipe,
}

/// Where a command writes.
#[derive(Debug)]
pub struct Output {
    format: Format,
    palette: Palette,
    screen: Screen,
    /// Lines of the live part that stand on the terminal now.
    live: usize,
    /// The reader went away.
    closed: bool,
}

/// A value in JSON with its schema first.
#[derive(Serialize)]
struct Line<'a, T: Serialize> {
    schema: &'a str,
    #[serde(flatten)]
    value: &'a T,
}

impl Output {
    /// The standard output, written as these options say.
    pub fn new(format: Format, color: ColorChoice) -> Self {
        Self { format, palette: Palette::choose(color), screen: Screen::detect(), live: 0, closed: false }
    }

    /// For programs rather than people.
    pub fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Nobody reads any longer.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// The terminal's rows, if tables may be redrawn in place.
    pub fn live_rows(&self) -> Option<usize> {
        match (self.format, self.screen) {
            (Format::Table, Screen::Terminal(_, rows)) => Some(rows),
            _ => None,
        }
    }

    /// An empty document that fits.
    pub fn doc(&self) -> Doc {
        let width = match self.screen {
            Screen::Terminal(columns, _) => columns,
            Screen::Pipe => usize::MAX,
        };
        Doc::new(self.palette, width)
    }

    /// Prints a document; it takes the place of the live part.
    pub fn print(&mut self, doc: Doc) {
        let text = format!("{}{}", self.erase(), doc.into_text());
        self.write(text.as_bytes());
    }

    /// Shows a document in the place of the one shown before.
    pub fn redraw(&mut self, doc: Doc) {
        let text = doc.into_text();
        let lines = text.lines().count();
        let text = format!("{}{text}", self.erase());
        self.live = lines;
        self.write(text.as_bytes());
    }

    /// A text in this tone, for [`Self::raw`].
    pub fn paint(&self, text: &str, tone: Tone) -> String {
        self.palette.paint(text, tone)
    }

    /// Prints bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.write(bytes);
    }

    /// Prints a value that carries its own schema.
    pub fn json(&mut self, value: &impl Serialize) {
        // Our own types: text keys, no maps that could fail.
        let mut bytes = serde_json::to_vec(value).unwrap_or_default();
        bytes.push(b'\n');
        self.write(&bytes);
    }

    /// Prints a value with this schema.
    pub fn json_line(&mut self, schema: &str, value: &impl Serialize) {
        self.json(&Line { schema, value });
    }

    /// Says something beside the result: on standard error.
    pub fn note(&mut self, text: &str) {
        let erase = self.erase();
        self.write(erase.as_bytes());
        let _ = writeln!(io::stderr(), "mcpctl: {text}");
    }

    /// Says why the command failed: on standard error.
    pub fn failure(&mut self, failure: &Failure) {
        let line = Line { schema: ERROR_SCHEMA, value: failure };
        let text = match self.format {
            Format::Table => failure.to_string(),
            Format::Json => serde_json::to_string(&line).unwrap_or_default(),
        };
        let _ = writeln!(io::stderr(), "{text}");
    }

    /// Moves to the first line of the live part and clears from there.
    fn erase(&mut self) -> String {
        match std::mem::take(&mut self.live) {
            0 => String::new(),
            lines => format!("\x1b[{lines}A\r\x1b[J"),
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        if self.closed {
            return;
        }
        let mut stdout = io::stdout().lock();
        self.closed = stdout.write_all(bytes).and_then(|()| stdout.flush()).is_err();
    }
}

impl Screen {
    fn detect() -> Self {
        if !io::stdout().is_terminal() {
            return Self::Pipe;
        }
        let size = terminal_size::terminal_size();
        let (columns, rows) = size.map_or((80, 24), |(width, height)| (width.0.into(), height.0.into()));
        let wished = env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
        // A terminal of no size is one that nobody has set up (a recording, a build log).
        let columns = if columns == 0 { wished.unwrap_or(80) } else { columns };
        Self::Terminal(columns, if rows == 0 { 24 } else { rows })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R-CLI-1.
    #[test]
    fn the_schema_comes_first() {
        let line = Line { schema: "x.v1", value: &serde_json::json!({ "a": 1 }) };
        assert_eq!(serde_json::to_string(&line).expect("plain"), r#"{"schema":"x.v1","a":1}"#);
    }
}
