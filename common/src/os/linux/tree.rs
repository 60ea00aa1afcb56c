//! The descendants of a process, by following each to its children: costs what the tree is
//! large, not what the machine is.

use std::collections::HashSet;

use super::procfs;
use crate::ids::Pid;
use crate::os::process::{self, Process};

/// How often the root is looked at again. Each time finds what those who died during the walk left
/// to a root that is a subreaper; a process that forks without end must not keep us walking.
const LOOKS_AT_ROOT: usize = 3;

/// All descendants of `root`, without itself, parents before their children.
pub fn tree(root: Pid) -> Vec<Process> {
    let mut seen = HashSet::from([root]);
    let mut found: Vec<Process> = Vec::new();
    for _ in 0..LOOKS_AT_ROOT {
        let mut next = found.len();
        add_unseen(process::children(root), &mut seen, &mut found);
        if next == found.len() {
            break;
        }
        while let Some(process) = found.get(next) {
            add_unseen(children_of(process), &mut seen, &mut found);
            next += 1;
        }
    }
    found
}

fn add_unseen(pids: Vec<Pid>, seen: &mut HashSet<Pid>, found: &mut Vec<Process>) {
    found.extend(pids.into_iter().filter(|pid| seen.insert(*pid)).filter_map(procfs::read));
}

/// Its children. A process with a single thread needs one look only; it may have started others
/// since it was read, whose children the next look at the machine finds.
fn children_of(process: &Process) -> Vec<Pid> {
    let single = (process.threads == 1).then(|| procfs::children_of_thread(process.pid, process.pid));
    single.flatten().unwrap_or_else(|| process::children(process.pid))
}
