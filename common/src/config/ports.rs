//! Ports that nobody wrote down: derived from the repository's path, and remembered (R-CONF-2).
//!
//! The path's hash is where the search begins, so that two machines with the same layout agree
//! most of the time; what was once found is remembered in `ports.json`, so that a client's
//! configuration stays right whatever is added to the file later.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::PortSource;
use crate::ids::{Port, WorkerName};
use crate::paths::durable;

/// Where derived ports lie.
pub(super) const RANGE: RangeInclusive<u16> = 8100..=8999;

/// The `schema` of `ports.json`.
const SCHEMA: &str = "mcpd.ports.v1";

/// A worker that needs a port.
pub(super) struct Wanted {
    pub worker: WorkerName,
    /// Canonical, so that a symbolic link leads to the same port.
    pub repo: PathBuf,
    /// As written in the configuration.
    pub written: Option<Port>,
}

/// The ports that were found before.
#[derive(Debug, Default)]
pub(super) struct Memory {
    entries: Vec<Entry>,
    changed: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    repo: PathBuf,
    worker: WorkerName,
    port: Port,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    schema: String,
    ports: Vec<Entry>,
}

impl Memory {
    /// Reads the file; a missing one is empty.
    pub fn read(file: &Path) -> io::Result<Self> {
        let bytes = match std::fs::read(file) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error),
        };
        let stored: Stored = serde_json::from_slice(&bytes)?;
        match stored.schema == SCHEMA {
            true => Ok(Self { entries: stored.ports, changed: false }),
            false => Err(io::Error::other(format!("unknown schema \"{}\"", stored.schema))),
        }
    }

    /// Writes the file if something was added.
    pub fn write(&self, file: &Path) -> io::Result<()> {
        if !self.changed {
            return Ok(());
        }
        if let Some(directory) = file.parent() {
            durable::make_directory(directory)?;
        }
        let stored = Stored { schema: SCHEMA.to_owned(), ports: self.entries.clone() };
        durable::write(file, &serde_json::to_vec_pretty(&stored)?)
    }

    /// A port for every worker; one for which there is none left is missing in the answer.
    /// `is_free` is asked about ports that were not remembered: that of a remembered one may
    /// well be held by its own worker right now.
    pub fn assign(
        &mut self,
        wanted: &[Wanted],
        is_free: &dyn Fn(Port) -> bool,
    ) -> BTreeMap<WorkerName, (Port, PortSource)> {
        let mut taken: BTreeSet<Port> = wanted.iter().filter_map(|worker| worker.written).collect();
        let mut assigned = BTreeMap::new();
        for worker in wanted {
            if let Some(port) = worker.written {
                assigned.insert(worker.worker.clone(), (port, PortSource::Written));
            }
        }
        let open: Vec<_> = wanted.iter().filter(|worker| worker.written.is_none()).collect();
        // Remembered ones first: a newcomer must not push anybody out.
        let mut newcomers = Vec::new();
        for worker in open {
            match self.recall(worker, wanted).filter(|port| taken.insert(*port)) {
                Some(port) => drop(assigned.insert(worker.worker.clone(), (port, PortSource::Derived))),
                None => newcomers.push(worker),
            }
        }
        for worker in newcomers {
            if let Some(port) = self.find(&worker.repo, &taken, is_free) {
                taken.insert(port);
                self.remember(worker, port);
                assigned.insert(worker.worker.clone(), (port, PortSource::Derived));
            }
        }
        assigned
    }

    /// The port this worker had before. One that was renamed keeps that of its repository.
    fn recall(&mut self, worker: &Wanted, all: &[Wanted]) -> Option<Port> {
        let of_repo = |entry: &Entry| entry.repo == worker.repo && RANGE.contains(&entry.port.get());
        let exact = self.entries.iter().find(|entry| of_repo(entry) && entry.worker == worker.worker);
        if let Some(entry) = exact {
            return Some(entry.port);
        }
        let orphaned =
            |entry: &Entry| !all.iter().any(|other| other.worker == entry.worker && other.repo == entry.repo);
        let entry = self.entries.iter_mut().find(|entry| of_repo(entry) && orphaned(entry))?;
        entry.worker = worker.worker.clone();
        self.changed = true;
        Some(entry.port)
    }

    /// The first port from the path's hash on that is free. Ports remembered for repositories
    /// that are not configured now are used only when there is no other.
    fn find(&self, repo: &Path, taken: &BTreeSet<Port>, is_free: &dyn Fn(Port) -> bool) -> Option<Port> {
        let remembered: BTreeSet<Port> = self.entries.iter().map(|entry| entry.port).collect();
        let candidates = || candidates(repo).filter(|port| !taken.contains(port));
        candidates()
            .find(|port| !remembered.contains(port) && is_free(*port))
            .or_else(|| candidates().find(|port| remembered.contains(port) && is_free(*port)))
    }

    fn remember(&mut self, worker: &Wanted, port: Port) {
        let same = |entry: &Entry| entry.repo == worker.repo && entry.worker == worker.worker;
        self.entries.retain(|entry| entry.port != port && !same(entry));
        self.entries.push(Entry { repo: worker.repo.clone(), worker: worker.worker.clone(), port });
        self.entries.sort_by(|one, other| (&one.repo, &one.worker).cmp(&(&other.repo, &other.worker)));
        self.changed = true;
    }
}

/// All ports of the range, beginning with the path's own.
fn candidates(repo: &Path) -> impl Iterator<Item = Port> {
    let count = u64::from(RANGE.end() - RANGE.start()) + 1;
    let begin = fnv1a(repo.as_os_str().as_encoded_bytes()) % count;
    (0..count).filter_map(move |step| Port::new(u64::from(*RANGE.start()) + (begin + step) % count))
}

/// FNV-1a of 64 bits: stable over versions and platforms, unlike the standard library's hash.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wanted(worker: &str, repo: &str, written: Option<u16>) -> Wanted {
        let worker = worker.parse().expect("a name");
        Wanted { worker, repo: repo.into(), written: written.and_then(Port::new) }
    }

    fn ports(memory: &mut Memory, wanted: &[Wanted], is_free: &dyn Fn(Port) -> bool) -> Vec<u16> {
        let assigned = memory.assign(wanted, is_free);
        wanted.iter().map(|worker| assigned[&worker.worker].0.get()).collect()
    }

    /// R-CONF-2: always the same, whatever is added, and over the disk.
    #[test]
    fn a_port_once_derived_stays() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("state").join("ports.json");
        let mut memory = Memory::read(&file).expect("nothing yet");
        let before = ports(&mut memory, &[wanted("a", "/src/a", None)], &|_| true)[0];
        memory.write(&file).expect("written");

        // Somebody listens on it now (the worker itself), and there are new neighbours.
        let mut memory = Memory::read(&file).expect("readable");
        let all = [wanted("0", "/src/b", None), wanted("a", "/src/a", None), wanted("b", "/src/a", None)];
        let after = ports(&mut memory, &all, &|port| port.get() != before);
        assert_eq!(after[1], before);
        assert_eq!(BTreeSet::from_iter(&after).len(), 3);
    }

    #[test]
    fn a_renamed_worker_keeps_its_port() {
        let mut memory = Memory::default();
        let before = ports(&mut memory, &[wanted("a", "/src/a", None)], &|_| true);
        assert_eq!(ports(&mut memory, &[wanted("z", "/src/a", None)], &|_| true), before);
    }

    #[test]
    fn written_and_held_ports_are_avoided() {
        let own = candidates(Path::new("/src/a")).next().expect("some").get();
        let next = candidates(Path::new("/src/a")).nth(1).expect("some").get();
        let third = candidates(Path::new("/src/a")).nth(2).expect("some").get();
        let all = [wanted("a", "/src/a", None), wanted("b", "/src/b", Some(own))];
        let found = ports(&mut Memory::default(), &all, &|port| port.get() != next);
        assert_eq!(found, [third, own]);
    }

    #[test]
    fn a_damaged_memory_is_an_error() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("ports.json");
        for damage in ["", "{}", r#"{"schema":"x","ports":[]}"#] {
            std::fs::write(&file, damage).expect("written");
            assert!(Memory::read(&file).is_err(), "{damage}");
        }
    }

    proptest! {
        #[test]
        fn all_ports_differ_and_lie_in_the_range(repos in proptest::collection::vec("[a-c]{1,3}", 1..60)) {
            let all: Vec<_> = repos.iter().enumerate()
                .map(|(number, repo)| wanted(&format!("w{number}"), repo, None)).collect();
            let found = ports(&mut Memory::default(), &all, &|_| true);
            prop_assert_eq!(BTreeSet::from_iter(&found).len(), all.len());
            prop_assert!(found.iter().all(|port| RANGE.contains(port)));
        }
    }
}
