//! Shows lines of a text file or of a blob.

use std::fs::File;
use std::io::{self, Read};

use super::git::{MAX_OUTPUT, cut_note};

/// Limit in bytes for the end of a range of lines: the file is read up to there.
const MAX_READ: u64 = 64 * 1024 * 1024;

/// LineRange, counted from 1, both ends included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LineRange {
    /// `None`: from the beginning.
    pub first: Option<u32>,
    /// `None`: to the end.
    pub last: Option<u32>,
}

/// Why a text can't be shown.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    #[error("\"{0}\" is a binary file")]
    Binary(String),
    #[error("\"{path}\" has {count} lines; {asked} is past its end")]
    PastEnd {
        path: String,
        /// The number of lines in the text.
        count: usize,
        /// The first requested line.
        asked: u32,
    },
    /// A line number is 0, or the last line is before the first one.
    #[error("start_line and end_line count from 1, and end_line must not be less than start_line")]
    InvalidRange,
    #[error("can't read \"{path}\": {source}")]
    Read { path: String, source: io::Error },
}

impl LineRange {
    /// Fails if the range is invalid.
    pub fn check(self) -> Result<Self, TextError> {
        let first = self.first.unwrap_or(1);
        let is_valid = first > 0 && self.last.is_none_or(|last| last >= first);
        if is_valid { Ok(self) } else { Err(TextError::InvalidRange) }
    }
}

/// The lines of an open file. Blocks.
pub fn read(file: File, path: &str, lines: LineRange) -> Result<String, TextError> {
    let mut bytes = Vec::new();
    let limit = if lines == LineRange::default() { MAX_OUTPUT } else { MAX_READ };
    file.take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| TextError::Read { path: path.to_owned(), source })?;
    show(bytes, path, lines)
}

/// The lines of a text, cut at the limit for clients.
pub fn show(bytes: Vec<u8>, path: &str, lines: LineRange) -> Result<String, TextError> {
    if bytes.iter().take(8000).any(|byte| *byte == 0) {
        return Err(TextError::Binary(path.to_owned()));
    }
    let text = String::from_utf8_lossy(&bytes);
    let mut selected = select(&text, path, lines.check()?)?;
    let max = usize::try_from(MAX_OUTPUT).unwrap_or(usize::MAX);
    if selected.len() > max {
        selected.truncate(selected.floor_char_boundary(max));
        selected.push_str(&cut_note());
    }
    Ok(selected)
}

fn select(text: &str, path: &str, lines: LineRange) -> Result<String, TextError> {
    let first = lines.first.unwrap_or(1);
    let skip = usize::try_from(first - 1).unwrap_or(usize::MAX);
    let count = lines.last.map_or(usize::MAX, |last| usize::try_from(last - first).unwrap_or(usize::MAX) + 1);
    let selected: String = text.split_inclusive('\n').skip(skip).take(count).collect();
    if selected.is_empty() && first > 1 {
        let count = text.lines().count();
        return Err(TextError::PastEnd { path: path.to_owned(), count, asked: first });
    }
    Ok(selected)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(first: u32, last: u32) -> LineRange {
        LineRange { first: Some(first), last: Some(last) }
    }

    #[test]
    fn the_requested_lines_are_shown() {
        let text = || b"one\ntwo\nthree\n".to_vec();
        assert_eq!(show(text(), "f", LineRange::default()).expect("text"), "one\ntwo\nthree\n");
        assert_eq!(show(text(), "f", lines(2, 2)).expect("text"), "two\n");
        assert_eq!(show(text(), "f", lines(2, 99)).expect("text"), "two\nthree\n");
        assert_eq!(show(Vec::new(), "f", LineRange::default()).expect("text"), "");
        assert!(matches!(show(text(), "f", lines(4, 9)), Err(TextError::PastEnd { count: 3, .. })));
        for range in [lines(0, 1), lines(3, 2)] {
            assert!(matches!(show(text(), "f", range), Err(TextError::InvalidRange)));
        }
    }

    #[test]
    fn binary_files_are_refused_and_long_ones_are_cut() {
        assert!(matches!(show(b"\x7fELF\0".to_vec(), "f", LineRange::default()), Err(TextError::Binary(_))));
        let long = show(vec![b'x'; 3 << 20], "f", LineRange::default()).expect("text");
        assert!(long.ends_with(&cut_note()) && long.len() < 1_100_000);
    }
}
