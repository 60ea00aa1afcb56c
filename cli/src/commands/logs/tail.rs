//! Reads the last lines of a file and the lines that are appended later, across rotations.

use std::fs::{File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Bytes per read when the start of the last lines is searched backwards.
const BLOCK_SIZE: u64 = 64 << 10;

#[derive(Debug)]
pub struct Tail {
    path: PathBuf,
    file: Option<File>,
    position: u64,
    /// The beginning of a line whose end has not been written yet.
    partial: Vec<u8>,
}

impl Tail {
    /// The file need not exist yet.
    pub fn new(path: PathBuf) -> Self {
        Self { path, file: None, position: 0, partial: Vec::new() }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the last lines. [`Self::new_lines`] continues after them.
    pub fn last_lines(&mut self, lines: usize) -> io::Result<Vec<Vec<u8>>> {
        let Some(mut file) = open(&self.path)? else { return Ok(Vec::new()) };
        let end = file.seek(SeekFrom::End(0))?;
        let start = start_of_last(&mut file, end, lines)?;
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        Read::by_ref(&mut file).take(end - start).read_to_end(&mut bytes)?;
        self.file = Some(file);
        self.position = end;
        let mut found = self.split_lines(&bytes);
        // A last line without a newline is shown at once; what is appended to it becomes a line of its own.
        if !self.partial.is_empty() {
            found.push(std::mem::take(&mut self.partial));
        }
        Ok(found.split_off(found.len().saturating_sub(lines)))
    }

    /// Returns the lines written since the last call. After a rotation the renamed file is read to its end first.
    pub fn new_lines(&mut self) -> io::Result<Vec<Vec<u8>>> {
        let mut lines = self.read_to_end()?;
        let current = open(&self.path)?;
        let is_rotated = match (&self.file, &current) {
            (Some(old), Some(new)) => identity(&old.metadata()?) != identity(&new.metadata()?),
            (None, Some(_)) => true,
            (_, None) => false,
        };
        if is_rotated {
            // Lines may have been written between the first read and the rotation.
            lines.extend(self.read_to_end()?);
            self.file = current;
            self.position = 0;
            lines.extend(self.read_to_end()?);
        }
        Ok(lines)
    }

    fn read_to_end(&mut self) -> io::Result<Vec<Vec<u8>>> {
        let Some(file) = &mut self.file else { return Ok(Vec::new()) };
        if file.metadata()?.len() < self.position {
            // The file was truncated.
            self.position = 0;
        }
        file.seek(SeekFrom::Start(self.position))?;
        let mut bytes = Vec::new();
        self.position += file.read_to_end(&mut bytes)? as u64;
        Ok(self.split_lines(&bytes))
    }

    /// Keeps an incomplete last line in `partial`.
    fn split_lines(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut lines = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            match piece.split_last() {
                Some((b'\n', line)) => {
                    self.partial.extend_from_slice(line);
                    lines.push(std::mem::take(&mut self.partial));
                }
                _ => self.partial.extend_from_slice(piece),
            }
        }
        lines
    }
}

/// `None` if the file does not exist (yet).
fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn identity(meta: &Metadata) -> (u64, u64) {
    (meta.dev(), meta.ino())
}

/// The offset at which the last lines begin. Reads backwards, because a log can be large.
fn start_of_last(file: &mut File, end: u64, lines: usize) -> io::Result<u64> {
    let mut wanted = lines;
    let mut position = end;
    let mut block = Vec::new();
    while position > 0 {
        let start = position.saturating_sub(BLOCK_SIZE);
        block.clear();
        file.seek(SeekFrom::Start(start))?;
        Read::by_ref(file).take(position - start).read_to_end(&mut block)?;
        for (at, byte) in block.iter().enumerate().rev() {
            let line_start = start + at as u64 + 1;
            // No line begins after the newline at the end of the file.
            if *byte == b'\n' && line_start < end {
                if wanted <= 1 {
                    return Ok(if wanted == 0 { end } else { line_start });
                }
                wanted -= 1;
            }
        }
        position = start;
    }
    Ok(if lines == 0 { end } else { 0 })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::*;

    fn texts(lines: Vec<Vec<u8>>) -> Vec<String> {
        lines.into_iter().map(|line| String::from_utf8(line).expect("text")).collect()
    }

    fn log() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("docs.log");
        (dir, path)
    }

    #[test]
    fn the_last_lines_of_a_long_file_are_found() {
        let (_dir, path) = log();
        let all: Vec<_> = (0..30_000).map(|n| format!("line {n}")).collect();
        fs::write(&path, all.join("\n") + "\n").expect("written");
        for count in [0, 1, 2, 50, 29_999, 30_000, 40_000] {
            let lines = texts(Tail::new(path.clone()).last_lines(count).expect("read"));
            assert_eq!(lines, all[all.len().saturating_sub(count)..], "{count}");
        }
    }

    #[test]
    fn a_missing_file_has_no_lines_until_it_is_created() {
        let (_dir, path) = log();
        let mut tail = Tail::new(path.clone());
        assert!(tail.last_lines(5).expect("no error").is_empty());
        fs::write(&path, "first\n").expect("written");
        assert_eq!(texts(tail.new_lines().expect("read")), ["first"]);
    }

    #[test]
    fn an_appended_line_is_returned_when_it_is_complete() {
        let (_dir, path) = log();
        fs::write(&path, "a\nb").expect("written");
        let mut tail = Tail::new(path.clone());
        assert_eq!(texts(tail.last_lines(5).expect("read")), ["a", "b"]);
        let mut file = File::options().append(true).open(&path).expect("open");
        file.write_all(b"\nhalf").expect("written");
        assert_eq!(texts(tail.new_lines().expect("read")), [""]);
        file.write_all(b" whole\n").expect("written");
        assert_eq!(texts(tail.new_lines().expect("read")), ["half whole"]);
    }

    #[test]
    fn no_line_is_lost_in_a_rotation() {
        let (dir, path) = log();
        fs::write(&path, "old\n").expect("written");
        let mut tail = Tail::new(path.clone());
        assert_eq!(texts(tail.last_lines(5).expect("read")), ["old"]);
        let mut file = File::options().append(true).open(&path).expect("open");
        file.write_all(b"last of the old\n").expect("written");
        fs::rename(&path, dir.path().join("docs.log.1")).expect("renamed");
        fs::write(&path, "first of the new\n").expect("written");
        assert_eq!(texts(tail.new_lines().expect("read")), ["last of the old", "first of the new"]);
        assert!(tail.new_lines().expect("read").is_empty());
    }
}
