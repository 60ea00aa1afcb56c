//! A cgroup for each worker, where one was delegated to us (R-CONT-4).
//!
//! ```text
//!   the delegated one            e.g. a systemd unit with Delegate=yes; locked by us
//!     |- .control                systemd's own, never touched
//!     |- daemon                  mcpd itself (and its guardian)
//!     `- mcpd-3f9a2c77           this run: killed as a whole, proved empty, removed
//!          |- 0, 1, 2 ...        the workers by slot, each born in its own
//!          `- 61440 ...          commands of the user's that mcpd runs
//! ```
//!
//! It comes beside tree and marks, never instead of them: what goes wrong here takes away a
//! certainty, not the daemon.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use mcpd_common::ids::{Pid, RunTag, Slot};
use mcpd_common::os::cgroup::{self, Cgroup, CgroupSetting, CgroupUnavailable};
use mcpd_common::os::{Backend, CannotLook, Listing, backend};
use serde::{Deserialize, Serialize};

use crate::deadline::{self, Deadline};

const LEAF: &str = "daemon";
const RUN: &str = "mcpd-";
/// The most tasks of one worker where they can be counted: more than a build with all its threads
/// needs, and what a fork bomb must not pass.
const MOST_TASKS: u64 = 8192;

/// The workers' cgroups, or why there are none; and a warning, if that is not how it was meant. The
/// guardian goes where the daemon goes.
pub async fn settle(
    run: RunTag,
    crashed: Option<RunTag>,
    guardian: Pid,
) -> (Result<Cgroups, String>, Option<String>) {
    if backend() == Backend::Portable {
        return (Err("the portable backend does without".to_owned()), None);
    }
    match Cgroups::set_up(run, crashed, &[guardian]).await {
        Ok(cgroups) => (Ok(cgroups), None),
        Err(why) if why.is_ordinary() => (Err(why.to_string()), None),
        Err(why) => (Err(why.to_string()), Some(format!("workers run without cgroups: {why}"))),
    }
}

/// Where everything is: what a guardian has to know as well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    root: Cgroup,
    /// Where we were before, and go back to at the end.
    before: Cgroup,
    leaf: Cgroup,
    run: Cgroup,
}

/// The cgroups of this run.
#[derive(Debug)]
pub struct Cgroups {
    _lock: File,
    layout: Layout,
    /// How many tasks each worker may have; `None`: they are not counted here.
    tasks: Option<u64>,
}

impl Layout {
    /// Whether it is that of this run, and there: whoever says it may err.
    pub fn is_of(&self, run: RunTag) -> bool {
        self.run == self.root.child(&name_of(run)) && self.leaf == self.root.child(LEAF) && self.run.exists()
    }

    /// Where all workers of the run live.
    pub fn run(&self) -> &Cgroup {
        &self.run
    }

    /// Removes all of them, and goes back to where we were, with everybody of mcpd.
    ///
    /// # Errors
    /// What could not be done.
    pub fn take_down(&self) -> Result<(), CgroupUnavailable> {
        self.run.remove().map_err(refused("remove", &self.run))?;
        // As long as tasks are counted below it no process may be in the root itself; where they were
        // not, this changes nothing.
        let _ = self.root.count_tasks_below(false);
        for pid in self.leaf.procs().map_err(|error| refused("list", &self.leaf)(error.into()))? {
            self.before.take(pid).map_err(refused("go back to", &self.before))?;
        }
        self.leaf.remove().map_err(refused("remove", &self.leaf))
    }
}

impl Cgroups {
    /// Makes them and moves this process, and `others` of mcpd, into their leaf. `crashed` is the run
    /// that the run file proves to be dead: what lives in its cgroups is killed.
    ///
    /// # Errors
    /// Why there are none; then everything is as it was.
    pub async fn set_up(
        run: RunTag,
        crashed: Option<RunTag>,
        others: &[Pid],
    ) -> Result<Self, CgroupUnavailable> {
        let (root, before) = (cgroup::find(&CgroupSetting::from_environment()?)?, cgroup::current()?);
        let lock = root.lock().map_err(refused("lock", &root))?;
        let lock = lock.ok_or_else(|| CgroupUnavailable::InUse(root.path().to_owned()))?;
        sweep(&root, crashed).await;
        let leaf = root.make_child(LEAF).map_err(refused("make a cgroup in", &root))?;
        let made = Self::move_in(&root, &leaf, run, others);
        let run = made.inspect_err(|_| {
            // Half delegated: back to where everything was.
            for pid in leaf.procs().unwrap_or_default() {
                let _ = before.take(pid);
            }
            let _ = root.child(&name_of(run)).remove();
            let _ = leaf.remove();
        })?;
        let tasks = count_tasks(&root, &run);
        Ok(Self { _lock: lock, layout: Layout { root, before, leaf, run }, tasks })
    }

    fn move_in(
        root: &Cgroup,
        leaf: &Cgroup,
        run: RunTag,
        others: &[Pid],
    ) -> Result<Cgroup, CgroupUnavailable> {
        let run = root.make_child(&name_of(run)).map_err(refused("make a cgroup in", root))?;
        for pid in others.iter().chain([&Pid::current()]) {
            leaf.take(*pid).map_err(refused("move into", leaf))?;
        }
        Ok(run)
    }

    /// Where everything is.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// For `status` and the report.
    pub fn describe(&self) -> String {
        let tasks = self.tasks.map(|most| format!(", at most {most} tasks in each"));
        format!(
            "a cgroup for each worker in {}{}",
            self.layout.root.path().display(),
            tasks.unwrap_or_default()
        )
    }

    /// The worker's cgroup, made if need be.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn make(&self, slot: Slot) -> std::io::Result<Cgroup> {
        let made = self.layout.run.make_child(&slot.0.to_string())?;
        if let Some(most) = self.tasks {
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

    /// Everything that lives in a worker's cgroup and below.
    pub fn members(&self, slot: Slot) -> Listing<Pid> {
        self.of(slot).members()
    }

    /// Everything that lives in the cgroups of this run.
    pub fn all_members(&self) -> Listing<Pid> {
        self.layout.run.members()
    }

    /// Kills a worker's cgroup as a whole.
    pub fn kill(&self, slot: Slot) {
        let cgroup = self.of(slot);
        if cgroup.is_populated().unwrap_or(false) {
            tell(&cgroup, "kill", cgroup.kill());
        }
    }

    /// Kills all cgroups of this run.
    pub fn kill_all(&self) {
        tell(&self.layout.run, "kill", self.layout.run.kill());
    }

    /// Removes a worker's cgroup, when everything in it is gone.
    pub fn remove(&self, slot: Slot) {
        let cgroup = self.of(slot);
        tell(&cgroup, "remove", cgroup.remove());
    }

    /// The kernel's statement that nothing lives in any of them.
    pub fn prove_empty(&self) -> Option<&'static str> {
        matches!(self.layout.run.is_populated(), Ok(false)).then_some("cgroup.events: populated 0")
    }
}

fn name_of(run: RunTag) -> String {
    format!("{RUN}{:08x}", run.0)
}

fn refused(what: &str, cgroup: &Cgroup) -> impl FnOnce(std::io::Error) -> CgroupUnavailable + use<> {
    CgroupUnavailable::refused(format!("{what} {}", cgroup.path().display()))
}

fn tell(cgroup: &Cgroup, what: &str, result: std::io::Result<()>) {
    if let Err(error) = result {
        tracing::warn!(cgroup = %cgroup.path().display(), %error, "can't {what} a cgroup");
    }
}

/// What dead daemons left in the cgroup that is ours now. Of the run that the run file names
/// everything is killed; a populated one of any other stays, and is told.
async fn sweep(root: &Cgroup, crashed: Option<RunTag>) {
    // A run that can't be listed now stays until the next start.
    for left in
        root.children().unwrap_or_default().iter().filter(|it| it.path().file_name().is_some_and(is_run))
    {
        if crashed.is_some_and(|run| left.path().ends_with(name_of(run))) {
            tell(left, "kill", left.kill());
            wait_until_empty(left).await;
        }
        tell(left, "remove", left.remove());
    }
}

/// A killed process leaves its cgroup when the kernel has torn it down; usually within 2 ms.
async fn wait_until_empty(cgroup: &Cgroup) {
    let limit = Deadline::after(Duration::from_secs(1));
    while cgroup.is_populated().unwrap_or(false) && !limit.remaining().is_zero() {
        deadline::until(deadline::now() + Duration::from_millis(2)).await;
    }
}

fn is_run(name: &std::ffi::OsStr) -> bool {
    let tag = name.to_str().and_then(|name| name.strip_prefix(RUN));
    tag.is_some_and(|tag| tag.len() == 8 && u32::from_str_radix(tag, 16).is_ok())
}

/// Has the tasks of each worker counted, where the kernel does that; the most that each may have.
fn count_tasks(root: &Cgroup, run: &Cgroup) -> Option<u64> {
    root.count_tasks_below(true).and_then(|()| run.count_tasks_below(true)).ok()?;
    Some(most_tasks(root.task_limit()))
}

/// Half of what all of us may have, so that mcpd itself can always start what stops a bomb.
fn most_tasks(ours: Option<u64>) -> u64 {
    ours.map_or(MOST_TASKS, |all| (all / 2).clamp(1, MOST_TASKS))
}

/// The slot in a path that `/proc/PID/cgroup` names. It may begin elsewhere than the path we use, so only
/// the end of ours counts: the run's own name, which is random.
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
    fn only_runs_are_swept() {
        let is_run = |name: &str| is_run(name.as_ref());
        assert!(is_run(&name_of(RunTag(0x3f9a_2c77))));
        for name in [".control", "daemon", "mcpd-", "mcpd-xyz", "mcpd-3f9a2c770", "init.scope"] {
            assert!(!is_run(name), "{name}");
        }
    }

    #[test]
    fn a_worker_never_gets_all_the_tasks() {
        assert_eq!(most_tasks(None), MOST_TASKS);
        assert_eq!(most_tasks(Some(4915)), 2457);
        assert_eq!(most_tasks(Some(1)), 1);
        assert_eq!(most_tasks(Some(1 << 22)), MOST_TASKS);
    }
}
