//! Tables that fit the screen. If the room is not sufficient, optional columns are dropped first, then long
//! texts are folded or cut.
//!
//! Widths are decided here, on text without colours; `tabled` then lays out the cells.

use tabled::builder::Builder;
use tabled::grid::util::string::{get_char_width, get_line_width};
use tabled::settings::object::Columns;
use tabled::settings::{Alignment, Padding, Style};

use crate::color::{Palette, Tone};
use crate::formatting::without_control_characters;

/// Spaces between two columns.
const GAP: usize = 2;

#[derive(Clone, Debug, Default)]
pub struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    pub fn tone(mut self, tone: Tone) -> Self {
        self.tone = tone;
        self
    }
}

pub fn cell(text: impl ToString) -> Cell {
    Cell { text: without_control_characters(&text.to_string()).into_owned(), tone: Tone::Plain }
}

/// A cell with this text, or a dash if there is none.
pub fn maybe(text: Option<impl ToString>) -> Cell {
    text.map_or_else(|| cell("-").tone(Tone::Dim), cell)
}

/// What happens to a text that is wider than its column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Overflow {
    /// The column is always as wide as its widest text.
    Keep,
    /// Longer texts are cut. The column has at least this width.
    Cut(usize),
    /// Longer texts are folded into lines. The column has at least this width.
    Fold(usize),
}

#[derive(Clone, Debug)]
pub struct Column {
    title: &'static str,
    /// 0: never dropped. Of the others the highest is dropped first.
    drop_order: u8,
    overflow: Overflow,
    is_right_aligned: bool,
}

impl Column {
    /// A column that is never dropped, folded or cut.
    pub fn new(title: &'static str) -> Self {
        Self { title, drop_order: 0, overflow: Overflow::Keep, is_right_aligned: false }
    }

    /// Aligns to the right, for numbers.
    pub fn right(mut self) -> Self {
        self.is_right_aligned = true;
        self
    }

    /// Allows dropping the column; the column with the highest number is dropped first.
    pub fn optional(mut self, drop_order: u8) -> Self {
        self.drop_order = drop_order;
        self
    }

    /// Allows cutting texts, but not to less than this width.
    pub fn cut(mut self, min_width: usize) -> Self {
        self.overflow = Overflow::Cut(min_width);
        self
    }

    /// Allows folding texts, but not to less than this width.
    pub fn fold(mut self, min_width: usize) -> Self {
        self.overflow = Overflow::Fold(min_width);
        self
    }

    /// The smallest width of this column, if its widest text has the width `natural`.
    fn min_width(&self, natural: usize) -> usize {
        match self.overflow {
            Overflow::Keep => natural,
            Overflow::Cut(width) | Overflow::Fold(width) => natural.min(width.max(self.title.len())),
        }
    }

    fn fit(&self, text: &str, width: usize) -> Vec<String> {
        match self.overflow {
            Overflow::Fold(_) => fold(text, width),
            Overflow::Keep | Overflow::Cut(_) => vec![cut(text, width)],
        }
    }
}

#[derive(Clone, Debug)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    pub fn new(columns: impl Into<Vec<Column>>) -> Self {
        Self { columns: columns.into(), rows: Vec::new() }
    }

    /// Adds a row. Missing cells are empty.
    pub fn row(&mut self, cells: impl Into<Vec<Cell>>) {
        let mut cells = cells.into();
        cells.resize_with(self.columns.len(), Cell::default);
        self.rows.push(cells);
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Lays the table out in at most `width` columns of the screen. It is wider only if the columns that
    /// can't be dropped need more.
    pub fn render(&self, width: usize, palette: Palette) -> String {
        let shown = self.shown_columns(width);
        let mut builder = Builder::new();
        builder.push_record(shown.iter().map(|column| palette.paint(column.column.title, Tone::Dim)));
        for row in &self.rows {
            builder.push_record(shown.iter().map(|column| column.render(row, palette)));
        }
        let mut table = builder.build();
        table.with(Style::empty()).with(Padding::new(0, GAP, 0, 0));
        for (position, column) in shown.iter().enumerate() {
            if column.column.is_right_aligned {
                table.modify(Columns::one(position), Alignment::right());
            }
        }
        let text = table.to_string();
        text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
    }

    /// Drops columns until the rest fits, then gives the remaining room to the columns from left to right.
    fn shown_columns(&self, width: usize) -> Vec<ShownColumn<'_>> {
        let mut shown: Vec<_> = (0..self.columns.len()).map(|index| self.narrowest(index)).collect();
        while total_width(&shown) > width {
            let optional = shown.iter().filter(|shown| shown.column.drop_order > 0);
            let Some(dropped) = optional.max_by_key(|shown| shown.column.drop_order).map(|it| it.index)
            else {
                break;
            };
            shown.retain(|shown| shown.index != dropped);
        }
        let mut spare = width.saturating_sub(total_width(&shown));
        for column in &mut shown {
            let more = spare.min(column.natural_width - column.width);
            column.width += more;
            spare -= more;
        }
        shown
    }

    fn narrowest(&self, index: usize) -> ShownColumn<'_> {
        let column = &self.columns[index];
        let texts = self.rows.iter().map(|row| get_line_width(&row[index].text));
        let natural_width = texts.max().unwrap_or(0).max(column.title.len());
        ShownColumn { index, column, natural_width, width: column.min_width(natural_width) }
    }
}

/// A column with the width that it gets.
struct ShownColumn<'a> {
    index: usize,
    column: &'a Column,
    /// The width of the widest text or of the title.
    natural_width: usize,
    width: usize,
}

impl ShownColumn<'_> {
    fn render(&self, row: &[Cell], palette: Palette) -> String {
        let cell = &row[self.index];
        let lines = self.column.fit(&cell.text, self.width);
        lines.iter().map(|line| palette.paint(line, cell.tone)).collect::<Vec<_>>().join("\n")
    }
}

fn total_width(shown: &[ShownColumn<'_>]) -> usize {
    let gaps = GAP * shown.len().saturating_sub(1);
    shown.iter().map(|column| column.width).sum::<usize>() + gaps
}

/// The text, cut and ended with an ellipsis if it is wider than this.
pub fn cut(text: &str, width: usize) -> String {
    if get_line_width(text) <= width {
        return text.to_owned();
    }
    let (kept, _) = split_at_width(text, width.saturating_sub(1));
    format!("{kept}…")
}

/// Folds the text into lines of at most this width, between words if possible.
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

/// Splits after the longest prefix of at most this width; the prefix has at least one character.
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
    fn a_table_is_not_wider_than_the_screen() {
        for width in 18..120 {
            let text = sample().render(width, Palette::Plain);
            assert!(widest(&text) <= width, "{width}:\n{text}");
        }
        // On a screen that is too small for the columns that can't be dropped, it is as narrow as possible.
        assert!(widest(&sample().render(1, Palette::Plain)) <= 17);
    }

    #[test]
    fn columns_with_a_high_drop_order_are_dropped_first() {
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
    fn colours_do_not_change_the_layout() {
        let mut table = Table::new([Column::new("A"), Column::new("B")]);
        table.row([cell("yes").tone(Tone::Good), cell("x")]);
        let plain = table.render(80, Palette::Plain);
        let painted = table.render(80, Palette::Ansi);
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
