//! Crashes at random moments: daemon, guardian or both are killed, with workers that are hard to stop.
//! Nothing is left, at once or after the next start, which succeeds (R-CONT-5, R-CONT-6).
//!
//! `MCPD_CRASH_ROUNDS` is the number of rounds (default 6), `MCPD_CRASH_SEED` the seed of the first one:
//! a failure prints the seed of its round, which depends on nothing else.

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

fn time(random: &mut SeededRandom, most_ms: usize) -> Duration {
    Duration::from_micros(random.below(most_ms * 1000) as u64)
}

fn random_moment(random: &mut SeededRandom) -> Moment {
    match random.below(4) {
        0 => Moment::Starting(time(random, 120)),
        1 => Moment::Running,
        2 => Moment::Restarting(time(random, 100)),
        _ => Moment::ShuttingDown(time(random, 400)),
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn sudden_deaths_at_random_moments_leave_nothing() {
    let now = jiff::Timestamp::now().as_nanosecond();
    let seed = number("MCPD_CRASH_SEED").unwrap_or(u64::try_from(now & 0xffff_ffff).expect("masked"));
    for round in 0..number("MCPD_CRASH_ROUNDS").unwrap_or(ROUNDS) {
        let mut random = SeededRandom::new(seed.wrapping_add(round));
        let victim = random.pick(&[Victim::Daemon, Victim::Daemon, Victim::Guardian, Victim::Both]);
        let moment = random_moment(&mut random);
        let story =
            format!("MCPD_CRASH_SEED={} (one round): {victim:?}, {moment:?}", seed.wrapping_add(round));
        let on_failure = Story(&story);
        one_death(&mut random, victim, moment);
        drop(on_failure);
    }
}

/// Prints the round in which the test panics.
struct Story<'a>(&'a str);

impl Drop for Story<'_> {
    #[expect(clippy::print_stderr, reason = "the test runner shows it with the failed test")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed: {}", self.0);
        }
    }
}

fn one_death(random: &mut SeededRandom, victim: Victim, moment: Moment) {
    let short = Duration::from_millis(200);
    let mut config = ConfigBuilder::new().times(short, short);
    for name in ["a", "b", "c"] {
        config = config.fixture(name, random.pick(&ZOO));
    }
    let mut daemon = Daemon::launch(config);
    daemon.pid();
    reach(&mut daemon, moment);
    die(&mut daemon, victim, moment);
    let mut next = daemon.launch_again();
    // A worker whose leader exits is never ready, so it is enough that each was started.
    next.wait_status("the next run", |status| {
        status.workers.iter().all(|worker| worker.started_at.is_some())
    });
    next.signal_daemon(Signal::SIGKILL);
    next.assert_cleaned_up(101);
}

/// No wait for a condition: the point is the moment, not what is true then.
fn reach(daemon: &mut Daemon, moment: Moment) {
    let pass = std::thread::sleep;
    match moment {
        Moment::Starting(time) => pass(time),
        Moment::Running => answers(daemon),
        Moment::Restarting(time) => {
            answers(daemon);
            let asked = daemon.mcpctl_start(&["restart", "--all"]);
            pass(time);
            drop(asked);
        }
        Moment::ShuttingDown(time) => {
            answers(daemon);
            daemon.signal(Signal::SIGTERM);
            pass(time);
        }
    }
}

fn answers(daemon: &mut Daemon) {
    daemon.wait_status("an answer", |_| true);
}

fn die(daemon: &mut Daemon, victim: Victim, moment: Moment) {
    let pid = daemon.pid();
    match victim {
        Victim::Daemon => {
            daemon.signal_daemon(Signal::SIGKILL);
            daemon.wait_exit(BOUND);
            // A shutdown may be over before the signal comes; then its report says how it ended.
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
