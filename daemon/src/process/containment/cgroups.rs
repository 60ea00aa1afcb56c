//! A cgroup for each worker, where a cgroup is delegated to mcpd (R-CONT-4).
//!
//! ```text
//!   the delegated cgroup         e.g. of a systemd unit with Delegate=yes; locked by this daemon
//!     |- .control                used by systemd, never touched
//!     |- daemon                  mcpd and its guardian
//!     `- mcpd-3f9a2c77           this run: killed as a whole, proved empty, removed
//!          |- 0, 1, 2 ...        the workers by slot; each leader enters its cgroup before exec
//!          `- 61440 ...          commands from the configuration that mcpd runs
//! ```
//!
//! Cgroups are used in addition to tree and marks: an error here weakens the proof, but does not stop the
//! daemon.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use mcpd_common::ids::{Pid, RunTag, Slot};
use mcpd_common::os::cgroup::{self, Cgroup, CgroupSetting, CgroupUnavailable};
use mcpd_common::os::{Backend, CannotLook, Listing, backend};
use serde::{Deserialize, Serialize};

use crate::deadline::{self, Deadline};

const DAEMON_CGROUP: &str = "daemon";
const RUN_PREFIX: &str = "mcpd-";
/// Limit of processes and threads of one worker, if the pids controller is available: enough for a build with
/// all its threads, and small enough to stop a fork bomb.
const MAX_TASKS: u64 = 8192;

/// How long the cgroups of a crashed run may take to become empty after `SIGKILL`.
const EMPTY_TIMEOUT: Duration = Duration::from_secs(1);
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// Creates the cgroups of this run; returns them, or why there are none, and a warning if this was not
/// expected. `guardian` is moved together with the daemon.
pub async fn set_up(
    run: RunTag,
    crashed: Option<RunTag>,
    guardian: Pid,
) -> (Result<Cgroups, String>, Option<String>) {
    if backend() == Backend::Portable {
        return (Err("the portable backend uses no cgroups".to_owned()), None);
    }
    match Cgroups::create(run, crashed, &[guardian]).await {
        Ok(cgroups) => (Ok(cgroups), None),
        Err(why) if why.is_ordinary() => (Err(why.to_string()), None),
        Err(why) => (Err(why.to_string()), Some(format!("workers run without cgroups: {why}"))),
    }
}

/// The paths of the cgroups, which the guardian needs as well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    root: Cgroup,
    /// The cgroup of the daemon before, to which it is moved back at the end.
    #[serde(rename = "before")]
    original: Cgroup,
    #[serde(rename = "leaf")]
    daemon: Cgroup,
    run: Cgroup,
}

/// The cgroups of this run.
#[derive(Debug)]
pub struct Cgroups {
    _lock: File,
    layout: Layout,
    /// The limit of tasks of each worker; `None` without the pids controller.
    max_tasks: Option<u64>,
}

impl Layout {
    /// Whether it is the layout of this run, and exists. Checked because it is read from shared memory.
    pub fn is_of(&self, run: RunTag) -> bool {
        self.run == self.root.child(&name_of(run))
            && self.daemon == self.root.child(DAEMON_CGROUP)
            && self.run.exists()
    }

    /// The parent of all workers' cgroups.
    pub fn run(&self) -> &Cgroup {
        &self.run
    }

    /// Removes the cgroups, and moves all processes of mcpd back to the original cgroup.
    ///
    /// # Errors
    /// The operation that failed.
    pub fn take_down(&self) -> Result<(), CgroupUnavailable> {
        self.run.remove().map_err(refused("remove", &self.run))?;
        // No process may be in the root while it has a controller enabled for its children (cgroups(7)).
        // Without the pids controller this has no effect.
        let _ = self.root.count_tasks_below(false);
        for pid in self.daemon.procs().map_err(|error| refused("list", &self.daemon)(error.into()))? {
            self.original.take(pid).map_err(refused("go back to", &self.original))?;
        }
        self.daemon.remove().map_err(refused("remove", &self.daemon))
    }
}

impl Cgroups {
    /// Creates the cgroups and moves this process and `others` into the one of the daemon. `crashed` is a run
    /// that is over according to the run file: the processes in its cgroups are killed.
    ///
    /// # Errors
    /// Why there are none; then nothing is changed.
    async fn create(run: RunTag, crashed: Option<RunTag>, others: &[Pid]) -> Result<Self, CgroupUnavailable> {
        let root = cgroup::find(&CgroupSetting::from_environment()?)?;
        let original = cgroup::current()?;
        let lock = root.lock().map_err(refused("lock", &root))?;
        let lock = lock.ok_or_else(|| CgroupUnavailable::InUse(root.path().to_owned()))?;
        remove_old_runs(&root, crashed).await;
        let daemon = root.make_child(DAEMON_CGROUP).map_err(refused("make a cgroup in", &root))?;
        let made = Self::move_in(&root, &daemon, run, others);
        let run = made.inspect_err(|_| {
            // Only partly delegated: undo everything, as far as possible.
            for pid in daemon.procs().unwrap_or_default() {
                let _ = original.take(pid);
            }
            let _ = root.child(&name_of(run)).remove();
            let _ = daemon.remove();
        })?;
        let max_tasks = enable_task_limits(&root, &run);
        Ok(Self { _lock: lock, layout: Layout { root, original, daemon, run }, max_tasks })
    }

    fn move_in(
        root: &Cgroup,
        daemon: &Cgroup,
        run: RunTag,
        others: &[Pid],
    ) -> Result<Cgroup, CgroupUnavailable> {
        let run = root.make_child(&name_of(run)).map_err(refused("make a cgroup in", root))?;
        for pid in others.iter().chain([&Pid::current()]) {
            daemon.take(*pid).map_err(refused("move into", daemon))?;
        }
        Ok(run)
    }

    /// The paths, for the guardian.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// A text for `status` and the report.
    pub fn describe(&self) -> String {
        let tasks = self.max_tasks.map(|most| format!(", at most {most} tasks in each"));
        format!(
            "a cgroup for each worker in {}{}",
            self.layout.root.path().display(),
            tasks.unwrap_or_default()
        )
    }

    /// Creates the cgroup of a worker, unless it exists.
    ///
    /// # Errors
    /// The error of the kernel.
    pub fn make(&self, slot: Slot) -> std::io::Result<Cgroup> {
        let made = self.layout.run.make_child(&slot.0.to_string())?;
        if let Some(most) = self.max_tasks {
            made.limit_tasks(most)?;
        }
        Ok(made)
    }

    fn of(&self, slot: Slot) -> Cgroup {
        self.layout.run.child(&slot.0.to_string())
    }

    /// The slot in whose cgroup this process is.
    ///
    /// # Errors
    /// When the kernel can't be asked.
    pub fn owner(&self, pid: Pid) -> Result<Option<Slot>, CannotLook> {
        Ok(cgroup::path_of(pid)?.and_then(|path| slot_in(&path, self.layout.run.path())))
    }

    /// The processes in a worker's cgroup and its subtree.
    pub fn members(&self, slot: Slot) -> Listing<Pid> {
        self.of(slot).members()
    }

    /// The processes in the cgroups of this run.
    pub fn all_members(&self) -> Listing<Pid> {
        self.layout.run.members()
    }

    /// Kills a worker's cgroup as a whole.
    pub fn kill(&self, slot: Slot) {
        let cgroup = self.of(slot);
        if cgroup.is_populated().unwrap_or(false) {
            warn_on_error(&cgroup, "kill", cgroup.kill());
        }
    }

    /// Kills all cgroups of this run.
    pub fn kill_all(&self) {
        warn_on_error(&self.layout.run, "kill", self.layout.run.kill());
    }

    /// Removes a worker's cgroup, which must be empty.
    pub fn remove(&self, slot: Slot) {
        let cgroup = self.of(slot);
        warn_on_error(&cgroup, "remove", cgroup.remove());
    }

    /// The kernel's statement that no process is in the cgroups of this run; `None` if one is, or may be.
    pub fn prove_empty(&self) -> Option<&'static str> {
        matches!(self.layout.run.is_populated(), Ok(false)).then_some("cgroup.events: populated 0")
    }
}

fn name_of(run: RunTag) -> String {
    format!("{RUN_PREFIX}{:08x}", run.0)
}

fn refused(what: &str, cgroup: &Cgroup) -> impl FnOnce(std::io::Error) -> CgroupUnavailable + use<> {
    CgroupUnavailable::refused(format!("{what} {}", cgroup.path().display()))
}

fn warn_on_error(cgroup: &Cgroup, what: &str, result: std::io::Result<()>) {
    if let Err(error) = result {
        tracing::warn!(cgroup = %cgroup.path().display(), %error, "can't {what} a cgroup");
    }
}

/// Removes cgroups of earlier runs. Processes of the run that crashed are killed; a cgroup of another run
/// that has processes stays, with a warning.
async fn remove_old_runs(root: &Cgroup, crashed: Option<RunTag>) {
    let children = match root.children() {
        Ok(children) => children,
        Err(error) => {
            tracing::warn!(cgroup = %root.path().display(), %error, "can't list the cgroups of earlier runs");
            return;
        }
    };
    let is_old_run = |cgroup: &&Cgroup| cgroup.path().file_name().is_some_and(is_run);
    for left in children.iter().filter(is_old_run) {
        if crashed.is_some_and(|run| left.path().ends_with(name_of(run))) {
            warn_on_error(left, "kill", left.kill());
            wait_until_empty(left).await;
        }
        warn_on_error(left, "remove", left.remove());
    }
}

/// A killed process is removed from its cgroup when it has exited, usually within 2 ms.
async fn wait_until_empty(cgroup: &Cgroup) {
    let limit = Deadline::after(EMPTY_TIMEOUT);
    while cgroup.is_populated().unwrap_or(false) && !limit.remaining().is_zero() {
        deadline::until(deadline::now() + POLL_INTERVAL).await;
    }
}

fn is_run(name: &std::ffi::OsStr) -> bool {
    let tag = name.to_str().and_then(|name| name.strip_prefix(RUN_PREFIX));
    tag.is_some_and(|tag| tag.len() == 8 && u32::from_str_radix(tag, 16).is_ok())
}

/// Enables the pids controller, if it is available; returns the limit of each worker.
fn enable_task_limits(root: &Cgroup, run: &Cgroup) -> Option<u64> {
    root.count_tasks_below(true).and_then(|()| run.count_tasks_below(true)).ok()?;
    Some(max_tasks(root.task_limit()))
}

/// Half of the limit of the delegated cgroup, so that mcpd itself can always start processes.
fn max_tasks(total: Option<u64>) -> u64 {
    total.map_or(MAX_TASKS, |all| (all / 2).clamp(1, MAX_TASKS))
}

/// The slot in a path from `/proc/PID/cgroup`. It may begin at another root than `run`, so only the name of
/// the run is compared, which is random.
fn slot_in(path: &Path, run: &Path) -> Option<Slot> {
    let name = run.file_name()?;
    let mut parts = path.iter().skip_while(|part| *part != name);
    parts.next()?;
    parts.next()?.to_str()?.parse().ok().map(Slot)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R-CONT-4: a process belongs to the worker whose cgroup it is in, however deep.
    #[test]
    fn a_path_names_its_worker() {
        let slot = |path: &str| slot_in(Path::new(path), Path::new("/mnt/x/mcpd-0000002a"));
        assert_eq!(slot("/x/mcpd-0000002a/7"), Some(Slot(7)));
        assert_eq!(slot("/x/mcpd-0000002a/7/made/by/itself"), Some(Slot(7)));
        assert_eq!(slot("/mcpd-0000002a/61440"), Some(Slot(61_440)));
        assert_eq!(slot("/x/mcpd-0000002a"), None);
        assert_eq!(slot("/x/mcpd-0000002b/7"), None);
        assert_eq!(slot("/x/daemon"), None);
        assert_eq!(slot("/x/mcpd-0000002a/7 (deleted)"), None);
    }

    #[test]
    fn only_cgroups_of_runs_are_removed() {
        let is_run = |name: &str| is_run(name.as_ref());
        assert!(is_run(&name_of(RunTag(0x3f9a_2c77))));
        for name in [".control", "daemon", "mcpd-", "mcpd-xyz", "mcpd-3f9a2c770", "init.scope"] {
            assert!(!is_run(name), "{name}");
        }
    }

    #[test]
    fn a_worker_gets_at_most_half_of_the_tasks() {
        assert_eq!(max_tasks(None), MAX_TASKS);
        assert_eq!(max_tasks(Some(4915)), 2457);
        assert_eq!(max_tasks(Some(1)), 1);
        assert_eq!(max_tasks(Some(1 << 22)), MAX_TASKS);
    }
}
