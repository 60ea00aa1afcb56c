//! Decisions that need only the facts that every system gives: the parent of each process, and its
//! environment. There is no subreaper and no pidfd: orphans are found by their mark, and there is no proof
//! that none is left.

use std::collections::{HashMap, VecDeque};

use super::lookup::{CannotLook, Listing};
use super::process_data::Process;
use super::system;
use crate::ids::{Mark, Pid};

/// The environment variable with the mark of a process, for systems that can't carry it in a resource limit.
pub const MARK_VARIABLE: &str = "MCPD_MARK";

/// All processes that this user may read.
pub fn all() -> Listing<Process> {
    let mut all = Listing::default();
    for pid in all.record(system::pids()) {
        let process = all.record(system::read(pid));
        all.extend(process);
    }
    all
}

/// Whether it has exited and waits to be reaped. A thread group leader that has exited while other threads
/// run has the same state, but is no zombie. If its threads can't be listed it counts as running.
pub fn is_zombie(process: &Process) -> bool {
    process.state == 'Z' && !system::has_other_threads(process.pid).unwrap_or(true)
}

/// The direct children of this process.
pub fn children(pid: Pid) -> Listing<Pid> {
    let mut children = Listing::default();
    let all = children.take(self::all());
    children.extend(all.iter().filter(|process| process.ppid == pid.get()).map(|process| process.pid));
    children
}

/// All descendants of `root`, without itself, parents before their children.
pub fn tree(root: Pid) -> Listing<Process> {
    let mut tree = Listing::default();
    let mut by_parent: HashMap<i32, Vec<Process>> = HashMap::new();
    for process in tree.take(all()) {
        by_parent.entry(process.ppid).or_default().push(process);
    }
    // Removing the children of each parent from the map ends the walk even if processes were reparented
    // during the scan so that parents form a ring.
    let mut parents = VecDeque::from([root.get()]);
    while let Some(parent) = parents.pop_front() {
        let children = by_parent.remove(&parent).unwrap_or_default();
        for process in children.into_iter().filter(|process| process.pid != root) {
            parents.push_back(process.pid.get());
            tree.extend([process]);
        }
    }
    tree
}

/// The mark in its environment.
pub fn mark(pid: Pid) -> Result<Option<Mark>, CannotLook> {
    let value = system::environment(pid, MARK_VARIABLE)?;
    Ok(value.and_then(|value| u64::from_str_radix(&value, 16).ok()).and_then(Mark::from_limit))
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};
    use std::thread;
    use std::time::{Duration, Instant};

    use super::*;

    fn sleeper(mark: &str) -> (Child, Pid) {
        let child = Command::new("sleep").arg("60").env(MARK_VARIABLE, mark).spawn().expect("sleep(1)");
        let pid = Pid::new(child.id().cast_signed()).expect("positive");
        (child, pid)
    }

    /// R-CONT-7: the tree by parents shows all descendants and nothing else.
    #[test]
    fn the_tree_is_found_by_parents() {
        let (mut child, pid) = sleeper("");
        let is_child = |pid| children(Pid::current()).best_effort().contains(&pid);
        assert!(is_child(pid));
        let below = tree(Pid::current()).best_effort();
        assert!(below.iter().any(|process| process.pid == pid));
        assert!(below.iter().all(|process| process.pid != Pid::current()));
        assert!(tree(pid).is_proof_of_absence());
        child.kill().expect("our child");
        child.wait().expect("our child");
        assert!(!is_child(pid));
    }

    /// R-CONT-7: marks are read from the environment here.
    #[test]
    fn marks_are_read_from_the_environment() {
        let expected = Mark { run: crate::ids::RunTag(9), slot: crate::ids::Slot(3) };
        let (mut child, pid) = sleeper(&format!("{:x}", expected.to_limit()));
        // The kernel shows an environment a moment after the program was replaced.
        let deadline = Instant::now() + Duration::from_secs(10);
        while mark(pid) == Ok(None) && Instant::now() < deadline {
            thread::yield_now();
        }
        assert_eq!(mark(pid), Ok(Some(expected)));
        child.kill().expect("our child");
        child.wait().expect("our child");
        let (mut child, pid) = sleeper("not a mark");
        assert_eq!(mark(pid), Ok(None));
        child.kill().expect("our child");
        child.wait().expect("our child");
    }
}
