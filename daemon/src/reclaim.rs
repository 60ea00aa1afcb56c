//! What a daemon that died left behind is ended by the next start (R-CONT-6).
//!
//! Only what is proven to be of that run is touched: the run file names the run, the boot id says
//! that its processes can still be alive, and a living process carries the run's mark, which nobody
//! else can have. The signal goes by a pidfd that was compared with the process's start time. A
//! process that merely got a recorded pid, or holds a recorded port, is never touched.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use mcpd_common::ids::{Pid, RunId};
use mcpd_common::os::child::{Handle, Signal};
use mcpd_common::os::process::{self, Process};
use mcpd_common::os::{self, ProcessInfo};
use mcpd_common::run_file::RunFile;

use crate::deadline::{self, Deadline};

/// What does not end within this is reported and left.
const LIMIT: Duration = Duration::from_secs(5);
/// Between two passes.
const AGAIN: Duration = Duration::from_millis(5);

/// What was found of the last run, if it did not end properly.
#[must_use]
pub struct Reclaimed {
    run: RunId,
    ended: Vec<ProcessInfo>,
    left: Vec<ProcessInfo>,
}

impl Reclaimed {
    /// One sentence for the log and for `status`.
    pub fn sentence(&self) -> String {
        let list = |processes: &[ProcessInfo]| {
            processes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        };
        let ended = match self.ended.len() {
            0 => "nothing of it was alive".to_owned(),
            count => format!("{count} of its processes were ended: {}", list(&self.ended)),
        };
        let left = match self.left.len() {
            0 => String::new(),
            _ => format!("; these could not be ended: {}", list(&self.left)),
        };
        format!("the last run, {}, did not end properly; {ended}{left}", self.run)
    }
}

/// Ends what the run file proves to be left; `None` if the last run ended properly. To be called by
/// the holder of the lock: the daemon of that run is dead.
///
/// # Errors
/// Why the run file says nothing; then nothing is touched.
pub async fn reclaim(run_file: &Path) -> Result<Option<Reclaimed>, String> {
    let Some(last) = RunFile::read(run_file).map_err(|error| error.to_string())? else {
        return Ok(None);
    };
    let mut reclaimed = Reclaimed { run: last.run, ended: vec![], left: vec![] };
    // After another boot nothing of it is alive, and its pids and marks say nothing.
    if os::boot_id().unwrap_or_default() != last.boot_id {
        return Ok(Some(reclaimed));
    }
    let deadline = Deadline::after(LIMIT);
    let spared = ourselves();
    loop {
        let alive = of_run(last.run, &spared);
        for process in &alive {
            end(process, &mut reclaimed.ended);
        }
        if alive.is_empty() || deadline.remaining().is_zero() {
            reclaimed.left = alive.iter().filter_map(|process| process::describe(process.pid)).collect();
            reclaimed.ended.retain(|ended| reclaimed.left.iter().all(|left| left.pid != ended.pid));
            return Ok(Some(reclaimed));
        }
        deadline::until(deadline::now() + AGAIN).await;
    }
}

fn of_run(run: RunId, spared: &HashSet<Pid>) -> Vec<Process> {
    let mut all = process::all();
    all.retain(|process| {
        process.state != 'Z'
            && !spared.contains(&process.pid)
            && process::mark(process.pid).is_some_and(|mark| mark.run == run.tag())
    });
    all
}

/// This process and those above it: a daemon started from inside the last run's worker spares
/// whoever started it.
fn ourselves() -> HashSet<Pid> {
    let above = |pid: &Pid| Pid::new(process::read(*pid)?.ppid);
    std::iter::successors(Some(Pid::current()), above).take(64).collect()
}

fn end(process: &Process, ended: &mut Vec<ProcessInfo>) {
    let Some(handle) = Handle::open(process) else {
        return;
    };
    if ended.iter().all(|known| known.pid != process.pid) {
        ended.extend(process::describe(process.pid));
    }
    let _ = handle.signal(Signal::Kill);
}
