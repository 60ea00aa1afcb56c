//! The text that a command shows: lines and tables of one width and palette.

use crate::color::{Palette, Tone};
use crate::formatting::without_control_characters;
use crate::table::{Table, fold};

/// Text is never folded to fewer columns than this, even if the terminal is narrower.
const MIN_TEXT_WIDTH: usize = 20;

/// Continuation lines are indented by at most this, so that a long label leaves room for the text.
const MAX_INDENT: usize = 24;

/// Collects text; [`crate::output`] prints it.
#[derive(Clone, Debug)]
pub struct Document {
    palette: Palette,
    width: usize,
    text: String,
}

impl Document {
    /// `width` is the number of columns of the screen.
    pub fn new(palette: Palette, width: usize) -> Self {
        Self { palette, width, text: String::new() }
    }

    pub fn blank_line(&mut self) {
        self.text.push('\n');
    }

    /// One line of pieces, each with its tone; never folded.
    pub fn line(&mut self, pieces: &[(&str, Tone)]) {
        for (text, tone) in pieces {
            self.text.push_str(&self.palette.paint(&without_control_characters(text), *tone));
        }
        self.blank_line();
    }

    /// Text folded to the width; continuation lines are indented by two columns.
    pub fn sentence(&mut self, text: &str, tone: Tone) {
        self.indented("", "  ", text, tone);
    }

    /// A label and a text beside it; continuation lines are aligned with the text.
    pub fn labelled(&mut self, label: &str, text: &str, tone: Tone) {
        let label = without_control_characters(label).into_owned();
        let indent = " ".repeat(label.chars().count().min(MAX_INDENT));
        self.indented(&label, &indent, text, tone);
    }

    /// Writes nothing if the table has no rows.
    pub fn table(&mut self, table: &Table) {
        if !table.is_empty() {
            self.text.push_str(&table.render(self.width, self.palette));
            self.blank_line();
        }
    }

    /// Like [`Self::table`], indented by two columns.
    pub fn indented_table(&mut self, table: &Table) {
        if table.is_empty() {
            return;
        }
        for line in table.render(self.width.saturating_sub(2), self.palette).lines() {
            self.text.push_str("  ");
            self.text.push_str(line);
            self.blank_line();
        }
    }

    pub fn into_text(self) -> String {
        self.text
    }

    /// `first` and `later` are the beginnings of the first and of all other lines.
    fn indented(&mut self, first: &str, later: &str, text: &str, tone: Tone) {
        let room = self.width.saturating_sub(later.len().max(first.len())).max(MIN_TEXT_WIDTH);
        for (number, line) in fold(&without_control_characters(text), room).iter().enumerate() {
            self.text.push_str(if number == 0 { first } else { later });
            self.text.push_str(&self.palette.paint(line, tone));
            self.blank_line();
        }
    }
}
