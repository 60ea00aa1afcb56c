//! Ports that are not written in the configuration: derived from the repository's path, and remembered
//! (R-CONF-2).
//!
//! The search for a free port starts at the hash of the path, so that two machines with the same
//! directories get the same ports most of the time. Derived ports are remembered in `ports.json`, so
//! that the configuration of clients stays valid when workers are added later.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::worker::PortSource;
use crate::ids::{Port, WorkerName};
use crate::paths::durable;

/// The range of derived ports.
pub(super) const RANGE: RangeInclusive<u16> = 8100..=8999;

/// The `schema` of `ports.json`.
const SCHEMA: &str = "mcpd.ports.v1";

/// A request for the port of one worker.
pub(super) struct Request {
    pub worker: WorkerName,
    /// Canonical, so that a symbolic link gives the same port; of a worker without a repository, its name.
    pub repo: PathBuf,
    /// The port from the configuration, if one is written there.
    pub written: Option<Port>,
}

/// The content of `ports.json`: ports derived earlier.
#[derive(Debug, Default)]
pub(super) struct RememberedPorts {
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

impl RememberedPorts {
    /// Reads the file; a missing file gives an empty list.
    pub fn read(file: &Path) -> io::Result<Self> {
        let bytes = match std::fs::read(file) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error),
        };
        let stored: Stored = serde_json::from_slice(&bytes)?;
        if stored.schema != SCHEMA {
            return Err(io::Error::other(format!("unknown schema \"{}\"", stored.schema)));
        }
        Ok(Self { entries: stored.ports, changed: false })
    }

    /// Writes the file if an entry changed.
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

    /// Chooses a port for every request; a request for which no port is free is missing in the result.
    /// `is_free` is called for newly derived ports only: a remembered port may be in use by its own worker.
    pub fn assign(
        &mut self,
        requests: &[Request],
        is_free: &dyn Fn(Port) -> bool,
    ) -> BTreeMap<WorkerName, (Port, PortSource)> {
        let mut assigned = BTreeMap::new();
        let mut taken = BTreeSet::new();
        let mut without_written_port = Vec::new();
        for request in requests {
            if let Some(port) = request.written {
                taken.insert(port);
                assigned.insert(request.worker.clone(), (port, PortSource::Written));
            } else {
                without_written_port.push(request);
            }
        }
        // Remembered ports are assigned before new ones, so that a new worker can't take one of them.
        let mut new_workers = Vec::new();
        for request in without_written_port {
            if let Some(port) = self.recall(request, requests).filter(|port| taken.insert(*port)) {
                assigned.insert(request.worker.clone(), (port, PortSource::Derived));
            } else {
                new_workers.push(request);
            }
        }
        for request in new_workers {
            if let Some(port) = self.find(&request.repo, &taken, is_free) {
                taken.insert(port);
                self.remember(request, port);
                assigned.insert(request.worker.clone(), (port, PortSource::Derived));
            }
        }
        assigned
    }

    /// The remembered port of this worker. A worker that was renamed keeps the port of its repository.
    fn recall(&mut self, request: &Request, all: &[Request]) -> Option<Port> {
        let of_repo = |entry: &Entry| entry.repo == request.repo && RANGE.contains(&entry.port.get());
        let exact = self.entries.iter().find(|entry| of_repo(entry) && entry.worker == request.worker);
        if let Some(entry) = exact {
            return Some(entry.port);
        }
        let is_unused =
            |entry: &Entry| !all.iter().any(|other| other.worker == entry.worker && other.repo == entry.repo);
        let entry = self.entries.iter_mut().find(|entry| of_repo(entry) && is_unused(entry))?;
        entry.worker = request.worker.clone();
        self.changed = true;
        Some(entry.port)
    }

    /// The first free port, starting at the hash of the path. Ports remembered for repositories that are not
    /// configured now are used only if no other port is free.
    fn find(&self, repo: &Path, taken: &BTreeSet<Port>, is_free: &dyn Fn(Port) -> bool) -> Option<Port> {
        let remembered: BTreeSet<Port> = self.entries.iter().map(|entry| entry.port).collect();
        let candidates = || candidates(repo).filter(|port| !taken.contains(port));
        candidates()
            .find(|port| !remembered.contains(port) && is_free(*port))
            .or_else(|| candidates().find(|port| remembered.contains(port) && is_free(*port)))
    }

    fn remember(&mut self, request: &Request, port: Port) {
        let is_same = |entry: &Entry| entry.repo == request.repo && entry.worker == request.worker;
        self.entries.retain(|entry| entry.port != port && !is_same(entry));
        self.entries.push(Entry { repo: request.repo.clone(), worker: request.worker.clone(), port });
        self.entries.sort_by(|one, other| (&one.repo, &one.worker).cmp(&(&other.repo, &other.worker)));
        self.changed = true;
    }
}

/// All ports of the range, starting at the hash of the path.
fn candidates(repo: &Path) -> impl Iterator<Item = Port> {
    let count = u64::from(RANGE.end() - RANGE.start()) + 1;
    let begin = fnv1a(repo.as_os_str().as_encoded_bytes()) % count;
    (0..count).filter_map(move |step| Port::new(u64::from(*RANGE.start()) + (begin + step) % count))
}

/// The 64-bit FNV-1a hash: stable across versions and platforms, unlike the standard library's.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request(worker: &str, repo: &str, written: Option<u16>) -> Request {
        let worker = worker.parse().expect("a name");
        Request { worker, repo: repo.into(), written: written.and_then(Port::new) }
    }

    fn ports(
        remembered: &mut RememberedPorts,
        requests: &[Request],
        is_free: &dyn Fn(Port) -> bool,
    ) -> Vec<u16> {
        let assigned = remembered.assign(requests, is_free);
        requests.iter().map(|request| assigned[&request.worker].0.get()).collect()
    }

    /// R-CONF-2: the port stays the same when workers are added, also after writing and reading the file.
    #[test]
    fn a_derived_port_stays_the_same() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("state").join("ports.json");
        let mut remembered = RememberedPorts::read(&file).expect("nothing yet");
        let before = ports(&mut remembered, &[request("a", "/src/a", None)], &|_| true)[0];
        remembered.write(&file).expect("written");

        // The port is in use now (by the worker itself), and there are new workers.
        let mut remembered = RememberedPorts::read(&file).expect("readable");
        let all = [request("0", "/src/b", None), request("a", "/src/a", None), request("b", "/src/a", None)];
        let after = ports(&mut remembered, &all, &|port| port.get() != before);
        assert_eq!(after[1], before);
        assert_eq!(BTreeSet::from_iter(&after).len(), 3);
    }

    #[test]
    fn a_renamed_worker_keeps_its_port() {
        let mut remembered = RememberedPorts::default();
        let before = ports(&mut remembered, &[request("a", "/src/a", None)], &|_| true);
        assert_eq!(ports(&mut remembered, &[request("z", "/src/a", None)], &|_| true), before);
    }

    #[test]
    fn written_ports_and_ports_in_use_are_avoided() {
        let first = candidates(Path::new("/src/a")).next().expect("some").get();
        let second = candidates(Path::new("/src/a")).nth(1).expect("some").get();
        let third = candidates(Path::new("/src/a")).nth(2).expect("some").get();
        let all = [request("a", "/src/a", None), request("b", "/src/b", Some(first))];
        let found = ports(&mut RememberedPorts::default(), &all, &|port| port.get() != second);
        assert_eq!(found, [third, first]);
    }

    #[test]
    fn a_damaged_file_is_an_error() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("ports.json");
        for damage in ["", "{}", r#"{"schema":"x","ports":[]}"#] {
            std::fs::write(&file, damage).expect("written");
            assert!(RememberedPorts::read(&file).is_err(), "{damage}");
        }
    }

    proptest! {
        #[test]
        fn all_ports_differ_and_lie_in_the_range(repos in proptest::collection::vec("[a-c]{1,3}", 1..60)) {
            let all: Vec<_> = repos.iter().enumerate()
                .map(|(number, repo)| request(&format!("w{number}"), repo, None)).collect();
            let found = ports(&mut RememberedPorts::default(), &all, &|_| true);
            prop_assert_eq!(BTreeSet::from_iter(&found).len(), all.len());
            prop_assert!(found.iter().all(|port| RANGE.contains(port)));
        }
    }
}
