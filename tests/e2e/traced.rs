//! Exit code 5: a zombie that can't be reaped is reported, and the shutdown ends within its limits. Exit code 100: a
//! thread of the daemon hangs.
//!
//! A traced process can be killed, but its parent can't reap it before its tracer has waited for it (ptrace(2)).

use std::fs;
use std::time::Duration;

use mcpd_common::ids::Pid;
use mcpd_common::os::process;
use mcpd_common::outcome::{Departure, FindingKind};
use mcpd_tests::{BOUND, ConfigBuilder, Daemon, skip, until};
use nix::errno::Errno;
use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

const SHORT: Duration = Duration::from_millis(500);

/// A process that is traced by this thread, as by a debugger that hangs.
struct Traced(nix::unistd::Pid);

impl Traced {
    /// Skips the test if the kernel refuses.
    fn seize(pid: Pid) -> Option<Self> {
        let pid = nix::unistd::Pid::from_raw(pid.get());
        match ptrace::seize(pid, ptrace::Options::empty()) {
            Ok(()) => Some(Self(pid)),
            Err(Errno::EPERM | Errno::ENOSYS | Errno::EACCES) => {
                skip::test("this machine refuses ptrace");
                None
            }
            Err(error) => panic!("ptrace({pid}): {error}"),
        }
    }

    /// Waits for the process as its tracer, so that its parent can reap it: the daemon or, if that has exited, this test.
    fn release(self) {
        until("the traced process to be released", BOUND, || {
            match waitpid(self.0, Some(WaitPidFlag::__WALL | WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) | Err(Errno::ECHILD) => Some(()),
                Ok(_) => None,
                Err(error) => panic!("waitpid({}): {error}", self.0),
            }
        });
    }
}

/// R-VER-1, R-SHUT-1: the tracer is named; every phase has its deadline.
#[test]
fn code_5_a_zombie_that_cannot_be_reaped() {
    if skip::unless_linux_backend("init reaps orphans") {
        return;
    }
    // The daemon leaves the zombie to the next subreaper: this test.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).expect("it can be set");
    let config = ConfigBuilder::new()
        .times(SHORT, SHORT)
        .shutdown("verification = \"3s\"")
        .fixture("alpha", "--tree 1 1")
        .fixture("beta", "");
    let mut daemon = Daemon::start(config);
    let alpha = daemon.processes().into_iter().find(|found| is_tree_process(found.pid)).expect("a child");
    let Some(traced) = Traced::seize(alpha.pid) else { return };

    let output = daemon.mcpctl(&["shutdown", "--wait"]);
    let report = daemon.assert_ended(5);
    assert_eq!(output.code, Some(5), "{output:?}");
    let zombie = report.findings.iter().find(|finding| finding.kind == FindingKind::ZombieLeft);
    let zombie = zombie.unwrap_or_else(|| panic!("{:#?}", report.findings));
    assert_eq!(zombie.subject, alpha.pid.to_string());
    assert!(zombie.detail.contains(&format!("traced by pid {}", std::process::id())), "{}", zombie.detail);
    assert_eq!(report.proof, None, "a zombie is left");
    let departure =
        |name| report.workers.iter().find(|worker| worker.name.as_str() == name).map(|it| it.departure);
    assert_eq!(departure("alpha"), Some(Departure::Remains));
    assert_eq!(departure("beta"), Some(Departure::Left));

    traced.release();
    daemon.assert_nothing_left(&[]);
}

fn is_tree_process(pid: Pid) -> bool {
    process::describe(pid).is_some_and(|info| info.command.contains("--role tree"))
}

/// The thread of a process with this name.
fn thread_named(pid: Pid, name: &str) -> Pid {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs").flatten();
    let is_it = |entry: &fs::DirEntry| {
        fs::read_to_string(entry.path().join("comm")).is_ok_and(|comm| comm.trim_end() == name)
    };
    let found = threads.into_iter().find(is_it).expect("a thread of this name");
    found.file_name().to_str().and_then(|tid| tid.parse().ok()).and_then(Pid::new).expect("a number")
}

/// R-SUP-5, without a fault that only a debug build has: the thread that owns all processes is stopped by a debugger.
/// Nothing can be claimed about the processes then, and the guardian ends them.
#[test]
fn code_100_when_the_process_thread_hangs() {
    if skip::unless_linux_backend("init reaps orphans") {
        return;
    }
    let config = ConfigBuilder::new()
        .times(SHORT, SHORT)
        .shutdown("verification = \"3s\"")
        .fixture("alpha", "--ignore-shutdown");
    let mut daemon = Daemon::start(config);
    let thread = thread_named(daemon.pid(), "mcpd-process");
    let Some(traced) = Traced::seize(thread) else { return };
    ptrace::interrupt(traced.0).expect("traced");
    waitpid(traced.0, Some(WaitPidFlag::__WALL)).expect("stopped");

    let shutdown = daemon.mcpctl_start(&["shutdown", "--wait"]);
    // The daemon can't be reaped before the tracer has waited for its last thread.
    let report = daemon.state().last_shutdown();
    until("the report", Duration::from_secs(60), || report.exists().then_some(()));
    traced.release();
    shutdown.finish(BOUND).expect_code(100);
    let report = daemon.assert_ended(100);
    let internal = report.findings.iter().find(|finding| finding.kind == FindingKind::InternalError);
    let internal = internal.unwrap_or_else(|| panic!("{:#?}", report.findings));
    assert!(internal.detail.contains("does not respond"), "{}", internal.detail);
    daemon.assert_all_gone(&[]);
}
