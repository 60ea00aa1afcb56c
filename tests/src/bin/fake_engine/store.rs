//! The containers, in memory, and as a file that tests read.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// One container.
#[derive(Clone, Debug)]
pub struct Container {
    pub name: String,
    pub labels: Vec<String>,
    pub auto_remove: bool,
    /// Of its process, while that is not reaped.
    pub pid: Option<i32>,
    /// Of its process, when it has exited.
    pub code: Option<u8>,
}

/// All containers of the engine.
pub struct Store {
    directory: PathBuf,
    containers: Mutex<BTreeMap<String, Container>>,
    changed: Condvar,
}

impl Store {
    pub fn new(directory: PathBuf) -> Self {
        Self { directory, containers: Mutex::default(), changed: Condvar::new() }
    }

    /// What is in the file `mode`.
    pub fn mode(&self) -> String {
        fs::read_to_string(self.directory.join("mode")).unwrap_or_default()
    }

    pub fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Container>> {
        self.containers.lock().expect("no thread panicked")
    }

    pub fn add(&self, id: &str, container: Container) {
        self.change(|containers| drop(containers.insert(id.to_owned(), container)));
    }

    /// Its process is about to be reaped: its pid must not be signalled any more.
    pub fn forget_pid(&self, id: &str) {
        if let Some(container) = self.lock().get_mut(id) {
            container.pid = None;
        }
    }

    /// Its process was reaped.
    pub fn exited(&self, id: &str, code: u8) {
        self.change(|containers| {
            if let Some(container) = containers.get_mut(id) {
                (container.pid, container.code) = (None, Some(code));
            }
        });
    }

    pub fn remove(&self, id: &str) {
        self.change(|containers| drop(containers.remove(id)));
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<String, Container>)) {
        let mut containers = self.lock();
        change(&mut containers);
        let mut text = String::new();
        for (id, container) in &*containers {
            let pid = container.pid.unwrap_or_default();
            let _ = writeln!(text, "{id} {} {pid}", container.name);
        }
        let new = self.directory.join("containers.new");
        let written = fs::write(&new, text).and_then(|()| fs::rename(new, self.directory.join("containers")));
        written.expect("the store can be written");
        self.changed.notify_all();
    }

    /// Waits until the container has exited; `None` if it has not within the limit.
    pub fn wait(&self, id: &str, limit: Option<Duration>) -> Option<u8> {
        let end = limit.map(|limit| Instant::now() + limit);
        let mut containers = self.lock();
        loop {
            match containers.get(id) {
                Some(container) if container.code.is_none() => {}
                container => return Some(container.and_then(|it| it.code).unwrap_or_default()),
            }
            let left =
                end.map_or(Duration::from_secs(60), |end| end.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return None;
            }
            containers = self.changed.wait_timeout(containers, left).expect("no thread panicked").0;
        }
    }

    /// Signals the process. It can't have been reaped: its pid is forgotten before.
    pub fn signal(&self, id: &str, signal: Signal) -> bool {
        let containers = self.lock();
        let Some(container) = containers.get(id) else { return false };
        container.pid.is_some_and(|pid| kill(Pid::from_raw(pid), signal).is_ok())
    }
}
