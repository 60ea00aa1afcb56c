//! Log files: one for each run, the newest ten are kept. Lines that can't be written are dropped.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use mcpd_common::ids::RunId;
use mcpd_common::paths::private_directory;
use tracing_subscriber::fmt::MakeWriter;

/// Prefix of the debug log's files.
pub const DEBUG: &str = "mcpd";
/// Prefix of the shutdown log's files.
pub const SHUTDOWN: &str = "shutdown";
/// Runs whose log files are kept.
const KEPT: usize = 10;

/// A log file whose writes never fail for the caller; `None`: lines are dropped.
pub struct LogFile(Option<File>);

impl LogFile {
    /// Opens this run's file and removes the oldest files.
    pub fn open(log_dir: &Path, kind: &str, run: RunId) -> io::Result<Self> {
        private_directory::prepare(log_dir)?;
        let file = OpenOptions::new().create(true).append(true).open(path(log_dir, kind, run))?;
        forget_old(log_dir, kind)?;
        Ok(Self(Some(file)))
    }

    /// Drops all lines.
    pub fn nowhere() -> Self {
        Self(None)
    }
}

fn path(log_dir: &Path, kind: &str, run: RunId) -> PathBuf {
    log_dir.join(format!("{kind}-{run}.log"))
}

/// Run ids begin with their time, so that names sort like runs.
fn forget_old(log_dir: &Path, kind: &str) -> io::Result<()> {
    let prefix = format!("{kind}-");
    let mut files: Vec<_> = std::fs::read_dir(log_dir)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.strip_prefix(&prefix)
                .and_then(|rest| rest.strip_suffix(".log"))
                .is_some_and(|run| run.parse::<RunId>().is_ok())
        })
        .collect();
    files.sort();
    for old in files.iter().rev().skip(KEPT) {
        std::fs::remove_file(old)?;
    }
    Ok(())
}

impl<'a> MakeWriter<'a> for LogFile {
    type Writer = LogLine<'a>;

    fn make_writer(&'a self) -> LogLine<'a> {
        LogLine(self.0.as_ref())
    }
}

/// Writes one event with one write(2), so that lines of several threads never mix.
pub struct LogLine<'a>(Option<&'a File>);

impl Write for LogLine<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(mut file) = self.0 {
            // A full disk must stop neither work nor shutdown (R-LOG-5).
            let _ = file.write_all(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use mcpd_common::ids::RunTag;

    /// R-LOG-3.
    #[test]
    fn the_newest_ten_runs_are_kept_and_strangers_are_left_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("mcpd-notes.log"), "mine").expect("written");
        for second in 0..15 {
            let run = RunId::new(Timestamp::from_second(second).expect("in range"), RunTag(1));
            LogFile::open(directory.path(), DEBUG, run).expect("opened");
        }
        let mut names: Vec<_> = std::fs::read_dir(directory.path())
            .expect("readable")
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("text"))
            .collect();
        names.sort();
        assert_eq!(names.len(), 11);
        assert_eq!(names[0], "mcpd-19700101T000005Z-00000001.log");
        assert!(names.contains(&"mcpd-notes.log".to_owned()));
    }
}
