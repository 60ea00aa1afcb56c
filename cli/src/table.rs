//! Tables that fit: columns of less weight go first, then long texts are folded or cut.
//!
//! What fits is decided here, on plain text; `tabled` then lays out the cells.

use tabled::builder::Builder;
use tabled::grid::util::string::{get_char_width, get_line_width};
use tabled::settings::object::Columns;
use tabled::settings::{Alignment, Padding, Style};

use crate::paint::{Palette, Tone};
use crate::text::clean;

/// Between two columns.
const GAP: usize = 2;

/// A text in a table.
#[derive(Clone, Debug, Default)]
pub struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// The same in this tone.
    pub fn tone(mut self, tone: Tone) -> Self {
        self.tone = tone;
        self
    }
}

/// A cell with this text.
pub fn cell(text: impl ToString) -> Cell {
    Cell { text: clean(&text.to_string()).into_owned(), tone: Tone::Plain }
}

/// A cell with this text, or a dash for nothing.
pub fn maybe(text: Option<impl ToString>) -> Cell {
    text.map_or_else(|| cell("-").tone(Tone::Dim), cell)
}

/// What a column does with a text that does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Excess {
    /// It is never narrower than its widest text.
    Keep,
    /// It is cut, down to this width.
    Cut(usize),
    /// It is folded into lines, down to this width.
    Fold(usize),
}

/// A column.
#[derive(Clone, Debug)]
pub struct Column {
    title: &'static str,
    /// 0 is always there; of the others the highest goes first.
    weight: u8,
    excess: Excess,
    right: bool,
}

impl Column {
    /// A column that is always there, as wide as its widest text.
    pub fn new(title: &'static str) -> Self {
        Self { title, weight: 0, excess: Excess::Keep, right: false }
    }

    /// For numbers.
    pub fn right(mut self) -> Self {
        self.right = true;
        self
    }

    /// Left out where there is no room; the highest number first.
    pub fn optional(mut self, weight: u8) -> Self {
        self.weight = weight;
        self
    }

    /// Cut where there is no room, but not below this width.
    pub fn cut(mut self, least: usize) -> Self {
        self.excess = Excess::Cut(least);
        self
    }

    /// Folded where there is no room, but not below this width.
    pub fn fold(mut self, least: usize) -> Self {
        self.excess = Excess::Fold(least);
        self
    }

    fn least(&self, natural: usize) -> usize {
        match self.excess {
            Excess::Keep => natural,
            Excess::Cut(least) | Excess::Fold(least) => natural.min(least.max(self.title.len())),
        }
    }

    fn fit(&self, text: &str, width: usize) -> Vec<String> {
        match self.excess {
            Excess::Fold(_) => fold(text, width),
            Excess::Keep | Excess::Cut(_) => vec![cut(text, width)],
        }
    }
}

/// A table.
#[derive(Clone, Debug)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// An empty table.
    pub fn new(columns: impl Into<Vec<Column>>) -> Self {
        Self { columns: columns.into(), rows: Vec::new() }
    }

    /// Adds a row, with a cell for each column.
    pub fn row(&mut self, cells: impl Into<Vec<Cell>>) {
        let mut cells = cells.into();
        cells.resize_with(self.columns.len(), Cell::default);
        self.rows.push(cells);
    }

    /// Whether it has no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// As text of at most this width, if that can be had.
    pub fn render(&self, width: usize, palette: Palette) -> String {
        let chosen = self.choose(width);
        let mut builder = Builder::new();
        builder.push_record(chosen.iter().map(|(i, _)| palette.paint(self.columns[*i].title, Tone::Dim)));
        for row in &self.rows {
            builder.push_record(chosen.iter().map(|(i, width)| {
                let lines = self.columns[*i].fit(&row[*i].text, *width);
                let painted: Vec<_> = lines.iter().map(|line| palette.paint(line, row[*i].tone)).collect();
                painted.join("\n")
            }));
        }
        let mut table = builder.build();
        table.with(Style::empty()).with(Padding::new(0, GAP, 0, 0));
        for (place, (i, _)) in chosen.iter().enumerate() {
            if self.columns[*i].right {
                table.modify(Columns::one(place), Alignment::right());
            }
        }
        let text = table.to_string();
        text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
    }

    /// The columns that are shown, each with its width.
    fn choose(&self, width: usize) -> Vec<(usize, usize)> {
        let natural: Vec<_> = (0..self.columns.len()).map(|i| self.natural(i)).collect();
        let mut shown: Vec<usize> = (0..self.columns.len()).collect();
        let least = |shown: &[usize]| -> usize {
            let gaps = GAP * shown.len().saturating_sub(1);
            shown.iter().map(|i| self.columns[*i].least(natural[*i])).sum::<usize>() + gaps
        };
        while least(&shown) > width {
            let heaviest = shown.iter().copied().filter(|i| self.columns[*i].weight > 0);
            let Some(gone) = heaviest.max_by_key(|i| self.columns[*i].weight) else { break };
            shown.retain(|i| *i != gone);
        }
        let mut spare = width.saturating_sub(least(&shown));
        let widen = |i: usize| {
            let least = self.columns[i].least(natural[i]);
            let more = spare.min(natural[i] - least);
            spare -= more;
            (i, least + more)
        };
        shown.into_iter().map(widen).collect()
    }

    fn natural(&self, column: usize) -> usize {
        let texts = self.rows.iter().map(|row| get_line_width(&row[column].text));
        texts.max().unwrap_or(0).max(self.columns[column].title.len())
    }
}

/// The text, cut with an ellipsis where it is wider.
pub fn cut(text: &str, width: usize) -> String {
    if get_line_width(text) <= width {
        return text.to_owned();
    }
    let (kept, _) = split_at_width(text, width.saturating_sub(1));
    format!("{kept}…")
}

/// The text in lines of at most this width, broken between words where there are any.
pub fn fold(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let mut word = word;
        let line = lines.last().map_or("", String::as_str);
        let joined = get_line_width(line) + usize::from(!line.is_empty()) + get_line_width(word);
        if joined > width && !line.is_empty() {
            lines.push(String::new());
        }
        while get_line_width(word) > width {
            let (head, rest) = split_at_width(word, width);
            if let Some(line) = lines.last_mut() {
                line.push_str(head);
            }
            lines.push(String::new());
            word = rest;
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

/// The longest beginning that is not wider, at least one character of it, and the rest.
fn split_at_width(text: &str, width: usize) -> (&str, &str) {
    let mut used = 0;
    let end = text.char_indices().find(|(at, c)| {
        used += get_char_width(*c);
        used > width && *at > 0
    });
    text.split_at(end.map_or(text.len(), |(at, _)| at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Table {
        let mut table = Table::new([
            Column::new("NAME"),
            Column::new("PID").right().optional(1),
            Column::new("REPO").cut(6).optional(2),
            Column::new("DETAIL").fold(10),
        ]);
        table.row([cell("alpha"), cell(7), cell("/home/kim/src/alpha"), cell("all is well here")]);
        table.row([cell("b"), maybe(None::<i32>), cell("/srv"), cell("ok")]);
        table
    }

    fn widest(text: &str) -> usize {
        text.lines().map(get_line_width).max().unwrap_or(0)
    }

    /// R-CLI-1: tables fit.
    #[test]
    fn every_width_that_can_be_had_is_kept() {
        for width in 18..120 {
            let text = sample().render(width, Palette::Plain);
            assert!(widest(&text) <= width, "{width}:\n{text}");
        }
        // Below what the columns that stay need, the table is as narrow as it can be.
        assert!(widest(&sample().render(1, Palette::Plain)) <= 17);
    }

    #[test]
    fn columns_of_less_weight_go_first() {
        insta::assert_snapshot!(sample().render(60, Palette::Plain), @r"
        NAME   PID  REPO                 DETAIL
        alpha    7  /home/kim/src/alpha  all is well here
        b        -  /srv                 ok
        ");
        insta::assert_snapshot!(sample().render(40, Palette::Plain), @r"
        NAME   PID  REPO              DETAIL
        alpha    7  /home/kim/src/a…  all is
                                      well here
        b        -  /srv              ok
        ");
        insta::assert_snapshot!(sample().render(20, Palette::Plain), @r"
        NAME   DETAIL
        alpha  all is well
               here
        b      ok
        ");
    }

    #[test]
    fn colours_take_no_room() {
        let mut table = Table::new([Column::new("A"), Column::new("B")]);
        table.row([cell("yes").tone(Tone::Good), cell("x")]);
        let (plain, painted) = (table.render(80, Palette::Plain), table.render(80, Palette::Ansi));
        assert_eq!(plain, "A    B\nyes  x");
        assert_eq!(widest(&painted), widest(&plain));
    }

    #[test]
    fn wide_characters_and_long_words_are_folded() {
        assert_eq!(fold("ab cdefghij k", 4), ["ab", "cdef", "ghij", "k"]);
        assert_eq!(fold("漢字漢字", 4), ["漢字", "漢字"]);
        assert_eq!(fold("", 4), [""]);
        assert_eq!(cut("漢字漢字", 5), "漢字…");
        assert_eq!(cut("abc", 3), "abc");
    }
}
