//! The descendants of a process, from the kernel's lists of children: the costs depend on the size of the
//! tree, not on the number of processes of the machine.

use std::collections::HashSet;

use super::procfs;
use crate::ids::Pid;
use crate::os::lookup::Listing;
use crate::os::process_data::Process;

/// How often the children of the root are read. Repeating it finds processes that were reparented during the
/// walk to a root that is a subreaper; the limit ends the walk if a process keeps forking.
const MAX_READS_OF_ROOT: usize = 3;

/// All descendants of `root`, without itself, parents before their children.
pub fn tree(root: Pid) -> Listing<Process> {
    let mut known = HashSet::from([root]);
    let mut tree = Listing::default();
    for _ in 0..MAX_READS_OF_ROOT {
        let mut next = tree.found().len();
        add_unknown(procfs::children(root), &mut known, &mut tree);
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

/// The children of a process. A process with a single thread has one list only. It may have started threads
/// since it was read; the next scan finds their children.
fn children_of(process: &Process) -> Listing<Pid> {
    if process.threads == 1
        && let Ok(Some(children)) = procfs::children_of_thread(process.pid, process.pid)
    {
        return Ok(children).into();
    }
    procfs::children(process.pid)
}
