//! The subreaper and the kernel's proof. One test only: it waits for any child, and so needs a
//! process of its own.

#![cfg(target_os = "linux")]

use std::time::{Duration, Instant};

use mcpd_common::ids::{Mark, Pid, RunTag, Slot};
use mcpd_common::os::Backend;
use mcpd_common::os::child::{self, Delivery, Handle, Proof, ReapedChildren, Signal, SpawnPlan};
use mcpd_common::os::process;
use mcpd_common::os::this_process::OpenFileLimit;

const MARK: Mark = Mark { run: RunTag(77), slot: Slot(1) };
const TIMEOUT: Duration = Duration::from_secs(10);

fn plan(script: &str) -> SpawnPlan {
    SpawnPlan {
        program: "/bin/sh".into(),
        args: vec!["-c".into(), script.into()],
        directory: "/".into(),
        env: vec![("PATH".into(), "/usr/bin:/bin".into())],
        input: None,
        output: None,
        errors: None,
        mark: MARK,
        open_files: OpenFileLimit { soft: 256, hard: 256 },
        cgroup: None,
    }
}

/// Kills the tree and scans again until the kernel proves that nothing is left; returns the number of reaped
/// children.
fn kill_until_gone() -> usize {
    let deadline = Instant::now() + TIMEOUT;
    let mut reaped = 0;
    loop {
        for process in process::best_effort::tree(Pid::current()) {
            if let Ok(Some(handle)) = Handle::open(&process) {
                assert_ne!(handle.signal(Signal::Kill), Delivery::NotPermitted);
            }
        }
        let ReapedChildren { proof, reaped: now } = child::prove_no_children();
        reaped += now.len();
        if proof == Proof::NoChildren {
            return reaped;
        }
        assert!(Instant::now() < deadline, "left: {:?}", process::best_effort::tree(Pid::current()));
    }
}

/// R-CONT-2, R-CONT-3: processes that detach into sessions of their own become our children, keep the mark,
/// and prevent the proof until they are gone.
#[test]
fn detached_processes_prevent_the_proof_until_they_are_gone() {
    if mcpd_common::os::backend() == Backend::Portable {
        return; // It has no subreaper, and so no proof.
    }
    assert_eq!(child::prove_no_children(), ReapedChildren { proof: Proof::NoChildren, reaped: vec![] });
    child::become_subreaper().expect("Linux");

    // Ten that change their session, parent and environment, each with a child.
    let script = "for i in 1 2 3 4 5 6 7 8 9 10; do env -i setsid --fork sh -c 'sleep 60 & wait'; done";
    let leader = child::spawn(plan(script)).expect("sh(1)").pid();
    let deadline = Instant::now() + TIMEOUT;
    while child::reap(leader).is_none() {
        assert!(Instant::now() < deadline, "the leader does not exit");
        std::thread::yield_now();
    }

    let sleepers = || {
        let tree = process::best_effort::tree(Pid::current());
        tree.into_iter().filter(|process| process.name == "sleep").collect::<Vec<_>>()
    };
    while sleepers().len() < 10 {
        assert!(
            Instant::now() < deadline,
            "not all of them run: {:?}",
            process::best_effort::tree(Pid::current())
        );
        std::thread::yield_now();
    }
    assert!(sleepers().iter().all(|process| process::best_effort::mark(process.pid) == Some(MARK)));
    assert_eq!(child::prove_no_children().proof, Proof::Children);
    assert!(process::best_effort::children(Pid::current()).len() >= 10, "orphans are ours now");

    assert!(kill_until_gone() >= 20, "ten shells and ten sleepers");
    assert!(process::best_effort::tree(Pid::current()).is_empty());
}
