//! The fork bomb: processes that are gone before a signal arrives.
//!
//! Each goes into a session of its own, lives for a moment, forks its successor and exits. Never
//! more than asked for are alive, nor for longer than [`BURNS`], and all together fork at most
//! [`RATE`] times a second: fast enough to outrun a program that kills whole trees, and too slow to
//! stop the machine.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::setsid;

use crate::exiting::exit;
use crate::raw::{Side, ignore, split};

const BURNS: Duration = Duration::from_secs(20);
const RATE: u32 = 4000;
const SHORTEST: Duration = Duration::from_millis(10);

/// Starts this many. For a process of one thread.
pub fn light(count: u32) -> io::Result<()> {
    let life = (Duration::from_secs(1) * count / RATE).max(SHORTEST);
    let end = Instant::now() + BURNS;
    if count > 0 {
        // The first of them are this process's own children, and would be its zombies.
        ignore(Signal::SIGCHLD);
    }
    for _ in 0..count {
        if let Side::Child = split()? {
            // A pass of SIGTERM could end all of them by chance.
            ignore(Signal::SIGTERM);
            hop(end, life);
        }
    }
    Ok(())
}

fn hop(end: Instant, life: Duration) -> ! {
    while Instant::now() < end {
        // Fails only for the leader of a group, and a forked child is none.
        let _ = setsid();
        thread::sleep(life);
        match split() {
            Ok(Side::Child) => {}
            Ok(Side::Parent) | Err(_) => break,
        }
    }
    exit(0)
}
