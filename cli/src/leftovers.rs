//! What an earlier run left behind, proved by the mark in the environment of its processes (R-CLI-3).
//!
//! A completed shutdown removes the run file, so a run file without a daemon belongs to a run that crashed.
//! After a reboot nothing of that run can be alive. No process is signalled here.

use std::collections::BTreeMap;

use mcpd_common::check::ports::{self, PortReport, PortState};
use mcpd_common::exit_code::program;
use mcpd_common::ids::{Pid, RunTag, Slot, WorkerName};
use mcpd_common::os::{self, CannotLook, ProcessInfo, process};
use mcpd_common::outcome::{Finding, FindingKind};
use mcpd_common::run_file::RunFile;

use crate::failure::Failure;
use crate::locations::Locations;

#[derive(Debug)]
pub struct Leftovers {
    /// The daemon of the run, if its process is still alive.
    pub daemon: Option<process::Process>,
    /// Processes that carry the run's mark, each with the worker that it belongs to.
    pub processes: Vec<(ProcessInfo, Option<WorkerName>)>,
    /// The run's ports that are held by those processes.
    pub ports: Vec<PortReport>,
}

impl Leftovers {
    /// # Errors
    /// When not all processes could be read.
    pub fn of(run: &RunFile, locations: &Locations) -> Result<Self, CannotLook> {
        // Without a boot id the file counts as one of an earlier boot: pids alone prove nothing.
        if run.boot_id != os::boot_id().unwrap_or_default() {
            return Ok(Self { daemon: None, processes: Vec::new(), ports: Vec::new() });
        }
        let marked = marked_processes(run.run.tag())?;
        let processes: Vec<_> = marked
            .iter()
            .filter_map(|(pid, slot)| Some((process::describe(*pid)?, worker_name(run, *slot))))
            .collect();
        // Without such a process no port can be held by one, so the usual case probes nothing.
        let ports = if processes.is_empty() { Vec::new() } else { held_ports(run, locations, &marked) };
        Ok(Self { daemon: living_daemon(run)?, processes, ports })
    }

    pub fn findings(&self) -> Vec<Finding> {
        let processes = self.processes.iter().map(|(info, worker)| process_finding(info, worker.as_ref()));
        let ports = self
            .ports
            .iter()
            .map(|report| Finding::new(FindingKind::PortInUse, report.port, report.holders_sentence()));
        processes.chain(ports).collect()
    }
}

fn process_finding(info: &ProcessInfo, worker: Option<&WorkerName>) -> Finding {
    let subject = worker.map_or_else(|| info.name.clone(), ToString::to_string);
    if info.state == 'Z' {
        let detail = format!("{info} of an earlier run is a zombie; pid {} must reap it", info.ppid);
        return Finding::new(FindingKind::ZombieLeft, subject, detail);
    }
    Finding::new(FindingKind::ProcessLeft, subject, format!("{info} is left of an earlier run"))
}

/// The run's ports that one of its own processes holds.
fn held_ports(run: &RunFile, locations: &Locations, marked: &BTreeMap<Pid, Slot>) -> Vec<PortReport> {
    let worker_of = |pid: Pid| marked.get(&pid).and_then(|slot| worker_name(run, *slot));
    let reports = ports::examine(&locations.known_ports(Some(run)), &worker_of);
    reports
        .into_iter()
        .filter(|report| report.holders.iter().any(|it| it.pid.is_some_and(|pid| marked.contains_key(&pid))))
        // Without a daemon a worker that still listens does not serve: its port is in use.
        .map(|report| PortReport { state: PortState::InUse, ..report })
        .collect()
}

pub fn worker_name(run: &RunFile, slot: Slot) -> Option<WorkerName> {
    run.workers.iter().find(|worker| worker.slot == slot).map(|worker| worker.name.clone())
}

/// All processes that carry the mark of this run, whatever their parent is now, except this `mcpctl`.
///
/// # Errors
/// When not all processes could be read.
pub fn marked_processes(run: RunTag) -> Result<BTreeMap<Pid, Slot>, CannotLook> {
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
pub fn cannot_look(action: &str, error: CannotLook) -> Failure {
    Failure::new(
        program::UNAVAILABLE,
        action,
        error,
        "try again when memory and file descriptors are available",
    )
}

fn living_daemon(run: &RunFile) -> Result<Option<process::Process>, CannotLook> {
    let process = process::read(run.daemon.pid)?;
    Ok(process.filter(|process| process.start == run.daemon.start && !process::is_zombie(process)))
}
