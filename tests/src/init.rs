//! Replaces init when the portable backend is tested.
//!
//! That backend is not a subreaper, so orphans are reparented to init. In a container, init may reap only every few
//! seconds, and thousands of zombies would slow down everything. So the test process becomes a subreaper and reaps them.

use std::sync::Once;
use std::thread;
use std::time::Duration;

use mcpd_common::ids::Pid;
use mcpd_common::os::{Backend, backend, child, process};

const REAP_INTERVAL: Duration = Duration::from_millis(5);

/// Becomes the subreaper and reaps orphans from now on, if the portable backend is tested.
pub fn replace_for_portable_backend() {
    static ONCE: Once = Once::new();
    if backend() == Backend::Portable {
        ONCE.call_once(|| {
            let me = rustix::process::getpid();
            rustix::process::set_child_subreaper(Some(me)).expect("it can be set");
            thread::spawn(reap);
        });
    }
}

/// Reaps children in other sessions only: the test's own children are reaped by the code that started them.
fn reap() {
    let me = process::best_effort::read(Pid::current()).expect("this process");
    loop {
        for pid in children(me.pid) {
            let orphan = process::best_effort::read(pid)
                .filter(|found| found.session != me.session && found.state == 'Z');
            if orphan.is_some() {
                let _ = child::reap(pid);
            }
        }
        thread::sleep(REAP_INTERVAL);
    }
}

/// From `/proc/PID/task/TID/children`, because the portable backend would list all processes.
fn children(pid: Pid) -> Vec<Pid> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    let pids = lists.flat_map(|list| {
        list.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect::<Vec<i32>>()
    });
    pids.filter_map(Pid::new).collect()
}
