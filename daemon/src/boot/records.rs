//! What the run file, the journal and `status` say about this run from its start on.

use jiff::Timestamp;
use mcpd_common::config::{Config, WorkerConfig};
use mcpd_common::ids::{Pid, RunId, Slot};
use mcpd_common::journal::RunStarted;
use mcpd_common::os::process::StartTime;
use mcpd_common::os::{self, process};
use mcpd_common::run_file::{ProcessId, RUN_FILE_SCHEMA, RunFile, WorkerEntry};
use mcpd_common::status::DaemonStatus;

use crate::slots::Slots;

pub fn run_file(config: &Config, slots: &Slots, run: RunId, guardian: Pid) -> RunFile {
    let entry = |(worker, slot): (&WorkerConfig, Slot)| WorkerEntry {
        slot,
        name: worker.name.clone(),
        port: worker.port,
        repo: worker.repo.clone(),
        process: None,
    };
    let workers = config.workers.values();
    let main = workers.clone().filter_map(|worker| Some((worker, slots.of(&worker.name)?)));
    let of_sessions =
        workers.flat_map(|worker| slots.of_sessions(&worker.name).iter().map(move |slot| (worker, *slot)));
    RunFile {
        schema: RUN_FILE_SCHEMA.to_owned(),
        run,
        boot_id: os::boot_id().unwrap_or_default(),
        daemon: process_id(Pid::current()),
        guardian: Some(process_id(guardian)),
        socket: config.daemon.socket.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        workers: main.chain(of_sessions).map(entry).collect(),
    }
}

fn process_id(pid: Pid) -> ProcessId {
    ProcessId { pid, start: process::best_effort::read(pid).map_or(StartTime(0), |process| process.start) }
}

pub fn run_started(config: &Config, run: RunId) -> RunStarted {
    RunStarted {
        run,
        pid: Pid::current(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        config: config.file.as_ref().map(|file| file.display().to_string()),
        started_at: Timestamp::now(),
    }
}

pub fn daemon_status(config: &Config, run: RunId, guardian: Pid) -> DaemonStatus {
    DaemonStatus {
        pid: Pid::current(),
        guardian: Some(guardian),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        run,
        started_at: Timestamp::now(),
        socket: config.daemon.socket.display().to_string(),
        state_dir: config.daemon.state_dir.display().to_string(),
        log_dir: config.daemon.log_dir.display().to_string(),
        config: config.file.as_ref().map(|file| file.display().to_string()),
        backend: os::backend(),
        containment: None,
        shutdown: None,
        warnings: vec![],
    }
}
