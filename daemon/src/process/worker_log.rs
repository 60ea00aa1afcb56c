//! One worker's log file, rotated by size. Writing never fails for the caller.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use mcpd_common::paths::durable;

/// Size in bytes at which the file is rotated.
const ROTATE_AT: u64 = 10 * 1024 * 1024;
/// Bytes that are written to a file that can't be rotated, before the next attempt.
const RETRY_AFTER: u64 = 1024 * 1024;
/// Size in bytes at which a file that can't be rotated gets no more output.
const MAX_SIZE: u64 = 2 * ROTATE_AT;
/// Rotated files that are kept besides the current one: `NAME.log.1` is the newest.
const KEPT: u32 = 3;

pub struct WorkerLog {
    path: PathBuf,
    file: Option<File>,
    size: u64,
    /// The size at which the next rotation is due.
    rotate_at: u64,
    dropped: u64,
}

impl WorkerLog {
    /// The file is opened at the first write.
    pub fn new(path: PathBuf) -> Self {
        Self { path, file: None, size: 0, rotate_at: ROTATE_AT, dropped: 0 }
    }

    /// Appends, or drops the bytes and logs that once.
    pub fn write(&mut self, bytes: &[u8]) {
        match self.try_write(bytes) {
            Ok(()) if self.dropped > 0 => {
                tracing::info!(path = %self.path.display(), dropped = self.dropped, "worker log is written again");
                self.dropped = 0;
            }
            Ok(()) => {}
            Err(error) => {
                if self.dropped == 0 {
                    tracing::warn!(path = %self.path.display(), %error, "can't write worker log, its output is dropped");
                }
                self.file = None;
                self.dropped += bytes.len() as u64;
            }
        }
    }

    /// Counts output that was lost before it came here.
    pub fn add_dropped(&mut self, bytes: u64) {
        if self.dropped == 0 && bytes > 0 {
            tracing::warn!(path = %self.path.display(), "the disk is too slow for a worker's output, some is dropped");
        }
        self.dropped += bytes;
    }

    fn try_write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.size >= self.rotate_at {
            self.rotate()?;
        }
        // A file that was deleted is made again: what is written to it could never be read.
        let is_deleted = |file: &File| file.metadata().is_ok_and(|file| file.nlink() == 0);
        let file = match self.file.take_if(|file| !is_deleted(file)) {
            Some(file) => self.file.insert(file),
            None => {
                let (file, size) = open(&self.path)?;
                self.size = size;
                self.rotate_at = ROTATE_AT.max(size.min(self.rotate_at));
                self.file.insert(file)
            }
        };
        file.write_all(bytes)?;
        self.size += bytes.len() as u64;
        Ok(())
    }

    /// If the file can't be renamed, it is written on for a while.
    fn rotate(&mut self) -> io::Result<()> {
        for number in (1..KEPT).rev() {
            // Missing ones are no error: there may be fewer.
            let _ = std::fs::rename(numbered(&self.path, number), numbered(&self.path, number + 1));
        }
        match std::fs::rename(&self.path, numbered(&self.path, 1)) {
            Ok(()) => {
                *self = Self { dropped: self.dropped, ..Self::new(std::mem::take(&mut self.path)) };
                Ok(())
            }
            Err(error) if self.size >= MAX_SIZE => Err(error),
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "can't rotate a worker log");
                self.rotate_at = self.size + RETRY_AFTER;
                Ok(())
            }
        }
    }
}

fn open(path: &Path) -> io::Result<(File, u64)> {
    if let Some(directory) = path.parent() {
        durable::make_directory(directory)?;
    }
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    let size = file.metadata()?.len();
    Ok((file, size))
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_log_is_put_aside_and_the_oldest_is_forgotten() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("workers/alpha.log");
        let mut log = WorkerLog::new(path.clone());
        let megabyte = vec![b'x'; 1024 * 1024];
        for _ in 0..65 {
            log.write(&megabyte);
        }
        assert!(path.exists() && numbered(&path, KEPT).exists());
        assert!(!numbered(&path, KEPT + 1).exists());
        assert!(std::fs::metadata(&path).expect("it is there").len() <= ROTATE_AT);
    }

    /// A rotation that fails loses nothing until the file is twice as large, and one that succeeds ends that.
    #[test]
    fn a_log_that_cannot_be_rotated_is_written_on() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("alpha.log");
        // A directory that is not empty can't be replaced.
        for number in 1..=KEPT {
            std::fs::create_dir_all(numbered(&path, number).join("obstacle")).expect("made");
        }
        let size = || std::fs::metadata(&path).map_or(0, |file| file.len());
        let mut log = WorkerLog::new(path.clone());
        let megabyte = vec![b'x'; 1024 * 1024];
        for _ in 0..15 {
            log.write(&megabyte);
        }
        assert_eq!((size(), log.dropped), (15 << 20, 0));
        for _ in 0..10 {
            log.write(&megabyte);
        }
        assert_eq!((size(), log.dropped), (MAX_SIZE, 5 << 20));
        std::fs::remove_dir_all(numbered(&path, 1)).expect("removed");
        log.write(&megabyte);
        assert_eq!((size(), log.dropped), (1 << 20, 0));
    }

    #[test]
    fn a_deleted_log_is_made_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("workers/alpha.log");
        let mut log = WorkerLog::new(path.clone());
        log.write(b"before");
        std::fs::remove_dir_all(directory.path().join("workers")).expect("removed");
        log.write(b"after");
        assert_eq!(std::fs::read(&path).expect("made again"), b"after");
    }

    /// R-LOG-5: errors of the disk never reach the worker.
    #[test]
    fn an_unwritable_log_drops_and_goes_on() {
        let mut log = WorkerLog::new(PathBuf::from("/dev/full"));
        log.write(b"lost");
        log.write(b"lost too");
        assert_eq!(log.dropped, 12);
    }
}
