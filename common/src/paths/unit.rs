//! The directories that systemd creates for a unit and names in the environment (`StateDirectory=` and the
//! like, systemd.exec(5)).

use std::path::{Path, PathBuf};

use super::{Environment, set};
use crate::ids::Pid;
use crate::os::guardian;

/// `RuntimeDirectory=`.
pub(super) const RUNTIME: &str = "RUNTIME_DIRECTORY";
/// `StateDirectory=`.
pub(super) const STATE: &str = "STATE_DIRECTORY";
/// `LogsDirectory=`.
pub(super) const LOGS: &str = "LOGS_DIRECTORY";
/// `ConfigurationDirectory=`.
pub(super) const CONFIGURATION: &str = "CONFIGURATION_DIRECTORY";

/// The pid of the process that systemd started with this environment.
const EXEC_PID: &str = "SYSTEMD_EXEC_PID";

/// The unit's directory in this variable. A unit may have several, separated by colons: the first one counts.
pub(super) fn directory(env: Environment, key: &str) -> Option<PathBuf> {
    let value = set(env, key)?;
    let first = value.split(':').next().map(Path::new)?;
    first.is_absolute().then(|| first.to_path_buf())
}

/// Whether the variable names a directory of another program's unit. Children inherit the variables: a
/// terminal inside an editor that runs as a service has the directories of the editor.
pub(super) fn is_of_another_program(key: &str, env: Environment) -> bool {
    let exec_pid = || set(env, EXEC_PID)?.parse().ok();
    [RUNTIME, STATE, LOGS, CONFIGURATION].contains(&key)
        && exec_pid().is_some_and(|pid: i32| !is_this_program(pid))
}

/// The started process is this one, or its parent: the guardian, or a shell in `ExecStop=`.
fn is_this_program(pid: i32) -> bool {
    [Some(Pid::current()), guardian::parent()].iter().flatten().any(|own| own.get() == pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_several_directories_counts() {
        let of = |value: &'static str| directory(&move |_| Some(value.to_owned()), STATE);
        assert_eq!(of("/var/lib/mcpd"), Some("/var/lib/mcpd".into()));
        assert_eq!(of("/var/lib/mcpd:/var/lib/other"), Some("/var/lib/mcpd".into()));
        assert_eq!(of("relative"), None);
        assert_eq!(of(""), None);
    }

    #[test]
    fn directories_of_another_program_are_recognized() {
        let started = |pid: i32| move |key: &str| (key == EXEC_PID).then(|| pid.to_string());
        let own = Pid::current().get();
        let parent = guardian::parent().expect("a parent").get();
        assert!(!is_of_another_program(STATE, &started(own)));
        assert!(!is_of_another_program(STATE, &started(parent)));
        assert!(is_of_another_program(STATE, &started(1_999_999_999)));
        assert!(!is_of_another_program("HOME", &started(1_999_999_999)));
        assert!(!is_of_another_program(STATE, &|_| None), "systemd before 248 does not say it");
    }
}
