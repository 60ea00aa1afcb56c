//! One daemon per state directory, and what a killed one leaves behind (R-LOG-6, R-CLI-3,
//! R-EXIT-2).

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
    let before = daemon.try_status().expect("it answers");
    let output = second(&daemon).finish(BOUND).expect_code(program::TEMPFAIL);
    let pid = format!("pid {}", daemon.pid());
    for words in ["already running", &pid, "add it to its configuration", "state_dir"] {
        assert!(output.stderr.contains(words), "{words}: {output:?}");
    }
    let after = daemon.try_status().expect("it answers still");
    assert_eq!(after, before, "nothing has changed");
    daemon.assert_shuts_down(0);
}

/// R-EXIT-2: a start during the shutdown of the predecessor waits for it and succeeds.
#[test]
fn a_start_waits_for_a_daemon_that_shuts_down() {
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

/// R-CLI-3: stopping what does not run is no error, before the first run and after it.
#[test]
fn a_shutdown_without_a_daemon_is_no_error() {
    let mut daemon = Daemon::start(ConfigBuilder::new().fixture("alpha", ""));
    daemon.assert_shuts_down(0);
    for args in [&["shutdown"][..], &["shutdown", "--wait", "--now", "--reason", "again"]] {
        let output = daemon.mcpctl(args).expect_code(0);
        assert_eq!(output.stdout, "mcpd is not running, and nothing of it is left\n");
    }
    let result = daemon.mcpctl(&["shutdown", "--json"]).expect_code(0).json();
    assert_eq!((&result["state"], &result["exit_code"]), (&"not_running".into(), &0.into()));
    assert_eq!(daemon.report().reason, "manual", "the account of the last run stays as it was");
}

/// R-CLI-3: what daemon and guardian left, both killed, is named, with the code of that finding, and not touched;
/// without it, all is well, and the next start comes up.
#[test]
fn what_a_killed_daemon_left_is_named() {
    let why = "an emptied environment leaves no mark to be named by";
    if skip::unless_linux_backend(why) {
        return;
    }
    let mut daemon = Daemon::start(ConfigBuilder::new().fixture("alpha", "--escape 1"));
    let run = daemon.try_status().and_then(|status| status.daemon).expect("it runs").run;
    daemon.kill_both();

    let left = until("only what escaped to be left", BOUND, || escaped(run.tag()));
    let result = daemon.mcpctl(&["shutdown", "--wait", "--json"]).expect_code(5).json();
    assert_eq!(
        (&result["schema"], &result["state"]),
        (&"mcpd.shutdown-result.v1".into(), &"leftovers".into())
    );
    let findings = lasting(&result);
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!((&findings[0]["kind"], &findings[0]["subject"]), (&"process_left".into(), &"alpha".into()));
    let named = |text: &str| text.contains(&format!("pid {left}"));
    assert!(findings[0]["detail"].as_str().is_some_and(named), "{findings:?}");
    let said = daemon.mcpctl(&["shutdown"]).expect_code(5).stdout;
    assert!(named(&said) && said.contains("something is left"), "{said}");
    daemon.mcpctl(&["health"]).expect_code(3);
    assert_eq!(escaped(run.tag()), Some(left), "it was not touched");

    // Ours: it carries the run's mark, and this pid.
    kill(nix::unistd::Pid::from_raw(left.get()), Signal::SIGKILL).expect("it runs");
    until("it to be gone", BOUND, || (!is_alive(left)).then_some(()));
    let result = daemon.mcpctl(&["shutdown", "--json"]).json();
    assert!(lasting(&result).is_empty(), "{result}");

    let mut next = daemon.launch_again();
    next.wait_ready();
    next.assert_shuts_down(3);
}

/// R-CONT-6: the next start kills what a killed daemon left, and reports it; no other process is touched,
/// not even a holder of a port of that run.
#[test]
fn the_next_start_kills_what_a_killed_daemon_left() {
    let config = ConfigBuilder::new().fixture("alpha", "--escape 3").fixture("beta", "--tree 2 2");
    let mut daemon = Daemon::start(config);
    let run = daemon.try_status().and_then(|status| status.daemon).expect("it runs").run;
    let mut stranger = std::process::Command::new("sleep").arg("60").spawn().expect("started");
    daemon.kill_both();
    assert!(marked(run.tag()) >= 3, "what escaped is left");

    let next = second(&daemon);
    let all_ready = |status: &StatusReport| {
        let of_another_run = status.daemon.as_ref().is_some_and(|daemon| daemon.run != run);
        of_another_run && status.workers.iter().all(|worker| worker.state == WorkerState::Ready)
    };
    let status = until("all workers of the next run", BOUND, || daemon.try_status().filter(all_ready));
    assert_eq!(marked(run.tag()), 0, "nothing of the last run is left");
    let warnings = status.daemon.expect("it runs").warnings;
    let said = warnings.iter().find(|warning| warning.contains(&run.to_string())).expect("it says so");
    assert!(said.contains("of its processes"), "{said}");
    assert_eq!(stranger.try_wait().expect("ours"), None, "a stranger lives");
    stranger.kill().expect("ours");
    stranger.wait().expect("ours");
    daemon.mcpctl(&["shutdown", "--wait"]).expect_code(3);
    next.finish(LONGEST_SHUTDOWN).expect_code(3);
}

/// How many living processes carry the run's mark.
fn marked(run: RunTag) -> usize {
    let is_ours = |found: &process::Process| {
        found.state != 'Z' && process::best_effort::mark(found.pid).is_some_and(|mark| mark.run == run)
    };
    process::best_effort::all().iter().filter(|found| is_ours(found)).count()
}

/// What was found, without zombies that wait for pid 1: some of those take their time.
fn lasting(result: &Value) -> Vec<Value> {
    let findings = result["findings"].as_array().expect("findings");
    findings.iter().filter(|finding| finding["kind"] != "zombie_left").cloned().collect()
}

/// The one process that carries the run's mark, once there is no other; the dying aside.
fn escaped(run: RunTag) -> Option<Pid> {
    let is_ours = |found: &process::Process| {
        found.state != 'Z' && process::best_effort::mark(found.pid).is_some_and(|mark| mark.run == run)
    };
    let ours: Vec<_> = process::best_effort::all().into_iter().filter(is_ours).collect();
    (ours.len() == 1).then(|| ours[0].pid)
}

fn is_alive(pid: Pid) -> bool {
    process::best_effort::read(pid).is_some_and(|found| found.state != 'Z')
}

/// R-CLI-3: a shutdown that is requested in the daemon's last moment is no error: the daemon still
/// answers, or it is gone.
#[test]
fn a_shutdown_in_the_last_moment_is_no_error() {
    let mut daemon = Daemon::start(ConfigBuilder::new().fixture("alpha", ""));
    daemon.signal(Signal::SIGTERM);
    while daemon.poll_exit().is_none() {
        daemon.mcpctl(&["shutdown", "--wait"]).expect_code(0);
    }
    daemon.assert_no_trace(0);
}
