//! A process in uninterruptible sleep, which survives `SIGKILL`, is reported (R-VER-1).
//!
//! The test uses the freezer of cgroups v1 and is skipped where it is not mounted.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use mcpd_common::ids::Pid;
use mcpd_common::os::process::{self, Process};
use mcpd_common::outcome::FindingKind;
use mcpd_tests::{BOUND, ConfigBuilder, Daemon, skip, until};

const SHORT: Duration = Duration::from_millis(500);

/// A cgroup of the freezer. Thawed and removed on drop.
struct Freezer(PathBuf);

impl Freezer {
    /// Skips the test where no freezer is available.
    fn make() -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let line = mounts.lines().find(|line| line.contains(" - cgroup ") && line.contains("freezer"));
        let point = line.and_then(|line| line.split(' ').nth(4));
        let directory = point.map(|point| PathBuf::from(point).join(format!("test-{}", std::process::id())));
        match directory.filter(|directory| fs::create_dir(directory).is_ok()) {
            Some(directory) => Some(Self(directory)),
            None => {
                skip::test("no freezer of cgroups v1 is mounted, or it is read-only");
                None
            }
        }
    }

    fn set(&self, state: &str) {
        fs::write(self.0.join("freezer.state"), state).expect("freezer.state is writable");
    }

    fn freeze(&self, pid: Pid) {
        fs::write(self.0.join("cgroup.procs"), pid.to_string()).expect("moved");
        self.set("FROZEN");
        let frozen =
            || fs::read_to_string(self.0.join("freezer.state")).is_ok_and(|it| it.trim() == "FROZEN");
        until("it to be frozen", BOUND, || frozen().then_some(()));
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        let _ = fs::write(self.0.join("freezer.state"), "THAWED");
        let removed = || fs::remove_dir(&self.0).is_ok().then_some(());
        if !std::thread::panicking() {
            until("the freezer to be empty", BOUND, removed);
        }
    }
}

/// Either this or the reaper of the test helpers reaps it.
fn wait_gone(child: &Process) {
    until("it to be gone", BOUND, || {
        let _ = mcpd_common::os::child::reap(child.pid);
        let now = process::best_effort::read(child.pid).filter(|now| now.start == child.start);
        now.is_none().then_some(())
    });
}

/// On each backend and within the limits. Once thawed, the process is killed by the pending signal.
#[test]
fn code_5_a_process_in_uninterruptible_sleep() {
    let Some(freezer) = Freezer::make() else { return };
    // This test reaps the process that the daemon leaves.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).expect("it can be set");
    let config = ConfigBuilder::new()
        .times(SHORT, SHORT)
        .shutdown("verification = \"8s\"")
        .fixture("alpha", "--tree 1 1")
        .fixture("beta", "");
    let mut daemon = Daemon::start(config);
    let is_child = |pid| process::describe(pid).is_some_and(|info| info.command.contains("--role tree"));
    let child = daemon.processes().into_iter().find(|found| is_child(found.pid)).expect("a child");
    freezer.freeze(child.pid);

    let output = daemon.mcpctl(&["shutdown", "--wait"]);
    let report = daemon.assert_ended(5);
    assert_eq!(output.code, Some(5), "{output:?}");
    let left = report.findings.iter().find(|finding| finding.kind == FindingKind::ProcessLeft);
    let left = left.unwrap_or_else(|| panic!("{:#?}", report.findings));
    assert_eq!(left.subject, child.pid.to_string());
    assert!(left.detail.contains("uninterruptible sleep"), "{}", left.detail);
    assert_eq!(report.proof, None, "a process is left");

    freezer.set("THAWED");
    wait_gone(&child);
    daemon.assert_nothing_left(&[]);
}

/// R-CONT-6: after a crash the next start names what it can't kill.
#[test]
fn a_frozen_process_of_a_crashed_run_is_named() {
    let Some(freezer) = Freezer::make() else { return };
    // This test reaps what daemon and guardian leave.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).expect("it can be set");
    let mut daemon = Daemon::start(ConfigBuilder::new().fixture("alpha", "--tree 1 1"));
    let is_child = |pid| process::describe(pid).is_some_and(|info| info.command.contains("--role tree"));
    let child = daemon.processes().into_iter().find(|found| is_child(found.pid)).expect("a child");
    freezer.freeze(child.pid);
    daemon.kill_both();
    let _: mcpd_common::os::child::ReapedChildren = mcpd_common::os::child::prove_no_children();

    let mut next = daemon.launch_again();
    next.wait_ready();
    let warnings = next.try_status().and_then(|status| status.daemon).expect("it runs").warnings;
    let named = format!("(pid {})", child.pid);
    let is_named = |warning: &String| warning.contains("could not be killed: ") && warning.contains(&named);
    assert!(warnings.iter().any(is_named), "{warnings:?}");
    freezer.set("THAWED");
    wait_gone(&child);
    next.assert_shuts_down(2);
}
