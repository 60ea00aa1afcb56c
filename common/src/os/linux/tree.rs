//! The descendants of a process, by following each to its children: costs what the tree is
//! large, not what the machine is.

use std::collections::HashSet;

use super::procfs;
use crate::ids::Pid;
use crate::os::lookup::Listing;
use crate::os::process::{self, Process};

/// How often the root is looked at again. Each time finds what those who died during the walk left
/// to a root that is a subreaper; a process that forks without end must not keep us walking.
const LOOKS_AT_ROOT: usize = 3;

/// All descendants of `root`, without itself, parents before their children.
pub fn tree(root: Pid) -> Listing<Process> {
    let mut known = HashSet::from([root]);
    let mut tree = Listing::default();
    for _ in 0..LOOKS_AT_ROOT {
        let mut next = tree.found().len();
        add_unknown(process::children(root), &mut known, &mut tree);
        if next == tree.found().len() {
            break;
        }
        while let Some(process) = tree.found().get(next) {
            add_unknown(children_of(process), &mut known, &mut tree);
            next += 1;
        }
    }
    tree
}

fn add_unknown(children: Listing<Pid>, known: &mut HashSet<Pid>, tree: &mut Listing<Process>) {
    for pid in tree.take(children).into_iter().filter(|pid| known.insert(*pid)) {
        let process = tree.record(procfs::read(pid));
        tree.extend(process);
    }
}

/// Its children. A process with a single thread needs one look only; it may have started others
/// since it was read, whose children the next look at the machine finds.
fn children_of(process: &Process) -> Listing<Pid> {
    if process.threads == 1
        && let Ok(Some(children)) = procfs::children_of_thread(process.pid, process.pid)
    {
        return Ok(children).into();
    }
    process::children(process.pid)
}
