//! The known-processes file: the processes that the daemon has attributed to workers, although neither their
//! mark nor their parent may show it any more. Recovery reads it on systems without a subreaper (R-CONT-7).
//!
//! The file is replaced whenever the list changes. It is not synced to disk: after a crash of the
//! machine none of its processes exists. Without the file, recovery finds only processes with a mark.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::ids::{RunTag, Slot};
use crate::os::{self, process::Process};
use crate::paths::durable;
use crate::run_file::ProcessId;

/// The `schema` of the file.
const SCHEMA: &str = "mcpd.members.v1";

/// A process and the worker that it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownProcess {
    /// In JSON its fields are beside `slot`.
    #[serde(flatten)]
    pub process: ProcessId,
    /// The number of the worker.
    pub slot: Slot,
}

/// The worker of this process; `None` if it is not in the list.
pub fn slot_of(known: &[KnownProcess], process: &Process) -> Option<Slot> {
    let process = ProcessId { pid: process.pid, start: process.start };
    known.iter().find(|known| known.process == process).map(|known| known.slot)
}

#[derive(Serialize, Deserialize)]
struct Content {
    schema: String,
    run: u32,
    boot_id: String,
    members: Vec<KnownProcess>,
}

/// The file, as the daemon writes it.
#[derive(Debug)]
pub struct KnownProcessesFile {
    path: PathBuf,
    run: RunTag,
    written: Vec<KnownProcess>,
}

impl KnownProcessesFile {
    /// Writes nothing yet.
    pub fn new(path: PathBuf, run: RunTag) -> Self {
        Self { path, run, written: Vec::new() }
    }

    /// Replaces the content with `known`, the complete list, if it changed. After an error of the file system
    /// the next change writes the file again.
    pub fn update(&mut self, mut known: Vec<KnownProcess>) {
        known.sort_by_key(|known| (known.process.pid, known.process.start));
        if known != self.written && self.write(&known).is_ok() {
            self.written = known;
        }
    }

    fn write(&self, known: &[KnownProcess]) -> io::Result<()> {
        let content = Content {
            schema: SCHEMA.to_owned(),
            run: self.run.0,
            boot_id: os::boot_id().unwrap_or_default(),
            members: known.to_vec(),
        };
        durable::replace(&self.path, &serde_json::to_vec(&content)?)
    }
}

/// The processes that the daemon of this run has written. Empty if the file is missing, can't be read, or
/// belongs to another run or another boot.
pub fn of_run(path: &Path, run: RunTag) -> Vec<KnownProcess> {
    let Ok(bytes) = fs::read(path) else { return Vec::new() };
    let Ok(content) = serde_json::from_slice::<Content>(&bytes) else { return Vec::new() };
    let is_current = content.schema == SCHEMA
        && content.run == run.0
        && content.boot_id == os::boot_id().unwrap_or_default();
    if is_current { content.members } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Pid;
    use crate::os::process::StartTime;

    const RUN: RunTag = RunTag(7);

    fn known(start: u64) -> KnownProcess {
        KnownProcess { process: ProcessId { pid: Pid::current(), start: StartTime(start) }, slot: Slot(1) }
    }

    /// R-CONT-7.
    #[test]
    fn the_last_update_is_read() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("members.json");
        let mut known_file = KnownProcessesFile::new(path.clone(), RUN);
        assert_eq!(of_run(&path, RUN), []);
        known_file.update(vec![known(2), known(1)]);
        assert_eq!(of_run(&path, RUN), [known(1), known(2)]);
        known_file.update(vec![]);
        assert_eq!(of_run(&path, RUN), []);
    }

    #[test]
    fn a_file_of_another_run_or_boot_counts_as_empty() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("members.json");
        KnownProcessesFile::new(path.clone(), RUN).update(vec![known(1)]);
        assert_eq!(of_run(&path, RunTag(8)), []);
        let text = fs::read_to_string(&path).expect("written");
        let boot = os::boot_id().expect("a boot");
        for other in [text.replace(&boot, "another boot"), text.replace(SCHEMA, "x"), "garbage".to_owned()] {
            fs::write(&path, other).expect("written");
            assert_eq!(of_run(&path, RUN), []);
        }
    }

    #[test]
    fn an_unchanged_list_is_not_written_again() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("members.json");
        let mut known_file = KnownProcessesFile::new(path.clone(), RUN);
        known_file.update(vec![known(1)]);
        fs::remove_file(&path).expect("written");
        known_file.update(vec![known(1)]);
        assert!(!path.exists());
        known_file.update(vec![known(2)]);
        assert_eq!(of_run(&path, RUN), [known(2)]);
    }
}
