//! Sudden deaths at random moments: daemon, guardian or both, whatever they were doing, with workers
//! that are hard to get rid of. Nothing is left, at once or after the next start, which comes up
//! (R-CONT-5, R-CONT-6).
//!
//! `MCPD_CRASH_ROUNDS` says how many (a few unless it does), `MCPD_CRASH_SEED` which ones: the seed is
//! in the message of a failure, and each round depends on nothing else.

use std::time::Duration;

use mcpd_common::os::process;
use mcpd_tests::dice::Dice;
use mcpd_tests::{BOUND, ConfigBuilder, Daemon, Signal, until};

const ROUNDS: u64 = 6;

/// Fixture workers, by what makes them hard to end.
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

/// Who dies.
#[derive(Clone, Copy, Debug)]
enum Victim {
    Daemon,
    Guardian,
    Both,
}

/// When, and after what.
#[derive(Clone, Copy, Debug)]
enum Moment {
    Starting(Duration),
    Running,
    Restarting(Duration),
    ShuttingDown(Duration),
}

fn time(dice: &mut Dice, most_ms: usize) -> Duration {
    Duration::from_micros(dice.below(most_ms * 1000) as u64)
}

fn random_moment(dice: &mut Dice) -> Moment {
    match dice.below(4) {
        0 => Moment::Starting(time(dice, 120)),
        1 => Moment::Running,
        2 => Moment::Restarting(time(dice, 100)),
        _ => Moment::ShuttingDown(time(dice, 400)),
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
        let mut dice = Dice::new(seed.wrapping_add(round));
        let victim = dice.pick(&[Victim::Daemon, Victim::Daemon, Victim::Guardian, Victim::Both]);
        let moment = random_moment(&mut dice);
        let story =
            format!("MCPD_CRASH_SEED={} (one round): {victim:?}, {moment:?}", seed.wrapping_add(round));
        let told = Story(&story);
        one_death(&mut dice, victim, moment);
        drop(told);
    }
}

/// Says which round failed.
struct Story<'a>(&'a str);

impl Drop for Story<'_> {
    #[expect(clippy::print_stderr, reason = "the test runner shows it with the failed test")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed: {}", self.0);
        }
    }
}

fn one_death(dice: &mut Dice, victim: Victim, moment: Moment) {
    let short = Duration::from_millis(200);
    let mut config = ConfigBuilder::new().times(short, short);
    for name in ["a", "b", "c"] {
        config = config.fixture(name, dice.pick(&ZOO));
    }
    let mut daemon = Daemon::launch(config);
    daemon.pid();
    reach(&mut daemon, moment);
    die(&mut daemon, victim);
    let mut next = daemon.launch_again();
    // One whose leader leaves is never ready: it is enough that each was started.
    next.wait_status("the next run", |status| {
        status.workers.iter().all(|worker| worker.started_at.is_some())
    });
    next.signal_daemon(Signal::SIGKILL);
    next.wait_exit(BOUND);
    next.assert_all_gone(&[]);
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

/// Whoever is dead already when his turn comes died of the shutdown that was asked for.
fn die(daemon: &mut Daemon, victim: Victim) {
    let pid = daemon.pid();
    match victim {
        Victim::Daemon => {
            daemon.signal_daemon(Signal::SIGKILL);
            daemon.wait_exit(BOUND);
            daemon.assert_all_gone(&[]);
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
