//! A soak test: the events of weeks in an hour.
//!
//! ```text
//! soak SECONDS [SEED]
//!
//! stage     one daemon with workers of several kinds, on a small disk, with a clock that can be set
//! actions   what happens to the daemon; picked by a seeded random generator, the seed is printed
//! level     descriptors, threads, children and memory, which must not grow
//! ```
//!
//! At the end the daemon is shut down, and nothing may be left. `scripts/soak.sh` builds everything and runs this.

mod actions;
mod level;
mod stage;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use actions::ACTIONS;
use mcpd_tests::random::SeededRandom;
use stage::Stage;

fn main() -> ExitCode {
    let numbers: Option<Vec<u64>> = std::env::args().skip(1).map(|word| word.parse().ok()).collect();
    let (seconds, seed) = match numbers.as_deref() {
        Some([seconds]) => (*seconds, seed_from_clock()),
        Some([seconds, seed]) => (*seconds, *seed),
        _ => {
            print("usage: soak SECONDS [SEED]");
            return ExitCode::from(64);
        }
    };
    print(&format!("soak: {seconds} s, seed {seed}"));
    run(Duration::from_secs(seconds), SeededRandom::new(seed))
}

fn run(length: Duration, mut random: SeededRandom) -> ExitCode {
    let mut stage = Stage::build();
    // Each action once before the first measurement, because some memory is allocated at the first use only.
    for (name, action) in ACTIONS {
        print(&format!("  once: {name}"));
        action(&mut stage, &mut random);
    }
    let before = stage.settle(None);
    let begin = Instant::now();
    let mut done = BTreeMap::<&str, u32>::new();
    while begin.elapsed() < length {
        let (name, action) = ACTIONS[random.below(ACTIONS.len())];
        action(&mut stage, &mut random);
        *done.entry(name).or_default() += 1;
        stage.assert_same_daemon();
    }
    let after = stage.settle(Some(&before));
    let counts: Vec<_> = done.iter().map(|(name, times)| format!("{name} {times}")).collect();
    print(&format!("done: {}", counts.join(", ")));
    print(&format!("before: {before}\nafter:  {after}"));
    stage.end();
    print("stopped: nothing left");
    match after.exceeds(&before) {
        Some(what) => {
            print(&format!("FAILED: {what}"));
            ExitCode::FAILURE
        }
        None => ExitCode::SUCCESS,
    }
}

fn seed_from_clock() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(1, |since| since.as_secs())
}

#[expect(clippy::print_stderr, reason = "progress of a program that runs for an hour")]
fn print(text: &str) {
    eprintln!("{text}");
}
