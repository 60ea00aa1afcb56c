//! Memory and CPU time of an idle daemon.

use std::fs;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use mcpd_common::ids::Pid;
use mcpd_common::os::process;
use mcpd_tests::Daemon;
use mcpd_tests::daemon::mcpctl;
use nix::time::clock_getcpuclockid;

use crate::options::Options;
use crate::stop;
use crate::table::{Row, Unit};
use crate::watch::millis;

/// Time after the start until memory and timers are stable: the threads that checked the starts end after 10 s.
const SETTLE: Duration = Duration::from_secs(15);
/// The interval of the probes, so that each worker is probed once.
const WINDOW: Duration = Duration::from_secs(10);

/// Memory and CPU with 50 workers.
pub fn rows(options: &Options) -> Vec<Row> {
    let mut memory = Vec::new();
    let mut guardian = Vec::new();
    let mut load = Vec::new();
    let mut wake_ups = Vec::new();
    for _ in 0..options.repeat {
        let daemon = Daemon::start(stop::config(50, &stop::graceful()));
        thread::sleep(SETTLE);
        load.push(busy_percent(daemon.pid()) + busy_percent(daemon.guardian()));
        wake_ups.push(wake_ups_per_second(daemon.pid()) + wake_ups_per_second(daemon.guardian()));
        assert_only_one(&daemon);
        guardian.push(proportional_megabytes(daemon.guardian()));
        memory.push(proportional_megabytes(daemon.pid()) + proportional_megabytes(daemon.guardian()));
        stop::end(daemon);
    }
    vec![
        Row::new(
            "proportional memory (PSS) of daemon and guardian, 50 workers",
            Unit::Megabytes,
            10.0,
            memory,
        ),
        Row::new("proportional memory (PSS) of the guardian", Unit::Megabytes, 0.6, guardian),
        Row::new("idle CPU of both over 10 s each, 50 workers, of a core", Unit::Percent, 0.1, load),
        Row::new(
            "wake-ups of all threads of both per second, 50 workers, no client",
            Unit::Rate,
            2.0,
            wake_ups,
        ),
    ]
}

/// `mcpctl status` with 100 workers; each sample is the whole process.
pub fn status_rows(options: &Options) -> Vec<Row> {
    let daemon = Daemon::start(stop::config(100, &stop::graceful()));
    let samples: Vec<f64> = (0..options.repeat * 4).map(|_| status(&daemon)).collect();
    stop::end(daemon);
    let what = format!("`mcpctl status`, whole process, 100 workers ({} samples)", samples.len());
    vec![Row::new(what, Unit::Millis, 15.0, samples)]
}

fn status(daemon: &Daemon) -> f64 {
    let mut command = mcpctl(daemon.home());
    command.arg("status").stdin(Stdio::null()).stdout(Stdio::null());
    let begin = Instant::now();
    let status = command.status().expect("mcpctl can be run");
    let took = begin.elapsed();
    assert!(status.success(), "mcpctl status: {status}");
    millis(took)
}

fn busy_percent(pid: Pid) -> f64 {
    let begin = (Instant::now(), cpu_nanos(pid));
    thread::sleep(WINDOW);
    let busy = cpu_nanos(pid) - begin.1;
    busy / 1e9 / begin.0.elapsed().as_secs_f64() * 100.0
}

/// How often a thread that waited ran again (proc(5), `voluntary_ctxt_switches`).
fn wake_ups_per_second(pid: Pid) -> f64 {
    let begin = (Instant::now(), wake_ups(pid));
    thread::sleep(WINDOW);
    (wake_ups(pid) - begin.1) / begin.0.elapsed().as_secs_f64()
}

fn wake_ups(pid: Pid) -> f64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("the daemon runs");
    let of_thread = |status: String| {
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.and_then(|number| number.trim().parse::<f64>().ok())
    };
    tasks.filter_map(|task| of_thread(fs::read_to_string(task.ok()?.path().join("status")).ok()?)).sum()
}

/// CPU time of all threads, also of those that have ended. `stat` has it in ticks of 10 ms, which is not precise enough.
pub fn cpu_nanos(pid: Pid) -> f64 {
    let clock = clock_getcpuclockid(nix::unistd::Pid::from_raw(pid.get())).expect("the process runs");
    let time = clock.now().expect("the process runs");
    time.tv_sec() as f64 * 1e9 + time.tv_nsec() as f64
}

/// A second daemon would halve the proportional memory, because both share the pages of the program.
fn assert_only_one(daemon: &Daemon) {
    let program = |pid: Pid| fs::read_link(format!("/proc/{pid}/exe")).ok();
    let own = [daemon.pid(), daemon.guardian()];
    let program_of_daemon = program(own[0]);
    let others =
        process::best_effort::all().into_iter().map(|found| found.pid).filter(|pid| !own.contains(pid));
    let same: Vec<Pid> = others.filter(|pid| program(*pid) == program_of_daemon).collect();
    assert!(
        same.is_empty(),
        "the same mcpd runs as {same:?} too; its memory can't be measured while it does"
    );
}

/// Proportional memory (PSS) of a process in MB.
pub fn proportional_megabytes(pid: Pid) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("the daemon runs");
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kibibytes = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<f64>().ok());
    kibibytes.expect("the kernel counts proportional memory") * 1024.0 / 1e6
}
