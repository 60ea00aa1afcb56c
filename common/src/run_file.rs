//! The run file: what the next start needs to know if this daemon dies (R-LOG-1, R-CONT-6).
//!
//! A small plain JSON file, on disk before the first worker is started, so that no process of
//! ours ever exists without a durable trace of the run it belongs to. It is removed as the
//! last step of a completed shutdown; a run file that is there says "not completed".

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::ids::{Pid, Port, RunId, Slot, WorkerName};
use crate::os::process::StartTime;
use crate::paths::durable;

/// The `schema` of a [`RunFile`].
pub const RUN_FILE_SCHEMA: &str = "mcpd.run.v1";

/// What is remembered of a run while it lasts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunFile {
    /// [`RUN_FILE_SCHEMA`].
    pub schema: String,
    /// The run.
    pub run: RunId,
    /// The boot it belongs to: after another boot nothing of it is alive. Empty where the
    /// platform does not tell.
    pub boot_id: String,
    /// The daemon's own process.
    pub daemon: ProcessId,
    /// Its guardian, the process that a service manager sees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guardian: Option<ProcessId>,
    /// Its control socket.
    pub socket: PathBuf,
    /// Its version.
    pub version: String,
    /// Its workers, by slot.
    pub workers: Vec<WorkerEntry>,
}

/// A pid and the start time that makes it one process and no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// The pid.
    pub pid: Pid,
    /// When it started, in the platform's own unit.
    pub start: StartTime,
}

/// A worker in the run file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerEntry {
    /// Its number, which its processes carry in their mark.
    pub slot: Slot,
    /// Its name.
    pub name: WorkerName,
    /// Its port.
    pub port: Port,
    /// Its repository.
    pub repo: PathBuf,
    /// Its leader, if it had one when this was written. Never needed as proof: the mark is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<ProcessId>,
}

/// Why there is no run file to be had.
#[derive(Debug, thiserror::Error)]
pub enum RunFileError {
    /// It can't be read.
    #[error("can't read the run file {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not what a daemon wrote.
    #[error("the run file {} is damaged: {source}", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// Where, and how.
        source: serde_json::Error,
    },
    /// Another version of mcpd wrote it.
    #[error("the run file {} has the unknown schema \"{schema}\"", path.display())]
    Schema {
        /// Which.
        path: PathBuf,
        /// What it says.
        schema: String,
    },
    /// It can't be written or removed.
    #[error("can't write the run file {}: {source}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl RunFile {
    /// Writes it; when this returns `Ok` it is on disk.
    pub fn write(&self, path: &Path) -> Result<(), RunFileError> {
        let bytes = serde_json::to_vec_pretty(self).map_err(io::Error::from);
        bytes
            .and_then(|bytes| durable::write(path, &bytes))
            .map_err(|source| RunFileError::Write { path: path.to_owned(), source })
    }

    /// Reads it; `None` if there is none.
    pub fn read(path: &Path) -> Result<Option<Self>, RunFileError> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(RunFileError::Read { path: path.to_owned(), source }),
        };
        let read: Self = serde_json::from_slice(&bytes)
            .map_err(|source| RunFileError::Damaged { path: path.to_owned(), source })?;
        match read.schema == RUN_FILE_SCHEMA {
            true => Ok(Some(read)),
            false => Err(RunFileError::Schema { path: path.to_owned(), schema: read.schema }),
        }
    }

    /// Removes it; nothing happens if there is none.
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
    fn it_survives_the_disk() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("run.json");
        assert!(RunFile::read(&path).expect("absence is no error").is_none());
        sample().write(&path).expect("written");
        assert_eq!(RunFile::read(&path).expect("read"), Some(sample()));
        RunFile::remove(&path).expect("removed");
        RunFile::remove(&path).expect("idempotent");
    }

    #[test]
    fn a_foreign_schema_is_named() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("run.json");
        RunFile { schema: "mcpd.run.v9".to_owned(), ..sample() }.write(&path).expect("written");
        let error = RunFile::read(&path).expect_err("not ours");
        assert!(error.to_string().contains("mcpd.run.v9"), "{error}");
    }

    proptest! {
        #[test]
        fn damage_is_an_error_and_never_a_panic(cut in 0usize..400, noise in proptest::collection::vec(any::<u8>(), 0..20)) {
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
