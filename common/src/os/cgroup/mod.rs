//! cgroups v2 (cgroups(7)): each is a directory. Its processes can be listed, limited, and killed as a whole,
//! whatever they did to their parents, sessions, marks and environment.
//!
//! ```text
//!   parse       the files of /proc and of a cgroup           (pure)
//!   delegation  the cgroup that is delegated to mcpd
//!   this file   operations on one cgroup                     (effects)
//! ```
//!
//! All of it works through files, so it compiles on every system: without cgroups, none is found.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::ids::Pid;
use crate::os::lookup::{CannotLook, Listing, found};

mod delegation;
pub mod parse;

pub use delegation::{CGROUP_VARIABLE, CgroupSetting, CgroupUnavailable, current, find};

/// The largest number of cgroups in a subtree that are visited.
const MAX_SUBTREE: usize = 10_000;

/// One cgroup. It may be removed at any time; then operations return an error or an empty value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// The cgroup at this path, whether it exists or not.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The directory of the cgroup.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it exists, and is of v2.
    pub fn exists(&self) -> bool {
        self.path.join("cgroup.procs").exists() && self.path.join("cgroup.controllers").exists()
    }

    /// The child cgroup of this name, whether it exists or not.
    pub fn child(&self, name: &str) -> Self {
        Self { path: self.path.join(name) }
    }

    /// Creates the child cgroup of this name, unless it exists.
    pub fn make_child(&self, name: &str) -> io::Result<Self> {
        let child = self.child(name);
        match fs::create_dir(&child.path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(child),
        }
    }

    /// The direct child cgroups.
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

    /// This cgroup and its subtree, parents first.
    fn all(&self) -> Listing<Self> {
        let mut all = Listing::default();
        all.extend([self.clone()]);
        let mut next = 0;
        while let Some(cgroup) = all.found().get(next)
            && all.found().len() < MAX_SUBTREE
        {
            let below = cgroup.children();
            let below = all.record(below);
            all.extend(below);
            next += 1;
        }
        all
    }

    /// The processes in this cgroup, without its subtree.
    ///
    /// # Errors
    /// When the kernel can't be asked.
    pub fn procs(&self) -> Result<Vec<Pid>, CannotLook> {
        Ok(found(self.read("cgroup.procs"))?.map(|text| parse::procs(&text)).unwrap_or_default())
    }

    /// The processes in this cgroup and its subtree.
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

    /// Whether a living process is in this cgroup or its subtree.
    ///
    /// # Errors
    /// When `cgroup.events` can't be read.
    pub fn is_populated(&self) -> io::Result<bool> {
        let events = self.read("cgroup.events")?;
        parse::is_populated(&events).ok_or_else(|| io::Error::other("cgroup.events has no field populated"))
    }

    /// `SIGKILL` to all processes in this cgroup and its subtree; forks during it are killed as well.
    pub fn kill(&self) -> io::Result<()> {
        self.write("cgroup.kill", "1")
    }

    /// Moves a process into this cgroup, with all of its threads.
    pub fn take(&self, pid: Pid) -> io::Result<()> {
        self.write("cgroup.procs", &pid.to_string())
    }

    /// A descriptor of `cgroup.procs`: a process that writes `0` to it moves itself into this cgroup.
    pub fn entrance(&self) -> io::Result<OwnedFd> {
        let file = OpenOptions::new().write(true).open(self.path.join("cgroup.procs"))?;
        Ok(file.into())
    }

    /// The limit of tasks (processes and threads) in this cgroup and its subtree; `None`: no limit, or no
    /// pids controller.
    pub fn task_limit(&self) -> Option<u64> {
        parse::limit(&self.read("pids.max").ok()?)
    }

    /// Sets the limit of tasks. Needs [`Self::count_tasks_below`] on its parent.
    pub fn limit_tasks(&self, most: u64) -> io::Result<()> {
        self.write("pids.max", &most.to_string())
    }

    /// Switches the pids controller for child cgroups on or off. Switching it on fails without that
    /// controller, and while a process is in this cgroup itself.
    pub fn count_tasks_below(&self, on: bool) -> io::Result<()> {
        self.write("cgroup.subtree_control", if on { "+pids" } else { "-pids" })
    }

    /// An exclusive lock that is held until the file is dropped; `None` if another process has it.
    pub fn lock(&self) -> io::Result<Option<File>> {
        let directory = File::open(&self.path)?;
        match directory.try_lock() {
            Ok(()) => Ok(Some(directory)),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }

    /// Removes this cgroup and its subtree; does nothing if it is gone.
    ///
    /// # Errors
    /// When a process is still in it, or its subtree can't be listed.
    pub fn remove(&self) -> io::Result<()> {
        for cgroup in self.all().complete()?.iter().rev() {
            match fs::remove_dir(&cgroup.path) {
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
        // With a single write(2), because the kernel parses each write separately.
        OpenOptions::new().write(true).open(self.path.join(file))?.write_all(text.as_bytes())
    }
}

/// The path of the cgroup of a process, as in `/proc`; a zombie is still in its last one. `None` if the
/// process is gone.
///
/// # Errors
/// When the kernel can't be asked.
pub fn path_of(pid: Pid) -> Result<Option<PathBuf>, CannotLook> {
    let text = found(fs::read_to_string(format!("/proc/{pid}/cgroup")))?;
    Ok(text.and_then(|text| parse::own_path(&text).map(Path::to_owned)))
}
