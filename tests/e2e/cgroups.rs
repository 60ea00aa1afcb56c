//! A cgroup for each worker, if one is delegated to the daemon (R-CONT-4).
//!
//! Each test creates a cgroup; it is skipped if the machine does not allow that.

use std::fs;
use std::time::Duration;

use mcpd_common::os::cgroup::{self, CGROUP_VARIABLE};
use mcpd_common::os::{ContainedBy, Containment};
use mcpd_common::outcome::{Finding, FindingKind};
use mcpd_common::status::{StatusReport, WorkerState};
use mcpd_tests::cgroup::{Scratch, names, names_of};
use mcpd_tests::{BOUND, ConfigBuilder, Daemon, Signal, skip, until};

const SHORT: Duration = Duration::from_millis(700);

/// A scratch cgroup; `None` if the test is skipped.
fn scratch() -> Option<Scratch> {
    if skip::unless_linux_backend("it uses no cgroups") {
        return None;
    }
    Scratch::make_or_skip()
}

fn config_in(scratch: &Scratch) -> ConfigBuilder {
    ConfigBuilder::new().env(CGROUP_VARIABLE, &scratch.text()).times(SHORT, SHORT)
}

fn containment(daemon: &mut Daemon) -> Containment {
    let status = daemon.wait_status("the containment", |status| containment_in(status).is_some());
    containment_in(&status).expect("it was there")
}

fn containment_in(status: &StatusReport) -> Option<Containment> {
    status.daemon.as_ref()?.containment.clone()
}

/// R-CONT-4: started in its cgroup, killed as a cgroup, proved gone by `populated 0`; the cgroup is removed.
#[test]
fn every_worker_lives_in_a_cgroup_of_its_own() {
    let Some(scratch) = scratch() else { return };
    let config = config_in(&scratch)
        .fixture("alpha", "")
        .fixture("beta", "--tree 2 2")
        .fixture("gamma", "--ignore-shutdown --ignore-term --escape 3");
    let mut daemon = Daemon::start(config);
    let contained = containment(&mut daemon);
    assert_eq!(contained.by, ContainedBy::Cgroup, "{contained}");
    assert_eq!(names_of(daemon.pid())[0], "daemon");
    assert_eq!(scratch.children().len(), 2, "{:?}", scratch.children());
    assert_eq!(names(scratch.run().path()), ["0", "1", "2"]);
    assert_eq!(until_members(&scratch, "1", 7), 7, "beta and its tree");
    assert_eq!(until_members(&scratch, "2", 4), 4, "gamma and the processes that escaped from it");

    let report = daemon.assert_shuts_down(3);
    assert_eq!(report.containment.map(|it| it.by), Some(ContainedBy::Cgroup));
    let proof = report.proof.expect("a proof");
    assert!(proof.contains("ECHILD") && proof.contains("populated 0"), "{proof}");
    assert_eq!(scratch.children(), [] as [&str; 0]);

    let mut again = daemon.launch_again();
    again.wait_ready();
    again.signal(Signal::SIGTERM);
    again.assert_no_trace(3);
    assert_eq!(scratch.children(), [] as [&str; 0]);
}

fn until_members(scratch: &Scratch, worker: &str, count: usize) -> usize {
    until("the members of a worker's cgroup", BOUND, || {
        let members = scratch.run().child(worker).members().found().len();
        (members == count).then_some(members)
    })
}

/// R-CONT-4: cgroups that a worker made below its own are removed with it; a cgroup of another program
/// beside them (systemd's `.control`) stays.
#[test]
fn cgroups_that_a_worker_made_go_with_it_and_others_stay() {
    let Some(scratch) = scratch() else { return };
    scratch.cgroup().make_child(".control").expect("made");
    let mut daemon = Daemon::start(config_in(&scratch).fixture("alpha", "--escape 2").fixture("beta", ""));
    until_members(&scratch, "0", 3);
    let deep = scratch.run().child("0").make_child("own").and_then(|own| own.make_child("deeper"));
    let deep = deep.expect("made");
    let escaped = daemon.processes().into_iter().find(|found| found.session != found.ppid);
    deep.take(escaped.expect("one that escaped").pid).expect("moved");

    daemon.mcpctl(&["restart", "alpha"]).expect_code(0);
    daemon.wait_ready();
    assert_eq!(names(scratch.run().child("0").path()), [] as [&str; 0], "the new cgroup has no children");
    until_members(&scratch, "0", 3);
    daemon.assert_shuts_down(3);
    assert_eq!(scratch.children(), [".control"]);
}

/// R-CONT-4: found by the attribute that systemd sets, without a variable with its path.
#[test]
fn a_delegated_cgroup_is_found_and_given_back() {
    let Some(scratch) = scratch() else { return };
    scratch.delegate();
    let mut daemon = launch_inside(&scratch);
    let contained = containment(&mut daemon);
    assert_eq!(contained.by, ContainedBy::Cgroup, "{contained}");
    assert_eq!(names_of(daemon.pid())[0], "daemon");
    daemon.assert_shuts_down(0);
    assert_eq!(scratch.children(), [] as [&str; 0]);
}

/// R-CONT-4: even if it is writable.
#[test]
fn a_cgroup_that_is_not_delegated_is_left_alone() {
    let Some(scratch) = scratch() else { return };
    let mut daemon = launch_inside(&scratch);
    let contained = containment(&mut daemon);
    assert_eq!(contained.by, ContainedBy::Subreaper, "{contained}");
    assert!(contained.detail.contains("is not delegated to mcpd"), "{contained}");
    assert_eq!(scratch.children(), [] as [&str; 0]);
    daemon.assert_shuts_down(0);
}

fn launch_inside(scratch: &Scratch) -> Daemon {
    let config = ConfigBuilder::new().fixture("alpha", "");
    let home = tempfile::tempdir().expect("a temporary directory");
    let wrapper = scratch.wrapper();
    let command = Daemon::command_below(&wrapper.each_ref().map(String::as_str), home.path(), &config);
    let mut daemon = Daemon::launch_by(command, home, config);
    daemon.wait_ready();
    daemon
}

/// Not usable, missing, of v1, or disabled: the daemon runs without a cgroup and reports why.
#[test]
fn without_a_usable_cgroup_there_is_none() {
    let Some(scratch) = scratch() else { return };
    let threaded = scratch.cgroup().make_child("threaded").expect("made");
    fs::write(threaded.path().join("cgroup.type"), "threaded").expect("made threaded");
    // Allows the daemon's leaf only, and no cgroup for a worker.
    let Some(narrow) = Scratch::make_or_skip() else { return };
    fs::write(narrow.cgroup().path().join("cgroup.max.descendants"), "1").expect("limited");
    let root = cgroup::current().expect("the scratch is below it");
    let cases = [
        ("off".to_owned(), "MCPD_CGROUP=off"),
        ("somewhere".to_owned(), "neither auto, off, an absolute path, nor unit:NAME"),
        ("/proc".to_owned(), "is no cgroup v2"),
        (threaded.path().display().to_string(), "is of type \"threaded\""),
        (narrow.text(), "can't make a cgroup in"),
        (v1().unwrap_or_else(|| "/none".to_owned()), "is no cgroup v2"),
    ];
    for (value, why) in cases {
        let config = ConfigBuilder::new().env(CGROUP_VARIABLE, &value).fixture("alpha", "");
        let mut daemon = Daemon::start(config);
        let contained = containment(&mut daemon);
        assert_eq!(contained.by, ContainedBy::Subreaper, "{value}: {contained}");
        assert!(contained.detail.contains(why), "{value}: {contained}");
        let warnings =
            daemon.try_status().and_then(|status| status.daemon).expect("the daemon responds").warnings;
        assert_eq!(warnings.is_empty(), value == "off", "{warnings:?}");
        let path = cgroup::path_of(daemon.pid());
        assert!(matches!(path, Ok(Some(_))), "it is in one");
        assert_eq!(path, cgroup::path_of(mcpd_common::ids::Pid::current()), "{value}: not moved");
        daemon.assert_shuts_down(0);
    }
    assert!(root.exists());
    assert_eq!(narrow.children(), [] as [&str; 0], "the cgroup of the run is removed again");
}

/// A hierarchy of v1, if one is mounted.
fn v1() -> Option<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let line = mounts.lines().find(|line| line.contains(" - cgroup "))?;
    Some(line.split(' ').nth(4)?.to_owned())
}

#[test]
fn a_cgroup_belongs_to_one_daemon() {
    let Some(scratch) = scratch() else { return };
    let mut first = Daemon::start(config_in(&scratch).fixture("alpha", ""));
    let mut second = Daemon::start(config_in(&scratch).fixture("alpha", ""));
    let contained = containment(&mut second);
    assert!(contained.detail.contains("another mcpd uses"), "{contained}");
    second.assert_shuts_down(0);
    assert_eq!(containment(&mut first).by, ContainedBy::Cgroup);
    first.assert_shuts_down(0);
    assert_eq!(scratch.children(), [] as [&str; 0]);
}

/// R-CONT-4, R-CONT-6: the next start kills the processes that a killed daemon left in its cgroups, even
/// without their marks; it does not empty cgroups of other daemons.
#[test]
fn cgroups_of_a_crashed_run_are_emptied_and_removed() {
    let Some(scratch) = scratch() else { return };
    let foreign = scratch.cgroup().make_child("mcpd-0badcafe").expect("made");
    let mut other = std::process::Command::new("sleep").arg("120").spawn().expect("sleep(1)");
    let pid = mcpd_common::ids::Pid::new(other.id().cast_signed()).expect("positive");
    foreign.take(pid).expect("moved");
    let mut daemon = Daemon::start(config_in(&scratch).fixture("alpha", "--escape 3"));
    daemon.kill_both();

    let mut again = daemon.launch_again();
    again.wait_ready();
    assert_eq!(containment(&mut again).by, ContainedBy::Cgroup);
    assert_eq!(scratch.children().len(), 3, "{:?}", scratch.children());
    assert_eq!(foreign.members().found(), [pid]);
    again.assert_shuts_down(3);
    assert_eq!(scratch.children(), ["mcpd-0badcafe"]);
    other.kill().expect("our child");
    other.wait().expect("our child");
}

/// R-CONT-4, R-CONT-5: the guardian kills each cgroup of its daemon as a whole, removes it, and moves back to its own
/// first cgroup.
#[test]
fn a_guardian_empties_and_removes_the_cgroups_of_its_daemon() {
    let Some(scratch) = scratch() else { return };
    let config = config_in(&scratch).fixture("alpha", "--escape 3").fixture("beta", "--ignore-term");
    let mut daemon = Daemon::start(config);
    daemon.wait_status("the descendants", |status| status.workers.iter().any(|it| it.descendants == 3));
    daemon.remember();
    let deep = scratch.run().child("0").make_child("made").and_then(|it| it.make_child("by alpha"));
    let escaped = daemon.processes().into_iter().find(|found| found.session != found.ppid);
    deep.expect("made").take(escaped.expect("one that escaped").pid).expect("moved");

    daemon.signal_daemon(Signal::SIGKILL);
    daemon.assert_cleaned_up(101);
    assert_eq!(scratch.children(), [] as [&str; 0], "not even its own leaf");
}

/// If no cgroup can be made for a worker, it is contained by the subreaper only. Its descendant without a mark belongs to no
/// worker then, and is killed with the daemon.
#[test]
fn a_worker_that_gets_no_cgroup_runs_without() {
    let Some(scratch) = scratch() else { return };
    let mut daemon = Daemon::start(config_in(&scratch).fixture("alpha", "--zoo silent"));
    daemon.mcpctl(&["stop", "alpha"]).expect_code(0);
    fs::write(scratch.cgroup().path().join("cgroup.max.descendants"), "2").expect("limited");
    daemon.mcpctl(&["start", "alpha"]).expect_code(0);
    daemon.wait_state("alpha", WorkerState::Ready);
    let contained = containment(&mut daemon);
    assert!(contained.detail.contains("a worker runs without one"), "{contained}");
    let report = daemon.assert_shuts_down(0);
    assert!(report.findings.iter().all(|finding| finding.kind == FindingKind::Information), "{report:#?}");
    let is_stray = |it: &&Finding| it.detail.contains("belonged to no worker any more");
    assert_eq!(report.findings.iter().filter(is_stray).count(), 1, "{report:#?}");
    assert_eq!(scratch.children(), [] as [&str; 0]);
}
