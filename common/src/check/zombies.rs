//! Zombies: processes that ended and that nobody has waited for (R-VER-1).

use serde::{Deserialize, Serialize};

use crate::ids::{Pid, WorkerName};
use crate::os::CannotLook;
use crate::os::process::{self, Process};

/// The `schema` of a [`ZombieReport`] in JSON.
pub const ZOMBIES_SCHEMA: &str = "mcpd.zombies.v1";

/// A zombie.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Zombie {
    /// Its pid.
    pub pid: Pid,
    /// Its short name.
    pub name: String,
    /// The process that ought to wait for it.
    pub ppid: i32,
    /// That process's command line.
    pub parent: String,
    /// Whoever traces it from elsewhere, and so keeps it.
    pub tracer: Option<Pid>,
    /// The worker it belongs to, if it is below the daemon.
    pub worker: Option<WorkerName>,
}

/// All zombies that were looked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZombieReport {
    /// [`ZOMBIES_SCHEMA`].
    pub schema: String,
    /// The zombies, by pid.
    pub zombies: Vec<Zombie>,
    /// How many processes were looked at.
    pub examined: u32,
}

/// Where to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Below this process, without itself.
    Below(Pid),
    /// Everywhere.
    Machine,
}

/// Looks for zombies. `worker_of` says to which worker a process belongs.
///
/// # Errors
/// When not all processes could be read: a report without zombies would be wrong then.
pub fn look(scope: Scope, worker_of: &dyn Fn(Pid) -> Option<WorkerName>) -> Result<ZombieReport, CannotLook> {
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
        // The parent may trace its own child; that keeps nobody from reaping it.
        tracer: process::tracer(process.pid).filter(|tracer| tracer.get() != process.ppid),
        worker: worker_of(process.pid),
    }
}

impl Zombie {
    /// What it is and who keeps it: "zombie sh (pid 4712): its parent python3 server.py (pid 4711)
    /// has not waited for it".
    pub fn sentence(&self) -> String {
        let Self { pid, name, ppid, parent, .. } = self;
        match self.tracer {
            Some(tracer) => format!(
                "zombie {name} (pid {pid}): it is traced by pid {tracer} and can't be reaped until that lets go"
            ),
            None => {
                format!("zombie {name} (pid {pid}): its parent {parent} (pid {ppid}) has not waited for it")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::{Duration, Instant};

    use super::*;

    /// R-VER-1, R-VER-5: an ended child that was not waited for is found, with its parent, and is gone
    /// from the list once it was.
    #[test]
    fn an_unreaped_child_is_found_until_it_is_reaped() {
        let mut child = Command::new("true").spawn().expect("true(1)");
        let pid = Pid::new(child.id().cast_signed()).expect("positive");
        let worker: WorkerName = "alpha".parse().expect("a name");
        let mine = |asked: Pid| (asked == pid).then(|| worker.clone());
        let find = |scope| {
            look(scope, &mine).expect("readable").zombies.into_iter().find(|zombie| zombie.pid == pid)
        };

        let deadline = Instant::now() + Duration::from_secs(10);
        let found = loop {
            match find(Scope::Below(Pid::current())) {
                Some(found) => break found,
                None => assert!(Instant::now() < deadline, "never became a zombie"),
            }
            std::thread::yield_now();
        };
        assert_eq!(found.ppid, Pid::current().get());
        assert_eq!((found.worker.as_ref(), found.tracer), (Some(&worker), None));
        assert!(found.sentence().starts_with("zombie true (pid "), "{}", found.sentence());
        assert!(find(Scope::Machine).is_some());

        child.wait().expect("our child");
        assert_eq!(find(Scope::Below(Pid::current())), None);
        assert_eq!(find(Scope::Machine), None);
    }
}
