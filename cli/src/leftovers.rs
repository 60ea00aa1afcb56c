//! What an earlier run left behind, proved by the mark that its processes carry (R-CLI-3).
//!
//! The run file of a completed shutdown is gone; one that is there names a run whose end nobody
//! saw. Another boot means that nothing of it is alive. Nothing here signals anybody.

use std::collections::BTreeMap;

use mcpd_common::check::ports::{self, PortReport, PortState};
use mcpd_common::exit_code::program;
use mcpd_common::ids::{Pid, RunTag, Slot, WorkerName};
use mcpd_common::os::{self, CannotLook, ProcessInfo, process};
use mcpd_common::outcome::{Finding, FindingKind};
use mcpd_common::run_file::RunFile;

use crate::exit::Failure;
use crate::offline::Local;

/// What is left of a run.
#[derive(Debug)]
pub struct Leftovers {
    /// Its daemon, if that still lives.
    pub daemon: Option<process::Process>,
    /// Living processes that carry the run's mark, each with its worker.
    pub processes: Vec<(ProcessInfo, Option<WorkerName>)>,
    /// The run's ports that those processes hold.
    pub ports: Vec<PortReport>,
}

impl Leftovers {
    /// What is left of the run in this run file.
    ///
    /// # Errors
    /// When not all processes could be read.
    pub fn of(run: &RunFile, local: &Local) -> Result<Self, CannotLook> {
        if run.boot_id != os::boot_id().unwrap_or_default() {
            return Ok(Self { daemon: None, processes: Vec::new(), ports: Vec::new() });
        }
        let marked = marked(run.run.tag())?;
        let name = |slot: Slot| run.workers.iter().find(|worker| worker.slot == slot).map(|w| w.name.clone());
        let described = marked.iter().filter_map(|(pid, slot)| Some((process::describe(*pid)?, name(*slot))));
        let processes: Vec<_> = described.collect();
        let worker_of = |pid: Pid| marked.get(&pid).and_then(|slot| name(*slot));
        let held = |report: &PortReport| {
            let mut holders = report.holders.iter().filter_map(|holder| holder.pid);
            holders.any(|pid| marked.contains_key(&pid))
        };
        // Without a process of ours no port is held by one: most times nothing needs to be probed.
        let ports = match processes.is_empty() {
            true => Vec::new(),
            false => ports::examine(&local.known_ports(Some(run)), &worker_of),
        };
        // Nobody supervises them any longer: what they serve is held.
        let in_use = |report| PortReport { state: PortState::InUse, ..report };
        let ports = ports.into_iter().filter(held).map(in_use).collect();
        Ok(Self { daemon: daemon(run)?, processes, ports })
    }

    /// As findings, which name each of them.
    pub fn findings(&self) -> Vec<Finding> {
        let process = |(info, worker): &(ProcessInfo, Option<WorkerName>)| {
            let subject = worker.as_ref().map_or_else(|| info.name.clone(), ToString::to_string);
            match info.state {
                'Z' => {
                    let detail =
                        format!("{info} of an earlier run is a zombie; pid {} has to reap it", info.ppid);
                    Finding::new(FindingKind::ZombieLeft, subject, detail)
                }
                _ => Finding::new(
                    FindingKind::ProcessLeft,
                    subject,
                    format!("{info} is left of an earlier run"),
                ),
            }
        };
        let port = |report: &PortReport| {
            Finding::new(FindingKind::PortInUse, report.port, report.holders_sentence())
        };
        self.processes.iter().map(process).chain(self.ports.iter().map(port)).collect()
    }
}

/// The processes of a run, whoever their parent is now; never ourselves.
///
/// # Errors
/// When not all processes could be read.
pub fn marked(run: RunTag) -> Result<BTreeMap<Pid, Slot>, CannotLook> {
    let mut marked = BTreeMap::new();
    for process in process::all().complete()? {
        if let Some(mark) = process::mark(process.pid)?
            && mark.run == run
            && process.pid != Pid::current()
        {
            marked.insert(process.pid, mark.slot);
        }
    }
    Ok(marked)
}

/// The failure of a command that can't say what is left.
pub fn cannot_look(tried: &str, error: CannotLook) -> Failure {
    Failure::new(
        program::UNAVAILABLE,
        tried,
        error,
        "try again when memory and file descriptors are available",
    )
}

fn daemon(run: &RunFile) -> Result<Option<process::Process>, CannotLook> {
    let process = process::read(run.daemon.pid)?;
    Ok(process.filter(|process| process.start == run.daemon.start && !process::is_zombie(process)))
}
