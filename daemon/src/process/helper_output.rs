//! Runs a helper command and keeps what it prints.

use std::io;
use std::pin::pin;

use mcpd_common::outcome::ExitStatus;
use tokio::net::unix::pipe;

use super::operations::LaunchSpec;
use super::process_thread::ProcessThread;
use crate::deadline::Deadline;

/// The output that is kept; the rest is read and dropped.
const MAX_OUTPUT: usize = 256 * 1024;

/// How a helper ended, and its standard output and error as one text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HelperOutput {
    pub exit: ExitStatus,
    pub text: String,
}

/// Runs the command until it and all its descendants are gone.
///
/// # Errors
/// When it can't be started, or is not done before the deadline; then it is killed.
pub async fn run(
    process_thread: &ProcessThread,
    spec: LaunchSpec,
    deadline: Deadline,
) -> Result<HelperOutput, String> {
    let mut output = Output::default();
    let (reader, writer) = io::pipe()
        .and_then(|(reader, writer)| Ok((pipe::Receiver::from_owned_fd(reader.into())?, writer)))
        .map_err(|error| format!("no pipe for its output: {error}"))?;
    let run = |slot| LaunchSpec { slot, output: Some(writer.into()), ..spec };
    let mut ended = pin!(process_thread.run(run, deadline));
    let ended = loop {
        tokio::select! {
            biased;
            ended = &mut ended => break ended,
            () = output.read(&reader), if !output.is_complete => {}
        }
    };
    // Not until the end of the pipe, which another process may hold.
    while output.try_read(&reader) {}
    let exit = ended?;
    Ok(HelperOutput { exit, text: String::from_utf8_lossy(&output.bytes).into_owned() })
}

#[derive(Default)]
struct Output {
    bytes: Vec<u8>,
    is_complete: bool,
}

impl Output {
    async fn read(&mut self, reader: &pipe::Receiver) {
        match reader.readable().await {
            Ok(()) => drop(self.try_read(reader)),
            Err(_) => self.is_complete = true,
        }
    }

    /// Whether there may be more to read now.
    fn try_read(&mut self, reader: &pipe::Receiver) -> bool {
        let mut buffer = [0; 4096];
        match reader.try_read(&mut buffer) {
            Ok(0) => self.is_complete = true,
            Ok(read) => {
                let room = MAX_OUTPUT - self.bytes.len();
                self.bytes.extend_from_slice(&buffer[..read.min(room)]);
                return true;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.is_complete = true,
        }
        false
    }
}
