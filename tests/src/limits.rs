//! Limits the descriptors of a process temporarily.

use mcpd_common::ids::Pid;
use rustix::process::{Resource, Rlimit, prlimit};

/// Limits the descriptors of a process until it is dropped.
#[must_use]
pub struct FewDescriptors {
    pid: rustix::process::Pid,
    before: Rlimit,
}

impl FewDescriptors {
    /// Sets the limit to the number of open descriptors and `more`; without `more` to 0, so that none can be opened.
    /// `None` if the process is gone or belongs to another user.
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
        // Fails if the process has exited.
        let _ = prlimit(Some(self.pid), Resource::Nofile, self.before);
    }
}

fn limit_of(pid: Pid) -> Option<Rlimit> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let mut values = line.split_whitespace().map(|value| value.parse().ok());
    Some(Rlimit { current: values.next()?, maximum: values.next()? })
}
