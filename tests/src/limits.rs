//! A process that can open nothing more, for a while.

use mcpd_common::ids::Pid;
use rustix::process::{Resource, Rlimit, prlimit};

/// While this lives, its process has so few descriptors.
#[must_use]
pub struct FewDescriptors {
    pid: rustix::process::Pid,
    before: Rlimit,
}

impl FewDescriptors {
    /// The process may have this many more than it has now, or none more; `None` if it is gone, or not
    /// ours.
    pub fn of(pid: Pid, more: Option<u64>) -> Option<Self> {
        let open = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64;
        let few = Self { pid: rustix::process::Pid::from_raw(pid.get())?, before: limit_of(pid)? };
        let current = Some(more.map_or(0, |more| open + more));
        prlimit(Some(few.pid), Resource::Nofile, Rlimit { current, ..few.before }).ok()?;
        Some(few)
    }
}

impl Drop for FewDescriptors {
    fn drop(&mut self) {
        // It may have ended meanwhile.
        let _ = prlimit(Some(self.pid), Resource::Nofile, self.before);
    }
}

fn limit_of(pid: Pid) -> Option<Rlimit> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let mut values = line.split_whitespace().map(|value| value.parse().ok());
    Some(Rlimit { current: values.next()?, maximum: values.next()? })
}
