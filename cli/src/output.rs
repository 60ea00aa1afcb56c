//! Standard output and standard error. Only this file prints.
//!
//! ```text
//! --output table   documents (document.rs); on a terminal the last one can be redrawn in place
//! --output json    one object per line, "schema" first
//! ```
//!
//! If the reader closes the pipe (`mcpctl ... | head`), output is discarded and the command continues:
//! `shutdown --wait` must still wait, and exit with the daemon's code.

use std::env;
use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use serde::Serialize;

use crate::color::{ColorChoice, Palette, Tone};
use crate::document::Document;
use crate::failure::Failure;

/// The `schema` of a failure in JSON.
pub const ERROR_SCHEMA: &str = "mcpd.error.v1";

/// `--output`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Tables for people
    #[default]
    Table,
    /// JSON for programs
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Screen {
    Terminal {
        columns: usize,
        rows: usize,
    },
    /// A pipe or a file: no cursor movement.
    Pipe,
}

#[derive(Debug)]
pub struct Output {
    format: Format,
    palette: Palette,
    screen: Screen,
    /// Number of lines on the terminal that the next document replaces.
    live_lines: usize,
    /// Writing has failed; further output is discarded.
    closed: bool,
}

#[derive(Serialize)]
struct WithSchema<'a, T: Serialize> {
    schema: &'a str,
    #[serde(flatten)]
    value: &'a T,
}

impl Output {
    pub fn new(format: Format, color: ColorChoice) -> Self {
        Self {
            format,
            palette: Palette::choose(color),
            screen: Screen::detect(),
            live_lines: 0,
            closed: false,
        }
    }

    pub fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// The number of rows of the terminal; `None` if documents can't be redrawn in place.
    pub fn live_rows(&self) -> Option<usize> {
        match (self.format, self.screen) {
            (Format::Table, Screen::Terminal { rows, .. }) => Some(rows),
            _ => None,
        }
    }

    pub fn is_terminal(&self) -> bool {
        self.screen != Screen::Pipe
    }

    /// An empty document as wide as the screen.
    pub fn document(&self) -> Document {
        let width = match self.screen {
            Screen::Terminal { columns, .. } => columns,
            Screen::Pipe => usize::MAX,
        };
        Document::new(self.palette, width)
    }

    /// Prints a document for good, in place of a redrawn one.
    pub fn print(&mut self, doc: Document) {
        let text = format!("{}{}", self.erase(), doc.into_text());
        self.write(text.as_bytes());
    }

    /// Prints a document that the next one replaces.
    pub fn redraw(&mut self, doc: Document) {
        let text = doc.into_text();
        let lines = text.lines().count();
        let text = format!("{}{text}", self.erase());
        self.live_lines = lines;
        self.write(text.as_bytes());
    }

    pub fn paint(&self, text: &str, tone: Tone) -> String {
        self.palette.paint(text, tone)
    }

    pub fn raw(&mut self, bytes: &[u8]) {
        self.write(bytes);
    }

    /// Prints a value that has a `schema` field of its own.
    pub fn json(&mut self, value: &impl Serialize) {
        let text = format!("{}\n", to_json(value));
        self.write(text.as_bytes());
    }

    /// Prints a value with this schema.
    pub fn json_with_schema(&mut self, schema: &str, value: &impl Serialize) {
        self.json(&WithSchema { schema, value });
    }

    /// Prints a message on standard error, beside the result.
    pub fn note(&mut self, text: &str) {
        let erase = self.erase();
        self.write(erase.as_bytes());
        let _ = writeln!(io::stderr(), "mcpctl: {text}");
    }

    /// Prints why the command failed, on standard error.
    pub fn failure(&mut self, failure: &Failure) {
        let text = match self.format {
            Format::Table => failure.to_string(),
            Format::Json => to_json(&WithSchema { schema: ERROR_SCHEMA, value: failure }),
        };
        let erase = self.erase();
        self.write(erase.as_bytes());
        let _ = writeln!(io::stderr(), "{text}");
    }

    /// The escape sequence that clears the document to be replaced.
    fn erase(&mut self) -> String {
        match std::mem::take(&mut self.live_lines) {
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
        // A pseudo-terminal whose size was never set (a recording, a build log) reports 0.
        let columns = if columns == 0 { columns_from_environment().unwrap_or(80) } else { columns };
        let rows = if rows == 0 { 24 } else { rows };
        Self::Terminal { columns, rows }
    }
}

fn columns_from_environment() -> Option<usize> {
    env::var("COLUMNS").ok()?.parse().ok()
}

/// The types that `mcpctl` prints have text keys and can't fail to serialize.
fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|error| format!("can't write JSON: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R-CLI-1.
    #[test]
    fn the_schema_comes_first() {
        let line = WithSchema { schema: "x.v1", value: &serde_json::json!({ "a": 1 }) };
        assert_eq!(serde_json::to_string(&line).expect("plain"), r#"{"schema":"x.v1","a":1}"#);
    }
}
