//! Crashes at random moments: daemon, guardian or both are killed, with workers that are hard to stop.
//! No process is left afterwards, or after the next start, which succeeds (R-CONT-5, R-CONT-6).
//!
//! `MCPD_CRASH_ROUNDS` is the number of rounds (default 6), `MCPD_CRASH_SEED` the seed of the first one.
//! A failure prints the seed of its round, which reproduces it.

use std::time::Duration;

use mcpd_common::os::process;
use mcpd_tests::random::SeededRandom;
use mcpd_tests::{BOUND, ConfigBuilder, Daemon, Signal, until};

const ROUNDS: u64 = 6;

/// Flags of fixture workers: ways to be hard to stop.
const ZOO: [&str; 8] = [
    "",
    "--escape 3",
    "--escape-polite 4 --ignore-term",
    "--tree 2 3 --ignore-shutdown",
    "--hand-over-socket --zombies 5",
    "--fork-bomb 20",
    "--leader-exits",
    "--slow-exit 150 --start-delay 40",
];

/// The process that is killed.
#[derive(Clone, Copy, Debug)]
enum Victim {
    Daemon,
    Guardian,
    Both,
}

/// When it is killed: a time after the daemon began to start, restart workers or shut down.
#[derive(Clone, Copy, Debug)]
enum Moment {
    Starting(Duration),
    Running,
    Restarting(Duration),
    ShuttingDown(Duration),
}

fn random_time(random: &mut SeededRandom, most_ms: usize) -> Duration {
    Duration::from_micros(random.below(most_ms * 1000) as u64)
}

fn random_moment(random: &mut SeededRandom) -> Moment {
    match random.below(4) {
        0 => Moment::Starting(random_time(random, 120)),
        1 => Moment::Running,
        2 => Moment::Restarting(random_time(random, 100)),
        _ => Moment::ShuttingDown(random_time(random, 400)),
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn sudden_deaths_at_random_moments_leave_nothing() {
    let now = jiff::Timestamp::now().as_nanosecond();
    let seed = number("MCPD_CRASH_SEED").unwrap_or(u64::try_from(now & 0xffff_ffff).expect("masked"));
    for number in 0..number("MCPD_CRASH_ROUNDS").unwrap_or(ROUNDS) {
        let mut random = SeededRandom::new(seed.wrapping_add(number));
        let victim = random.pick(&[Victim::Daemon, Victim::Daemon, Victim::Guardian, Victim::Both]);
        let moment = random_moment(&mut random);
        let round =
            format!("MCPD_CRASH_SEED={} (one round): {victim:?}, {moment:?}", seed.wrapping_add(number));
        let print_on_panic = PrintOnPanic(&round);
        crash(&mut random, victim, moment);
        drop(print_on_panic);
    }
}

/// Prints the round if the test panics in it.
struct PrintOnPanic<'a>(&'a str);

impl Drop for PrintOnPanic<'_> {
    #[expect(clippy::print_stderr, reason = "the test runner shows it with the failed test")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed: {}", self.0);
        }
    }
}

fn crash(random: &mut SeededRandom, victim: Victim, moment: Moment) {
    let short = Duration::from_millis(200);
    let mut config = ConfigBuilder::new().times(short, short);
    for name in ["a", "b", "c"] {
        config = config.fixture(name, random.pick(&ZOO));
    }
    let mut daemon = Daemon::launch(config);
    daemon.pid();
    reach(&mut daemon, moment);
    kill_victim(&mut daemon, victim, moment);
    let mut next = daemon.launch_again();
    // A worker whose leader exits is never ready, so the test waits only until each was started.
    next.wait_status("the next run", |status| {
        status.workers.iter().all(|worker| worker.started_at.is_some())
    });
    next.signal_daemon(Signal::SIGKILL);
    next.assert_cleaned_up(101);
}

/// Sleeps instead of waiting for a condition, because the moment is random on purpose.
fn reach(daemon: &mut Daemon, moment: Moment) {
    match moment {
        Moment::Starting(time) => std::thread::sleep(time),
        Moment::Running => wait_responds(daemon),
        Moment::Restarting(time) => {
            wait_responds(daemon);
            let running = daemon.mcpctl_start(&["restart", "--all"]);
            std::thread::sleep(time);
            drop(running);
        }
        Moment::ShuttingDown(time) => {
            wait_responds(daemon);
            daemon.signal(Signal::SIGTERM);
            std::thread::sleep(time);
        }
    }
}

fn wait_responds(daemon: &mut Daemon) {
    daemon.wait_status("a response", |_| true);
}

fn kill_victim(daemon: &mut Daemon, victim: Victim, moment: Moment) {
    let pid = daemon.pid();
    match victim {
        Victim::Daemon => {
            daemon.signal_daemon(Signal::SIGKILL);
            daemon.wait_exit(BOUND);
            // The shutdown may be complete before the signal arrives; then its report has the exit code.
            let reason = daemon.report().reason;
            let was_completed = matches!(moment, Moment::ShuttingDown(_)) && reason == "signal_SIGTERM";
            let code = if was_completed { daemon.report().exit_code } else { 101 };
            daemon.assert_cleaned_up(code);
        }
        Victim::Guardian => {
            daemon.signal(Signal::SIGKILL);
            until("the guardian to be gone", BOUND, || daemon.poll_exit());
            until("the daemon to be gone", BOUND, || process::best_effort::read(pid).is_none().then_some(()));
            daemon.assert_all_gone(&[]);
        }
        Victim::Both => {
            daemon.kill_both();
            until("the daemon to be gone", BOUND, || process::best_effort::read(pid).is_none().then_some(()));
        }
    }
}
