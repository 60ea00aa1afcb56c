//! Whom a daemon knows to be its workers', although nothing about them may say so any more: for whoever
//! cleans up after it where nobody inherits orphans (R-CONT-7).
//!
//! A small file that is written anew whenever somebody comes or goes. What is lost of it costs a memory and
//! nothing else; after a crash of the machine nobody of it is alive, so it is not forced to the disk.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::ids::{RunTag, Slot};
use crate::os::{self, process::Process};
use crate::run_file::ProcessId;

/// The `schema` of the file.
const SCHEMA: &str = "mcpd.members.v1";

/// A process, and whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownProcess {
    /// The process: its start time makes it this one and no other.
    #[serde(flatten)]
    pub process: ProcessId,
    /// Its worker.
    pub slot: Slot,
}

/// Whose this process is, if it is among them.
pub fn slot_of(members: &[KnownProcess], process: &Process) -> Option<Slot> {
    let process = ProcessId { pid: process.pid, start: process.start };
    members.iter().find(|member| member.process == process).map(|member| member.slot)
}

#[derive(Serialize, Deserialize)]
struct Members {
    schema: String,
    run: u32,
    boot_id: String,
    members: Vec<KnownProcess>,
}

/// What a daemon writes them into.
#[derive(Debug)]
pub struct KnownProcessesFile {
    path: PathBuf,
    run: RunTag,
    written: Vec<KnownProcess>,
}

impl KnownProcessesFile {
    /// For this run, in this file.
    pub fn new(path: PathBuf, run: RunTag) -> Self {
        Self { path, run, written: Vec::new() }
    }

    /// These are all, now. A file that can't be written is tried again with the next change.
    pub fn note(&mut self, mut members: Vec<KnownProcess>) {
        members.sort_by_key(|member| (member.process.pid, member.process.start));
        if members != self.written && self.write(&members).is_ok() {
            self.written = members;
        }
    }

    fn write(&self, members: &[KnownProcess]) -> io::Result<()> {
        let (schema, boot_id) = (SCHEMA.to_owned(), os::boot_id().unwrap_or_default());
        let members = Members { schema, run: self.run.0, boot_id, members: members.to_vec() };
        let temporary = self.path.with_extension("new");
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(&serde_json::to_vec(&members)?)?;
        fs::rename(&temporary, &self.path)
    }
}

/// Whom the daemon of this run knew; nobody if there is no such file, or one of another run or boot.
pub fn of_run(path: &Path, run: RunTag) -> Vec<KnownProcess> {
    let read = fs::read(path).ok().and_then(|bytes| serde_json::from_slice::<Members>(&bytes).ok());
    let of_now = |members: &Members| {
        members.schema == SCHEMA
            && members.run == run.0
            && members.boot_id == os::boot_id().unwrap_or_default()
    };
    read.filter(of_now).map(|members| members.members).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Pid;
    use crate::os::process::StartTime;

    const RUN: RunTag = RunTag(7);

    fn member(start: u64) -> KnownProcess {
        KnownProcess { process: ProcessId { pid: Pid::current(), start: StartTime(start) }, slot: Slot(1) }
    }

    /// R-CONT-7: whoever cleans up knows whom the daemon knew.
    #[test]
    fn the_last_note_is_read() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("members.json");
        let mut known_file = KnownProcessesFile::new(path.clone(), RUN);
        assert_eq!(of_run(&path, RUN), []);
        known_file.note(vec![member(2), member(1)]);
        assert_eq!(of_run(&path, RUN), [member(1), member(2)]);
        known_file.note(vec![]);
        assert_eq!(of_run(&path, RUN), []);
    }

    #[test]
    fn what_is_not_of_this_run_and_boot_names_nobody() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("members.json");
        KnownProcessesFile::new(path.clone(), RUN).note(vec![member(1)]);
        assert_eq!(of_run(&path, RunTag(8)), []);
        let text = fs::read_to_string(&path).expect("written");
        let boot = os::boot_id().expect("a boot");
        for other in [text.replace(&boot, "another boot"), text.replace(SCHEMA, "x"), "garbage".to_owned()] {
            fs::write(&path, other).expect("written");
            assert_eq!(of_run(&path, RUN), []);
        }
    }

    #[test]
    fn what_did_not_change_is_not_written_again() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("members.json");
        let mut known_file = KnownProcessesFile::new(path.clone(), RUN);
        known_file.note(vec![member(1)]);
        fs::remove_file(&path).expect("written");
        known_file.note(vec![member(1)]);
        assert!(!path.exists());
        known_file.note(vec![member(2)]);
        assert_eq!(of_run(&path, RUN), [member(2)]);
    }
}
