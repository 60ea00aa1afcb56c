//! A daemon without a free descriptor can't read the process table. It must not treat a process that it can't read as
//! gone (R-SUP-3, R-VER-1).

use std::time::Duration;

use mcpd_common::os::child::{Handle, Signal};
use mcpd_common::os::{Backend, backend, process};
use mcpd_common::status::WorkerState;
use mcpd_tests::limits::FewDescriptors;
use mcpd_tests::{ConfigBuilder, Daemon};

/// Meanwhile a worker is killed, and children that escaped from it are left. The next process starts only when they are
/// gone.
#[test]
fn escaped_children_are_killed_after_descriptors_are_free_again() {
    let mut daemon = Daemon::start(ConfigBuilder::new().fixture("alpha", "--escape 2"));
    daemon.wait_status("the descendants", |status| status.workers[0].descendants == 2);
    daemon.remember();
    let old = daemon.processes();
    let leader = daemon.try_status().expect("the daemon responds").workers[0].pid.expect("it runs");
    let before = process::best_effort::read(leader).expect("it runs");

    let few = FewDescriptors::of(daemon.pid(), None).expect("the daemon of this test");
    let _ = Handle::open(&before).expect("readable").expect("it runs").signal(Signal::Kill);
    daemon.wait_log("state=\"stopping\"");
    let kept = process::best_effort::read(leader).expect("unreaped until its descendants are known");
    assert_eq!((kept.state, kept.start), ('Z', before.start));
    drop(few);

    daemon.wait_status("the next process", |status| {
        let alpha = &status.workers[0];
        alpha.restarts == 1 && alpha.state == WorkerState::Ready && alpha.descendants == 2
    });
    let is_old = |now: &process::Process| old.iter().any(|it| (it.pid, it.start) == (now.pid, now.start));
    let left: Vec<_> = daemon.processes().into_iter().filter(is_old).collect();
    assert!(left.is_empty(), "{left:?}");
    daemon.assert_shuts_down(3);
}

/// With escaped children that ignore `SIGTERM`.
#[test]
fn a_shutdown_that_could_not_read_the_process_table_is_never_clean() {
    let short = Duration::from_millis(500);
    let config = ConfigBuilder::new().times(short, short).shutdown("verification = \"2s\"");
    let mut daemon = Daemon::start(config.fixture("alpha", "--escape 2").fixture("beta", ""));
    daemon.wait_status("the descendants", |status| status.workers.iter().any(|it| it.descendants == 2));
    daemon.remember();
    let few = FewDescriptors::of(daemon.pid(), None).expect("the daemon of this test");
    daemon.signal(mcpd_tests::Signal::SIGTERM);
    let code = daemon.wait_exit(mcpd_tests::daemon::LONGEST_SHUTDOWN);
    drop(few);
    assert_eq!(code, 5, "{}", daemon.log());
    // The guardian killed the remaining processes; the portable backend finds none without a mark.
    if backend() == Backend::Linux {
        daemon.assert_nothing_left(&[]);
    }
}
