//! What a command shows, as text: lines and tables of one width and palette.

use crate::paint::{Palette, Tone};
use crate::table::{Table, fold};
use crate::text::clean;

/// Text being written. [`crate::output`] prints it.
#[derive(Clone, Debug)]
pub struct Doc {
    palette: Palette,
    width: usize,
    text: String,
}

impl Doc {
    /// Empty, for a screen of this width.
    pub fn new(palette: Palette, width: usize) -> Self {
        Self { palette, width, text: String::new() }
    }

    /// An empty line.
    pub fn blank(&mut self) {
        self.text.push('\n');
    }

    /// A line of pieces, each in its tone; not folded.
    pub fn line(&mut self, pieces: &[(&str, Tone)]) {
        for (text, tone) in pieces {
            self.text.push_str(&self.palette.paint(&clean(text), *tone));
        }
        self.blank();
    }

    /// Sentences: folded, later lines indented by two.
    pub fn sentence(&mut self, text: &str, tone: Tone) {
        self.indented("", "  ", text, tone);
    }

    /// A label and a text beside it: folded, later lines under the text.
    pub fn labelled(&mut self, label: &str, text: &str, tone: Tone) {
        let label = clean(label).into_owned();
        let indent = " ".repeat(label.chars().count().min(24));
        self.indented(&label, &indent, text, tone);
    }

    /// A table; nothing if it has no row.
    pub fn table(&mut self, table: &Table) {
        if !table.is_empty() {
            self.text.push_str(&table.render(self.width, self.palette));
            self.blank();
        }
    }

    /// A table with every line indented.
    pub fn indented_table(&mut self, table: &Table) {
        if table.is_empty() {
            return;
        }
        for line in table.render(self.width.saturating_sub(2), self.palette).lines() {
            self.text.push_str("  ");
            self.text.push_str(line);
            self.blank();
        }
    }

    /// All of it.
    pub fn into_text(self) -> String {
        self.text
    }

    fn indented(&mut self, first: &str, later: &str, text: &str, tone: Tone) {
        let room = self.width.saturating_sub(later.len().max(first.len())).max(20);
        for (number, line) in fold(&clean(text), room).iter().enumerate() {
            self.text.push_str(if number == 0 { first } else { later });
            self.text.push_str(&self.palette.paint(line, tone));
            self.blank();
        }
    }
}
