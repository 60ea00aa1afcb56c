//! The fork bomb: processes that have exited before a signal arrives.
//!
//! Each makes a session, lives for a short time, forks its successor and exits. The number of processes does not grow, the
//! bomb ends after [`LIMIT`], and all together fork at most [`FORKS_PER_SECOND`] times a second: too fast for a program
//! that kills one process after the other, and slow enough for the machine.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::setsid;

use crate::exiting::exit;
use crate::raw::{ForkSide, fork, ignore};

const LIMIT: Duration = Duration::from_secs(20);
const FORKS_PER_SECOND: u32 = 4000;
const MIN_LIFETIME: Duration = Duration::from_millis(10);

/// Starts this number of chains. Only for a process with a single thread.
pub fn start(count: u32) -> io::Result<()> {
    let life = (Duration::from_secs(1) * count / FORKS_PER_SECOND).max(MIN_LIFETIME);
    let end = Instant::now() + LIMIT;
    if count > 0 {
        // So that the first processes, which are children of this one, don't become zombies.
        ignore(Signal::SIGCHLD);
    }
    for _ in 0..count {
        if let ForkSide::Child = fork()? {
            // Otherwise one round of SIGTERM could end all of them by chance.
            ignore(Signal::SIGTERM);
            fork_until(end, life);
        }
    }
    Ok(())
}

fn fork_until(end: Instant, life: Duration) -> ! {
    while Instant::now() < end {
        // It fails only for the leader of a group, which a forked child is not.
        let _ = setsid();
        thread::sleep(life);
        match fork() {
            Ok(ForkSide::Child) => {}
            Ok(ForkSide::Parent) | Err(_) => break,
        }
    }
    exit(0)
}
