//! After all processes are gone: socket file, run file, crash record, a line on the console.

use std::os::fd::AsFd;
use std::path::Path;

use mcpd_common::crash::{CrashRecord, DaemonEnd};
use mcpd_common::paths::{StateDir, durable};
use mcpd_common::run_file::RunFile;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::logging;
use crate::socket_file::{self, SocketError};

/// In an order that survives a crash of this process: what the next
/// start needs to know is removed last; nothing of it is removed unless `is_complete`: all processes could
/// be read. Returns the exit code.
pub fn settle(record: &CrashRecord, is_complete: bool, socket: &Path, state: &StateDir) -> u8 {
    let mut problems = Vec::new();
    if !matches!(record.end, DaemonEnd::Completed(_)) {
        match socket_file::remove_stale(socket) {
            // A socket that another daemon serves stays.
            Ok(()) | Err(SocketError::Live(_)) => {}
            Err(error) => problems.push(error.to_string()),
        }
    }
    match record.publish(state) {
        // The next start searches again for what could not be killed.
        Ok(()) if record.left.is_empty() && is_complete => {
            // A file of another run is ignored by its tag: no harm if it stays.
            let _ = durable::remove(&state.members());
            problems.extend(RunFile::remove(&state.run_file()).err().map(|error| error.to_string()));
        }
        Ok(()) => {}
        Err(error) => problems.push(format!("can't write the crash record: {error}")),
    }
    let code = record.exit_code();
    print(&format!("exit code {code}, see `mcpctl report`: {}", record.sentence()));
    for problem in problems {
        print(&problem);
    }
    code
}

/// Never waits for a console that does not read.
fn print(text: &str) {
    let line = line(text);
    let error = std::io::stderr();
    let mut entry = [PollFd::from_borrowed_fd(error.as_fd(), PollFlags::OUT)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    if poll(&mut entry, Some(&at_once)).is_ok_and(|ready| ready > 0) {
        // If it can't be printed, the crash record still has it.
        let _ = rustix::io::write(error.as_fd(), line.as_bytes());
    }
}

/// As much of the text as fits into a line. How much that is depends on the format: JSON needs more bytes.
fn line(text: &str) -> String {
    let cut = |bytes: usize| {
        let text = format!("mcp-guardian: {}\n", &text[..text.floor_char_boundary(bytes)]);
        logging::error_text(&text).into_owned()
    };
    let lengths = (0..=MAX_LINE).rev().step_by(32);
    lengths.map(cut).find(|line| line.len() <= MAX_LINE).unwrap_or_default()
}

/// Bytes that fit into a pipe that poll(2) reports as ready (`PIPE_BUF` is at least 512).
const MAX_LINE: usize = 512;
