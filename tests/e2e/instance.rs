//! One daemon per state directory, and the processes that a killed one leaves behind (R-LOG-6, R-CLI-3, R-EXIT-2).

use mcpd_common::exit_code::program;
use mcpd_common::ids::{Pid, RunTag};
use mcpd_common::os::process;
use mcpd_common::status::{StatusReport, WorkerState};
use mcpd_tests::daemon::LONGEST_SHUTDOWN;
use mcpd_tests::{BOUND, ConfigBuilder, Daemon, Signal, command, skip, until};
use nix::sys::signal::kill;
use serde_json::Value;

/// A second `mcpd` with the configuration of this one.
fn second(daemon: &Daemon) -> command::Running {
    let mut mcpd = Daemon::command(daemon.home(), &ConfigBuilder::new());
    command::start(mcpd.arg("--config").arg(daemon.home().join("config.toml")))
}

/// R-LOG-6, R-EXIT-2.
#[test]
fn a_second_start_names_the_running_daemon() {
    let mut daemon = Daemon::start(ConfigBuilder::new().fixture("alpha", ""));
    let before = daemon.try_status().expect("the daemon responds");
    let output = second(&daemon).finish(BOUND).expect_code(program::TEMPFAIL);
    let pid = format!("pid {}", daemon.pid());
    for words in ["already running", &pid, "add it to its configuration", "state_dir"] {
        assert!(output.stderr.contains(words), "{words}: {output:?}");
    }
    let after = daemon.try_status().expect("the daemon responds");
    assert_eq!(after, before, "the start changed nothing");
    daemon.assert_shuts_down(0);
}

/// R-EXIT-2.
#[test]
fn a_start_during_a_shutdown_waits_and_succeeds() {
    let mut first = Daemon::start(ConfigBuilder::new().fixture("alpha", "--slow-exit 1200"));
    first.mcpctl(&["shutdown"]).expect_code(0);
    let successor = second(&first);
    assert_eq!(first.wait_exit(LONGEST_SHUTDOWN), 0);
    let is_ready = |status: &StatusReport| {
        let guardian = status.daemon.as_ref().and_then(|daemon| daemon.guardian);
        guardian.map(Pid::get) == Some(successor.pid().as_raw())
            && status.workers[0].state == WorkerState::Ready
    };
    until("the successor's worker", BOUND, || first.try_status().filter(is_ready));
    first.mcpctl(&["shutdown", "--wait"]).expect_code(0);
    successor.finish(LONGEST_SHUTDOWN).expect_code(0);
    first.assert_nothing_left(&[]);
}

/// R-CLI-3.
#[test]
fn a_shutdown_without_a_daemon_succeeds() {
    let mut daemon = Daemon::start(ConfigBuilder::new().fixture("alpha", ""));
    daemon.assert_shuts_down(0);
    for args in [&["shutdown"][..], &["shutdown", "--wait", "--now", "--reason", "again"]] {
        let output = daemon.mcpctl(args).expect_code(0);
        assert_eq!(output.stdout, "mcpd is not running, and nothing of it is left\n");
    }
    let result = daemon.mcpctl(&["shutdown", "--json"]).expect_code(0).json();
    assert_eq!((&result["state"], &result["exit_code"]), (&"not_running".into(), &0.into()));
    assert_eq!(daemon.report().reason, "manual", "the report of the last run is unchanged");
}

/// R-CLI-3: daemon and guardian were killed. `mcpctl shutdown` exits with the code of the finding and kills nothing.
#[test]
fn mcpctl_shutdown_names_processes_that_a_killed_daemon_left() {
    let why = "an emptied environment leaves no mark to be named by";
    if skip::unless_linux_backend(why) {
        return;
    }
    let mut daemon = Daemon::start(ConfigBuilder::new().fixture("alpha", "--escape 1"));
    let run = daemon.try_status().and_then(|status| status.daemon).expect("it runs").run;
    daemon.kill_both();

    let left = until("only the escaped process to be left", BOUND, || only_marked(run.tag()));
    let result = daemon.mcpctl(&["shutdown", "--wait", "--json"]).expect_code(5).json();
    assert_eq!(
        (&result["schema"], &result["state"]),
        (&"mcpd.shutdown-result.v1".into(), &"leftovers".into())
    );
    let findings = lasting(&result);
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!((&findings[0]["kind"], &findings[0]["subject"]), (&"process_left".into(), &"alpha".into()));
    let names_it = |text: &str| text.contains(&format!("pid {left}"));
    assert!(findings[0]["detail"].as_str().is_some_and(names_it), "{findings:?}");
    let text = daemon.mcpctl(&["shutdown"]).expect_code(5).stdout;
    assert!(names_it(&text) && text.contains("something is left"), "{text}");
    daemon.mcpctl(&["health"]).expect_code(3);
    assert_eq!(only_marked(run.tag()), Some(left), "it was not killed");

    // The process carries the mark of the run, so it is not another one with the same pid.
    kill(nix::unistd::Pid::from_raw(left.get()), Signal::SIGKILL).expect("it runs");
    until("it to be gone", BOUND, || (!is_alive(left)).then_some(()));
    let result = daemon.mcpctl(&["shutdown", "--json"]).json();
    assert!(lasting(&result).is_empty(), "{result}");

    let mut next = daemon.launch_again();
    next.wait_ready();
    next.assert_shuts_down(3);
}

/// R-CONT-6: it reports them, and kills no other process.
#[test]
fn the_next_start_kills_processes_that_a_killed_daemon_left() {
    let config = ConfigBuilder::new().fixture("alpha", "--escape 3").fixture("beta", "--tree 2 2");
    let mut daemon = Daemon::start(config);
    let run = daemon.try_status().and_then(|status| status.daemon).expect("it runs").run;
    let mut other = std::process::Command::new("sleep").arg("60").spawn().expect("started");
    daemon.kill_both();
    assert!(marked(run.tag()) >= 3, "the escaped processes are left");

    let next = second(&daemon);
    let all_ready = |status: &StatusReport| {
        let of_another_run = status.daemon.as_ref().is_some_and(|daemon| daemon.run != run);
        of_another_run && status.workers.iter().all(|worker| worker.state == WorkerState::Ready)
    };
    let status = until("all workers of the next run", BOUND, || daemon.try_status().filter(all_ready));
    assert_eq!(marked(run.tag()), 0, "no process of the last run is left");
    let warnings = status.daemon.expect("it runs").warnings;
    let warning = warnings
        .iter()
        .find(|warning| warning.contains(&run.to_string()))
        .expect("a warning that names the run");
    assert!(warning.contains("of its processes"), "{warning}");
    assert_eq!(other.try_wait().expect("a child of this test"), None, "another process is not killed");
    other.kill().expect("a child of this test");
    other.wait().expect("a child of this test");
    daemon.mcpctl(&["shutdown", "--wait"]).expect_code(3);
    next.finish(LONGEST_SHUTDOWN).expect_code(3);
}

/// Number of running processes that carry the run's mark.
fn marked(run: RunTag) -> usize {
    let is_marked = |found: &process::Process| {
        found.state != 'Z' && process::best_effort::mark(found.pid).is_some_and(|mark| mark.run == run)
    };
    process::best_effort::all().iter().filter(|found| is_marked(found)).count()
}

/// The findings without zombies: init may reap them late.
fn lasting(result: &Value) -> Vec<Value> {
    let findings = result["findings"].as_array().expect("findings");
    findings.iter().filter(|finding| finding["kind"] != "zombie_left").cloned().collect()
}

/// The process that carries the run's mark, if it is the only one; zombies are ignored.
fn only_marked(run: RunTag) -> Option<Pid> {
    let is_marked = |found: &process::Process| {
        found.state != 'Z' && process::best_effort::mark(found.pid).is_some_and(|mark| mark.run == run)
    };
    let marked: Vec<_> = process::best_effort::all().into_iter().filter(is_marked).collect();
    (marked.len() == 1).then(|| marked[0].pid)
}

fn is_alive(pid: Pid) -> bool {
    process::best_effort::read(pid).is_some_and(|found| found.state != 'Z')
}

/// R-CLI-3: the daemon still responds, or it has exited.
#[test]
fn a_shutdown_request_while_the_daemon_exits_succeeds() {
    let mut daemon = Daemon::start(ConfigBuilder::new().fixture("alpha", ""));
    daemon.signal(Signal::SIGTERM);
    while daemon.poll_exit().is_none() {
        daemon.mcpctl(&["shutdown", "--wait"]).expect_code(0);
    }
    daemon.assert_no_trace(0);
}
