//! What is left to do when all processes are gone: socket, run file, record, a word to the user.

use std::os::fd::AsFd;
use std::path::Path;

use mcpd_common::crash::{CrashRecord, DaemonEnd};
use mcpd_common::paths::{StateDir, durable};
use mcpd_common::run_file::RunFile;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::socket_file::{self, SocketError};

/// Everything, in the order that leaves the least undone if this process dies as well: what the next
/// start needs to know is removed last; nothing of it is removed unless `is_complete`: all processes could
/// be read. Returns the exit code.
pub fn settle(record: &CrashRecord, is_complete: bool, socket: &Path, state: &StateDir) -> u8 {
    let mut problems = Vec::new();
    if !matches!(record.end, DaemonEnd::Completed(_)) {
        match socket_file::remove_stale(socket) {
            // A live one is another daemon's, and stays.
            Ok(()) | Err(SocketError::Live(_)) => {}
            Err(error) => problems.push(error.to_string()),
        }
    }
    match record.publish(state) {
        // What could not be ended is looked for again by the next start.
        Ok(()) if record.left.is_empty() && is_complete => {
            // A file of another run is ignored by its tag: no harm if it stays.
            let _ = durable::remove(&state.members());
            problems.extend(RunFile::remove(&state.run_file()).err().map(|error| error.to_string()));
        }
        Ok(()) => {}
        Err(error) => problems.push(format!("can't write the crash record: {error}")),
    }
    let code = record.exit_code();
    say(&format!("exit code {code}, see `mcpctl report`: {}", record.sentence()));
    for problem in problems {
        say(&problem);
    }
    code
}

/// Never waits for a console that does not read.
fn say(text: &str) {
    let line = format!("mcp-guardian: {}\n", &text[..text.floor_char_boundary(ATOMIC)]);
    let error = std::io::stderr();
    let mut entry = [PollFd::from_borrowed_fd(error.as_fd(), PollFlags::OUT)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    if poll(&mut entry, Some(&at_once)).is_ok_and(|ready| ready > 0) {
        // Where it can't be said there is still the record.
        let _ = rustix::io::write(error.as_fd(), line.as_bytes());
    }
}

/// As much fits, with some words, into a pipe that is ready (`PIPE_BUF` is at least 512).
const ATOMIC: usize = 490;
