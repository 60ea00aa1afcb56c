//! cgroups v2: a directory each. What is in one can be listed, limited, and killed as a whole, whatever
//! it did to its parents, sessions, marks and environment.
//!
//! ```text
//!   parse   the texts of /proc and of the cgroup files      (pure)
//!   ours    which cgroup is ours to make others below it
//!   here    one cgroup and what can be done to it           (effects)
//! ```
//!
//! Everything goes by files, so nothing here depends on the system: where there are no cgroups, none
//! is found.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::ids::Pid;
use crate::os::lookup::{CannotLook, Listing, found};

mod ours;
pub mod parse;

pub use ours::{CGROUP_VARIABLE, NotOurs, Wish, current, find};

/// So many cgroups below one are looked at; a worker that makes more is beyond reason.
const MOST_BELOW: usize = 10_000;

/// One cgroup. It may vanish at any time; then everything about it is an error, or empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// The one at this path, whether it exists or not.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is there, and of v2.
    pub fn exists(&self) -> bool {
        self.path.join("cgroup.procs").exists() && self.path.join("cgroup.controllers").exists()
    }

    /// The one of this name below it.
    pub fn child(&self, name: &str) -> Self {
        Self { path: self.path.join(name) }
    }

    /// Makes the one of this name below it; one that is there is taken as it is.
    pub fn make_child(&self, name: &str) -> io::Result<Self> {
        let child = self.child(name);
        match fs::create_dir(&child.path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(child),
        }
    }

    /// Those directly below it.
    ///
    /// # Errors
    /// When the kernel can't be asked.
    pub fn children(&self) -> Result<Vec<Self>, CannotLook> {
        let mut children = vec![];
        for entry in found(fs::read_dir(&self.path))?.into_iter().flatten() {
            let directory = found(entry)?.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            children.extend(directory.map(|entry| Self { path: entry.path() }));
        }
        Ok(children)
    }

    /// Itself and all below it, parents first.
    fn all(&self) -> Listing<Self> {
        let mut all = Listing::default();
        all.extend([self.clone()]);
        let mut next = 0;
        while let Some(cgroup) = all.found().get(next)
            && all.found().len() < MOST_BELOW
        {
            let below = cgroup.children();
            let below = all.record(below);
            all.extend(below);
            next += 1;
        }
        all
    }

    /// The processes in it, without those below.
    ///
    /// # Errors
    /// When the kernel can't be asked.
    pub fn procs(&self) -> Result<Vec<Pid>, CannotLook> {
        Ok(found(self.read("cgroup.procs"))?.map(|text| parse::procs(&text)).unwrap_or_default())
    }

    /// The processes in it and below.
    pub fn members(&self) -> Listing<Pid> {
        let mut members = Listing::default();
        if matches!(self.is_populated(), Ok(false)) {
            return members;
        }
        for cgroup in members.take(self.all()) {
            let procs = members.record(cgroup.procs());
            members.extend(procs);
        }
        members
    }

    /// Whether a living process is in it or below.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn is_populated(&self) -> io::Result<bool> {
        let events = self.read("cgroup.events")?;
        parse::is_populated(&events).ok_or_else(|| io::Error::other("cgroup.events does not say"))
    }

    /// `SIGKILL` to everything in it and below, at once: nothing can be forked meanwhile.
    pub fn kill(&self) -> io::Result<()> {
        self.write("cgroup.kill", "1")
    }

    /// Takes a process in, with all of its threads.
    pub fn take(&self, pid: Pid) -> io::Result<()> {
        self.write("cgroup.procs", &pid.to_string())
    }

    /// What a process writes `0` to that wants to be taken in.
    pub fn entrance(&self) -> io::Result<OwnedFd> {
        let file = OpenOptions::new().write(true).open(self.path.join("cgroup.procs"))?;
        Ok(file.into())
    }

    /// The most tasks (threads count) that may be in it and below; `None`: no limit, or no such
    /// controller here.
    pub fn task_limit(&self) -> Option<u64> {
        parse::limit(&self.read("pids.max").ok()?)
    }

    /// Sets that. Only where [`Self::count_tasks_below`] was said to its parent.
    pub fn limit_tasks(&self, most: u64) -> io::Result<()> {
        self.write("pids.max", &most.to_string())
    }

    /// Whether tasks below it are counted, so that they can be limited. Switching it on fails where the
    /// controller is not there, and as long as a process is in this very cgroup.
    pub fn count_tasks_below(&self, on: bool) -> io::Result<()> {
        self.write("cgroup.subtree_control", if on { "+pids" } else { "-pids" })
    }

    /// A lock that only one holder can have, for as long as it is kept; `None`: somebody has it.
    pub fn lock(&self) -> io::Result<Option<File>> {
        let directory = File::open(&self.path)?;
        match directory.try_lock() {
            Ok(()) => Ok(Some(directory)),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }

    /// Removes it and all below it; nothing happens if it is gone.
    ///
    /// # Errors
    /// When a process is still in it or below.
    pub fn remove(&self) -> io::Result<()> {
        for one in self.all().complete()?.iter().rev() {
            match fs::remove_dir(&one.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    fn read(&self, file: &str) -> io::Result<String> {
        fs::read_to_string(self.path.join(file))
    }

    fn write(&self, file: &str, text: &str) -> io::Result<()> {
        // One write(2): the kernel takes each as an order of its own.
        OpenOptions::new().write(true).open(self.path.join(file))?.write_all(text.as_bytes())
    }
}

/// The cgroup that a process is in, as `/proc` names it; a zombie is still in its last one.
///
/// # Errors
/// When the kernel can't be asked.
pub fn path_of(pid: Pid) -> Result<Option<PathBuf>, CannotLook> {
    let text = found(fs::read_to_string(format!("/proc/{pid}/cgroup")))?;
    Ok(text.and_then(|text| parse::own_path(&text).map(Path::to_owned)))
}
