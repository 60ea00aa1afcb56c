//! The end of a file, and what is written to it from then on, also past its rotation.

use std::fs::{File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// How much is read at once.
const BLOCK: u64 = 64 << 10;

/// A file that is read from its end.
#[derive(Debug)]
pub struct Tail {
    path: PathBuf,
    file: Option<File>,
    position: u64,
    /// A line without its end.
    partial: Vec<u8>,
}

impl Tail {
    /// The file at this path, which need not exist yet.
    pub fn new(path: PathBuf) -> Self {
        Self { path, file: None, position: 0, partial: Vec::new() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The last lines; reading goes on after them.
    pub fn last(&mut self, lines: usize) -> io::Result<Vec<Vec<u8>>> {
        let Some(mut file) = open(&self.path)? else { return Ok(Vec::new()) };
        let end = file.seek(SeekFrom::End(0))?;
        let start = start_of_last(&mut file, end, lines)?;
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        Read::by_ref(&mut file).take(end - start).read_to_end(&mut bytes)?;
        self.file = Some(file);
        self.position = end;
        let mut found = self.split(&bytes);
        // A last line that is still being written is shown as it is; what follows is a line of its own.
        if !self.partial.is_empty() {
            found.push(std::mem::take(&mut self.partial));
        }
        Ok(found.split_off(found.len().saturating_sub(lines)))
    }

    /// The lines written since. A file that was renamed is read to its end before the new one.
    pub fn more(&mut self) -> io::Result<Vec<Vec<u8>>> {
        let mut lines = self.drain()?;
        let now = open(&self.path)?;
        let replaced = match (&self.file, &now) {
            (Some(old), Some(new)) => identity(&old.metadata()?) != identity(&new.metadata()?),
            (None, Some(_)) => true,
            (_, None) => false,
        };
        if replaced {
            // Between the first look and the renaming something may have come.
            lines.extend(self.drain()?);
            self.file = now;
            self.position = 0;
            lines.extend(self.drain()?);
        }
        Ok(lines)
    }

    fn drain(&mut self) -> io::Result<Vec<Vec<u8>>> {
        let Some(file) = &mut self.file else { return Ok(Vec::new()) };
        if file.metadata()?.len() < self.position {
            // It was emptied in place.
            self.position = 0;
        }
        file.seek(SeekFrom::Start(self.position))?;
        let mut bytes = Vec::new();
        self.position += file.read_to_end(&mut bytes)? as u64;
        Ok(self.split(&bytes))
    }

    fn split(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
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

/// `None` if there is no such file (yet).
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

/// Where the last lines begin, found by reading backwards: a log may be large.
fn start_of_last(file: &mut File, end: u64, lines: usize) -> io::Result<u64> {
    let mut wanted = lines;
    let mut position = end;
    let mut block = Vec::new();
    while position > 0 {
        let start = position.saturating_sub(BLOCK);
        block.clear();
        file.seek(SeekFrom::Start(start))?;
        Read::by_ref(file).take(position - start).read_to_end(&mut block)?;
        for (at, byte) in block.iter().enumerate().rev() {
            let place = start + at as u64 + 1;
            // The end of the last line begins no other.
            if *byte == b'\n' && place < end {
                if wanted <= 1 {
                    return Ok(if wanted == 0 { end } else { place });
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
    fn the_last_lines_of_a_long_file() {
        let (_dir, path) = log();
        let all: Vec<_> = (0..30_000).map(|n| format!("line {n}")).collect();
        fs::write(&path, all.join("\n") + "\n").expect("written");
        for count in [0, 1, 2, 50, 29_999, 30_000, 40_000] {
            let lines = texts(Tail::new(path.clone()).last(count).expect("read"));
            assert_eq!(lines, all[all.len().saturating_sub(count)..], "{count}");
        }
    }

    #[test]
    fn a_file_that_is_not_there_has_no_lines_yet() {
        let (_dir, path) = log();
        let mut tail = Tail::new(path.clone());
        assert!(tail.last(5).expect("no error").is_empty());
        fs::write(&path, "first\n").expect("written");
        assert_eq!(texts(tail.more().expect("read")), ["first"]);
    }

    #[test]
    fn a_line_comes_when_it_is_whole() {
        let (_dir, path) = log();
        fs::write(&path, "a\nb").expect("written");
        let mut tail = Tail::new(path.clone());
        assert_eq!(texts(tail.last(5).expect("read")), ["a", "b"]);
        let mut file = File::options().append(true).open(&path).expect("open");
        file.write_all(b"\nhalf").expect("written");
        assert_eq!(texts(tail.more().expect("read")), [""]);
        file.write_all(b" whole\n").expect("written");
        assert_eq!(texts(tail.more().expect("read")), ["half whole"]);
    }

    #[test]
    fn rotation_loses_nothing() {
        let (dir, path) = log();
        fs::write(&path, "old\n").expect("written");
        let mut tail = Tail::new(path.clone());
        assert_eq!(texts(tail.last(5).expect("read")), ["old"]);
        let mut file = File::options().append(true).open(&path).expect("open");
        file.write_all(b"last of the old\n").expect("written");
        fs::rename(&path, dir.path().join("docs.log.1")).expect("renamed");
        fs::write(&path, "first of the new\n").expect("written");
        assert_eq!(texts(tail.more().expect("read")), ["last of the old", "first of the new"]);
        assert!(tail.more().expect("read").is_empty());
    }
}
