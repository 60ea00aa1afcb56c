//! A cgroup for a test, if the machine allows one.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use mcpd_common::ids::Pid;
use mcpd_common::os::cgroup::{self, Cgroup};

use crate::skip;
use crate::wait::until;

/// A cgroup for a test. On drop, all processes in it are killed and it is removed.
#[derive(Debug)]
pub struct Scratch(Cgroup);

impl Scratch {
    /// Makes a cgroup below that of the test; skips the test if that is impossible.
    pub fn make_or_skip() -> Option<Self> {
        Self::make().map_err(|reason| skip::test(&reason)).ok()
    }

    /// Makes a cgroup below that of the test.
    ///
    /// # Errors
    ///
    /// The reason why the machine allows none.
    pub fn make() -> Result<Self, String> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let nanos = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |now| now.as_nanos());
        let name = format!("test-{}-{count}-{nanos}", std::process::id());
        let made = cgroup::current().map_err(|error| error.to_string());
        let made = made.and_then(|own| own.make_child(&name).map_err(|error| error.to_string()));
        let made = made.map_err(|error| format!("no cgroup can be made: {error}"))?;
        if !made.path().join("cgroup.kill").exists() {
            let _ = made.remove();
            return Err("the kernel has no cgroup.kill".to_owned());
        }
        Ok(Self(made))
    }

    /// The cgroup.
    pub fn cgroup(&self) -> &Cgroup {
        &self.0
    }

    /// The path, for an environment variable.
    pub fn text(&self) -> String {
        self.0.path().display().to_string()
    }

    /// Marks it as delegated, as systemd does for a unit with `Delegate=yes`.
    #[track_caller]
    pub fn delegate(&self) {
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(self.0.path(), "user.delegate", b"1", flags).expect("an attribute can be set");
    }

    /// A command that moves itself into the cgroup and executes its arguments; see
    /// [`crate::Daemon::command_below`].
    pub fn wrapper(&self) -> [String; 4] {
        let script = format!("echo 0 > {}/cgroup.procs && exec \"$@\"", self.text());
        ["sh".to_owned(), "-c".to_owned(), script, "sh".to_owned()]
    }

    /// The names of its child cgroups.
    pub fn children(&self) -> Vec<String> {
        names(self.0.path())
    }

    /// The cgroup of the only run in the scratch cgroup.
    #[track_caller]
    pub fn run(&self) -> Cgroup {
        let runs: Vec<_> = self.children().into_iter().filter(|name| name.starts_with("mcpd-")).collect();
        assert_eq!(runs.len(), 1, "{runs:?}");
        self.0.child(&runs[0])
    }
}

/// The names of the cgroups below this one, sorted.
pub fn names(cgroup: &Path) -> Vec<String> {
    let listed = fs::read_dir(cgroup).into_iter().flatten().flatten();
    let directories = listed.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let mut names: Vec<_> =
        directories.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The names of the cgroup of a process and of its ancestors, from the innermost to the root.
pub fn names_of(pid: Pid) -> Vec<String> {
    let path = cgroup::path_of(pid).ok().flatten().unwrap_or_default();
    path.iter().rev().map(|part| part.to_string_lossy().into_owned()).collect()
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let gone = || (!self.0.exists() || self.0.remove().is_ok()).then_some(());
        if std::thread::panicking() {
            // One try: a second panic would hide the first.
            let _ = gone();
            return;
        }
        until("the scratch cgroup to be removed", Duration::from_secs(10), gone);
    }
}
