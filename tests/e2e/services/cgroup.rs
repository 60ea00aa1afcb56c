//! A unit vouches for its own cgroup: not every systemd marks it as delegated.

use mcpd_common::os::ContainedBy;
use mcpd_common::os::cgroup::CGROUP_VARIABLE;
use mcpd_tests::cgroup::{Scratch, names_of};
use mcpd_tests::{ConfigBuilder, Daemon, skip};

fn started_in(scratch: &Scratch, setting: &str) -> Daemon {
    let home = tempfile::tempdir().expect("a temporary directory");
    let config = ConfigBuilder::new().env(CGROUP_VARIABLE, setting).fixture("alpha", "");
    let wrapper = scratch.wrapper();
    let wrapper: Vec<_> = wrapper.iter().map(String::as_str).collect();
    let command = Daemon::command_below(&wrapper, home.path(), &config);
    let mut daemon = Daemon::launch_by(command, home, config);
    daemon.wait_ready();
    daemon
}

fn contained_by(daemon: &mut Daemon) -> ContainedBy {
    let of = |status: &mcpd_common::status::StatusReport| status.daemon.as_ref()?.containment.clone();
    let status = daemon.wait_status("the containment", |status| of(status).is_some());
    of(&status).expect("it was there").by
}

#[test]
fn the_cgroup_of_the_named_unit_is_used_also_after_a_restart() {
    if skip::unless_linux_backend("it uses no cgroups") {
        return;
    }
    let Some(scratch) = Scratch::make_or_skip() else { return };
    let name = scratch.cgroup().path().file_name().expect("a name").to_string_lossy().into_owned();
    let mut daemon = started_in(&scratch, &format!("unit:{name}"));
    assert_eq!(contained_by(&mut daemon), ContainedBy::Cgroup);
    daemon.mcpctl(&["restart", "--daemon"]).expect_code(0);
    assert_eq!(contained_by(&mut daemon), ContainedBy::Cgroup);
    assert_eq!(names_of(daemon.pid())[..2], ["daemon".to_owned(), name]);
    daemon.assert_shuts_down(0);
    assert_eq!(scratch.children(), [] as [&str; 0]);
}

#[test]
fn a_process_that_inherited_the_variable_elsewhere_uses_no_cgroup() {
    if skip::unless_linux_backend("it uses no cgroups") {
        return;
    }
    let Some(scratch) = Scratch::make_or_skip() else { return };
    let mut daemon = started_in(&scratch, "unit:mcpd.service");
    assert_ne!(contained_by(&mut daemon), ContainedBy::Cgroup);
    assert_eq!(scratch.children(), [] as [&str; 0]);
    daemon.assert_shuts_down(0);
}
