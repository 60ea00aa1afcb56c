//! Decisions that need no more than every system gives: the parent of each process, and its
//! environment. No subreaper and no pidfd: what was left behind by its parents is found by its mark,
//! and there is no proof.

use std::collections::{HashMap, VecDeque};
use std::thread;
use std::time::{Duration, Instant};

use super::child::{Delivery, MARK_VARIABLE, Signal, signal_child};
use super::process::{self, Process, StartTime};
use super::{CannotLook, Listing, system};
use crate::ids::{Mark, Pid};

/// The direct children of this process.
pub fn children(pid: Pid) -> Listing<Pid> {
    let mut children = Listing::default();
    let all = children.take(process::all());
    children.extend(all.iter().filter(|process| process.ppid == pid.get()).map(|process| process.pid));
    children
}

/// All descendants of `root`, without itself, parents before their children.
pub fn tree(root: Pid) -> Listing<Process> {
    let mut tree = Listing::default();
    let mut by_parent: HashMap<i32, Vec<Process>> = HashMap::new();
    for process in tree.take(process::all()) {
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

/// How long a wait sleeps between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// A process by pid and start time, compared again right before each use. Between the look and the
/// signal it could still end and its pid be given away: best effort, the system offers no better.
#[derive(Debug)]
pub struct Identity {
    pid: Pid,
    start: StartTime,
}

impl Identity {
    /// The process that was read; `None` if it is gone.
    ///
    /// # Errors
    /// When the kernel can't be asked.
    pub fn open(process: &Process) -> Result<Option<Self>, CannotLook> {
        let identity = Self { pid: process.pid, start: process.start };
        Ok(identity.read()?.is_some().then_some(identity))
    }

    fn read(&self) -> Result<Option<Process>, CannotLook> {
        Ok(process::read(self.pid)?.filter(|now| now.start == self.start))
    }

    /// Signals it, if it is certain that the pid still means the same process.
    pub fn signal(&self, signal: Signal) -> Delivery {
        match self.read() {
            Ok(Some(_)) => signal_child(self.pid, signal),
            Ok(None) => Delivery::Gone,
            Err(_) => Delivery::CannotLook,
        }
    }

    /// Whether it runs; also if that can't be read now.
    pub fn is_alive(&self) -> bool {
        match self.read() {
            Ok(now) => now.is_some_and(|now| now.state != 'X' && !process::is_zombie(&now)),
            Err(_) => true,
        }
    }

    /// Waits until it has ended, at most this long; whether it has.
    pub fn wait(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        while self.is_alive() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            thread::sleep(left.min(LOOK_AGAIN));
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::*;

    fn sleeper(mark: &str) -> (Child, Pid) {
        let child = Command::new("sleep").arg("60").env(MARK_VARIABLE, mark).spawn().expect("sleep(1)");
        let pid = Pid::new(child.id().cast_signed()).expect("positive");
        (child, pid)
    }

    /// R-CONT-7: the tree by parents alone shows what is below us, and nothing else.
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

    #[test]
    fn an_identity_means_one_process() {
        let (mut child, pid) = sleeper("");
        let process = process::best_effort::read(pid).expect("it runs");
        let mut other = process.clone();
        other.start.0 += 1;
        assert!(Identity::open(&other).is_ok_and(|found| found.is_none()));
        let identity = Identity::open(&process).expect("readable").expect("it runs");
        assert!(identity.is_alive());
        assert!(!identity.wait(Duration::from_millis(1)));
        assert_eq!(identity.signal(Signal::Kill), Delivery::Sent);
        assert!(identity.wait(Duration::from_secs(10)), "a zombie has ended");
        child.wait().expect("our child");
        assert_eq!(identity.signal(Signal::Kill), Delivery::Gone);
    }
}
