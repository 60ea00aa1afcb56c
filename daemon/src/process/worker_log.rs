//! One worker's log file, rotated by size. Writing never fails for the caller.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use mcpd_common::paths::durable;

/// Size in bytes at which the file is rotated.
const ROTATE_AT: u64 = 10 * 1024 * 1024;
/// Rotated files that are kept besides the current one: `NAME.log.1` is the newest.
const KEPT: u32 = 3;

pub struct WorkerLog {
    path: PathBuf,
    file: Option<File>,
    size: u64,
    dropped: u64,
}

impl WorkerLog {
    /// The file is opened at the first write.
    pub fn new(path: PathBuf) -> Self {
        Self { path, file: None, size: 0, dropped: 0 }
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

    fn try_write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.size >= ROTATE_AT {
            self.rotate()?;
        }
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                let (file, size) = open(&self.path)?;
                self.size = size;
                self.file.insert(file)
            }
        };
        file.write_all(bytes)?;
        self.size += bytes.len() as u64;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.file = None;
        self.size = 0;
        for number in (1..KEPT).rev() {
            // Missing ones are no error: there may be fewer.
            let _ = std::fs::rename(numbered(&self.path, number), numbered(&self.path, number + 1));
        }
        std::fs::rename(&self.path, numbered(&self.path, 1))
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

    /// R-LOG-5: errors of the disk never reach the worker.
    #[test]
    fn an_unwritable_log_drops_and_goes_on() {
        let mut log = WorkerLog::new(PathBuf::from("/dev/full"));
        log.write(b"lost");
        log.write(b"lost too");
        assert_eq!(log.dropped, 12);
    }
}
