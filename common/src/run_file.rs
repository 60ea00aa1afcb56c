//! The run file: the data that the next start needs if this daemon crashes (R-LOG-1, R-CONT-6).
//!
//! A small JSON file. It is on disk before the first worker is started, so that there is a record of the
//! run for every process of a worker. The last step of a complete shutdown removes it: a run file
//! without a running daemon means that the shutdown was not complete.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::ids::{Pid, Port, RunId, Slot, WorkerName};
use crate::os::process::StartTime;
use crate::paths::durable;

/// The `schema` of a [`RunFile`].
pub const RUN_FILE_SCHEMA: &str = "mcpd.run.v1";

/// The content of the run file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunFile {
    /// [`RUN_FILE_SCHEMA`].
    pub schema: String,
    /// Identifies the run.
    pub run: RunId,
    /// Identifies the boot of the machine: after a reboot no process of the run exists. Empty if the platform
    /// provides no boot id.
    pub boot_id: String,
    /// The daemon, not its guardian.
    pub daemon: ProcessId,
    /// The guardian, which a service manager supervises.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guardian: Option<ProcessId>,
    /// The control socket.
    pub socket: PathBuf,
    /// The version of mcpd.
    pub version: String,
    /// Sorted by slot.
    pub workers: Vec<WorkerEntry>,
}

/// A pid with a start time, which together identify a process even if the pid is reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// Unique only together with `start`.
    pub pid: Pid,
    /// The start time in the platform's unit.
    pub start: StartTime,
}

/// A worker in the run file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerEntry {
    /// The number in the marks of its processes.
    pub slot: Slot,
    /// As configured.
    pub name: WorkerName,
    /// The port for clients.
    pub port: Port,
    /// The absolute path of the repository.
    pub repo: PathBuf,
    /// The leader of its process group, if it was running when the file was written. Recovery does not rely
    /// on it, but on the marks of the processes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<ProcessId>,
}

/// Why the run file can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RunFileError {
    /// The file can't be read.
    #[error("can't read the run file {}: {source}", path.display())]
    Read {
        /// The run file.
        path: PathBuf,
        /// The error of the file system.
        source: io::Error,
    },
    /// The file can't be parsed.
    #[error("the run file {} is damaged: {source}", path.display())]
    Damaged {
        /// The run file.
        path: PathBuf,
        /// The error of the parser, with line and column.
        source: serde_json::Error,
    },
    /// Another version of mcpd wrote the file.
    #[error("the run file {} has the unknown schema \"{schema}\", so another version of mcpd wrote it", path.display())]
    Schema {
        /// The run file.
        path: PathBuf,
        /// The schema in the file.
        schema: String,
    },
    /// The file can't be written or removed.
    #[error("can't write or remove the run file {}: {source}", path.display())]
    Write {
        /// The run file.
        path: PathBuf,
        /// The error of the file system.
        source: io::Error,
    },
}

impl RunFile {
    /// Replaces the file, and returns when it is on disk.
    pub fn write(&self, path: &Path) -> Result<(), RunFileError> {
        serde_json::to_vec_pretty(self)
            .map_err(io::Error::from)
            .and_then(|bytes| durable::write(path, &bytes))
            .map_err(|source| RunFileError::Write { path: path.to_owned(), source })
    }

    /// `None` if the file does not exist.
    pub fn read(path: &Path) -> Result<Option<Self>, RunFileError> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(RunFileError::Read { path: path.to_owned(), source }),
        };
        let read: Self = serde_json::from_slice(&bytes)
            .map_err(|source| RunFileError::Damaged { path: path.to_owned(), source })?;
        if read.schema != RUN_FILE_SCHEMA {
            return Err(RunFileError::Schema { path: path.to_owned(), schema: read.schema });
        }
        Ok(Some(read))
    }

    /// Does nothing if the file does not exist.
    pub fn remove(path: &Path) -> Result<(), RunFileError> {
        durable::remove(path).map_err(|source| RunFileError::Write { path: path.to_owned(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::RunTag;
    use proptest::prelude::*;

    fn sample() -> RunFile {
        let process = ProcessId { pid: Pid::current(), start: StartTime(4711) };
        RunFile {
            schema: RUN_FILE_SCHEMA.to_owned(),
            run: RunId::new(jiff::Timestamp::UNIX_EPOCH, RunTag(0x3f9a_2c77)),
            boot_id: "b".to_owned(),
            daemon: process,
            guardian: Some(process),
            socket: "/run/user/1/mcpd/control.sock".into(),
            version: "0.1.0".to_owned(),
            workers: vec![WorkerEntry {
                slot: Slot(0),
                name: "alpha".parse().expect("a name"),
                port: Port::new(8081).expect("a port"),
                repo: "/src/alpha".into(),
                process: Some(process),
            }],
        }
    }

    /// R-LOG-1.
    #[test]
    fn the_file_is_read_as_it_was_written() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("run.json");
        assert!(RunFile::read(&path).expect("absence is no error").is_none());
        sample().write(&path).expect("written");
        assert_eq!(RunFile::read(&path).expect("read"), Some(sample()));
        RunFile::remove(&path).expect("removed");
        RunFile::remove(&path).expect("idempotent");
    }

    #[test]
    fn an_unknown_schema_is_named_in_the_error() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("run.json");
        RunFile { schema: "mcpd.run.v9".to_owned(), ..sample() }.write(&path).expect("written");
        let error = RunFile::read(&path).expect_err("an unknown schema");
        assert!(error.to_string().contains("mcpd.run.v9"), "{error}");
    }

    proptest! {
        #[test]
        fn a_damaged_file_is_an_error_and_causes_no_panic(cut in 0usize..400, noise in proptest::collection::vec(any::<u8>(), 0..20)) {
            let dir = tempfile::tempdir().expect("a temporary directory");
            let path = dir.path().join("run.json");
            let mut bytes = serde_json::to_vec(&sample()).expect("serializable");
            bytes.truncate(cut.min(bytes.len() - 1));
            bytes.extend(noise);
            std::fs::write(&path, bytes).expect("written");
            let _ = RunFile::read(&path);
        }
    }
}
