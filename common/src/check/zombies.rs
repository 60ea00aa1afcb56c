//! Finds zombies: processes that exited and were not reaped (R-VER-1).

use serde::{Deserialize, Serialize};

use crate::ids::{Pid, WorkerName};
use crate::os::CannotLook;
use crate::os::process::{self, Process};

/// The `schema` of a [`ZombieReport`] in JSON.
pub const ZOMBIES_SCHEMA: &str = "mcpd.zombies.v1";

/// A process that exited and was not reaped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Zombie {
    /// Stays allocated until the zombie is reaped.
    pub pid: Pid,
    /// The short name of the program, as in ps(1).
    pub name: String,
    /// The parent, which has to reap it.
    pub ppid: i32,
    /// The command line of the parent, or "unknown process".
    pub parent: String,
    /// A process other than the parent that traces it (ptrace(2)). The parent can't reap it until the tracer
    /// detaches.
    pub tracer: Option<Pid>,
    /// The worker it belongs to; `None` for processes outside this daemon.
    pub worker: Option<WorkerName>,
}

/// The result of [`find`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZombieReport {
    /// [`ZOMBIES_SCHEMA`].
    pub schema: String,
    /// Sorted by pid.
    pub zombies: Vec<Zombie>,
    /// Number of processes that were read.
    pub examined: u32,
}

/// The processes among which to find zombies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The descendants of this process.
    Below(Pid),
    /// All processes.
    Machine,
}

/// Finds zombies. `worker_of` returns the worker that a process belongs to.
///
/// # Errors
/// When not all processes could be read: a report without zombies would be wrong then.
pub fn find(scope: Scope, worker_of: &dyn Fn(Pid) -> Option<WorkerName>) -> Result<ZombieReport, CannotLook> {
    let processes = match scope {
        Scope::Below(root) => process::tree(root),
        Scope::Machine => process::all(),
    }
    .complete()?;
    let mut zombies: Vec<_> = processes
        .iter()
        .filter(|process| process::is_zombie(process))
        .map(|process| zombie(process, worker_of))
        .collect();
    zombies.sort_by_key(|zombie| zombie.pid);
    let examined = u32::try_from(processes.len()).unwrap_or(u32::MAX);
    Ok(ZombieReport { schema: ZOMBIES_SCHEMA.to_owned(), zombies, examined })
}

fn zombie(process: &Process, worker_of: &dyn Fn(Pid) -> Option<WorkerName>) -> Zombie {
    let parent = Pid::new(process.ppid).and_then(process::describe);
    Zombie {
        pid: process.pid,
        name: process.name.clone(),
        ppid: process.ppid,
        parent: parent.map_or_else(|| "unknown process".to_owned(), |parent| parent.command),
        // A parent that traces its own child can still reap it.
        tracer: process::tracer(process.pid).filter(|tracer| tracer.get() != process.ppid),
        worker: worker_of(process.pid),
    }
}

impl Zombie {
    /// One sentence without a full stop: "zombie sh (pid 4712): its parent python3 server.py (pid 4711) has
    /// not reaped it".
    pub fn sentence(&self) -> String {
        let Self { pid, name, ppid, parent, .. } = self;
        match self.tracer {
            Some(tracer) => format!(
                "zombie {name} (pid {pid}): it is traced by pid {tracer}, and its parent can't reap it \
                 until the tracer detaches"
            ),
            None => {
                format!("zombie {name} (pid {pid}): its parent {parent} (pid {ppid}) has not reaped it")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::{Duration, Instant};

    use super::*;

    /// R-VER-1, R-VER-5.
    #[test]
    fn an_unreaped_child_is_found_until_it_is_reaped() {
        let mut child = Command::new("true").spawn().expect("true(1)");
        let pid = Pid::new(child.id().cast_signed()).expect("positive");
        let worker: WorkerName = "alpha".parse().expect("a name");
        let worker_of = |other: Pid| (other == pid).then(|| worker.clone());
        let find_child = |scope| {
            find(scope, &worker_of).expect("readable").zombies.into_iter().find(|zombie| zombie.pid == pid)
        };

        let deadline = Instant::now() + Duration::from_secs(10);
        let found = loop {
            match find_child(Scope::Below(Pid::current())) {
                Some(found) => break found,
                None => assert!(Instant::now() < deadline, "the child did not become a zombie"),
            }
            std::thread::yield_now();
        };
        assert_eq!(found.ppid, Pid::current().get());
        assert_eq!((found.worker.as_ref(), found.tracer), (Some(&worker), None));
        assert!(found.sentence().starts_with("zombie true (pid "), "{}", found.sentence());
        assert!(find_child(Scope::Machine).is_some());

        child.wait().expect("the child");
        assert_eq!(find_child(Scope::Below(Pid::current())), None);
        assert_eq!(find_child(Scope::Machine), None);
    }
}
