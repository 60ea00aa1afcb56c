//! The state of the system at each phase boundary (R-LOG-4), gathered in the background;
//! the shutdown never waits for it.

use std::time::Instant;

use mcpd_common::ids::Pid;
use mcpd_common::os::{process, this_process};
use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System};
use tracing::level_filters::LevelFilter;

pub fn log_in_background(border: &'static str) {
    // Not `enabled!`: what it asks the filters of the layers stays in their state, and the next event of this thread is lost
    // in the layers that said no.
    if LevelFilter::current() >= LevelFilter::DEBUG {
        tokio::task::spawn_blocking(move || log(border));
    }
}

#[expect(clippy::disallowed_methods, reason = "times the gathering itself; decides nothing")]
fn log(border: &str) {
    let began = Instant::now();
    let (memory, cpu_ms) = usage();
    let threads: Vec<_> = this_process::threads().into_iter().map(|(_, name)| name).collect();
    let descriptors = this_process::descriptors();
    let sockets = descriptors.iter().filter(|(_, target)| target.starts_with("socket:")).count();
    let children: Vec<_> = process::best_effort::children(Pid::current())
        .into_iter()
        .filter_map(process::best_effort::read)
        .map(|child| format!("{} {} {}", child.pid, child.state, child.name))
        .collect();
    tracing::debug!(
        border,
        pid = %Pid::current(),
        memory,
        cpu_ms,
        threads = threads.join(","),
        descriptors = descriptors.len(),
        sockets,
        children = children.join(", "),
        gathered_in_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX),
        "system state"
    );
}

/// Resident memory in bytes and CPU time in milliseconds of this process.
fn usage() -> (u64, u64) {
    let pid = sysinfo::Pid::from_u32(std::process::id());
    let Ok(mut system) = System::new() else {
        return (0, 0);
    };
    let kind = ProcessRefreshKind::nothing().with_memory().with_cpu();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), false, kind);
    let process = system.process(pid);
    process.map_or((0, 0), |process| (process.memory(), process.accumulated_cpu_time()))
}
