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
const BUFFER: usize = 4096;

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
    output.read_rest(&reader);
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
            Ok(()) => {
                let mut buffer = [0; BUFFER];
                let read = reader.try_read(&mut buffer);
                let _ = self.take(read, &buffer);
            }
            Err(_) => self.is_complete = true,
        }
    }

    /// Reads what is in the pipe now. Not through the runtime, which may not know yet that something is there:
    /// an output that lacks its end would be misunderstood.
    fn read_rest(&mut self, reader: &pipe::Receiver) {
        let mut buffer = [0; BUFFER];
        loop {
            let read = rustix::io::read(reader, &mut buffer).map_err(io::Error::from);
            if !self.take(read, &buffer) {
                return;
            }
        }
    }

    /// Whether there may be more to read now.
    fn take(&mut self, read: io::Result<usize>, buffer: &[u8]) -> bool {
        match read {
            Ok(0) => self.is_complete = true,
            Ok(read) => {
                let room = MAX_OUTPUT - self.bytes.len();
                self.bytes.extend_from_slice(&buffer[..read.min(room)]);
                return true;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return true,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.is_complete = true,
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// A list of containers that lacks its end would look like a proof.
    #[tokio::test]
    async fn what_was_written_last_is_read() {
        let (reader, mut writer) = io::pipe().expect("a pipe");
        let reader = pipe::Receiver::from_owned_fd(reader.into()).expect("a pipe");
        let mut output = Output::default();
        for expected in ["", "one", "onetwo"] {
            output.read_rest(&reader);
            assert_eq!(output.bytes, expected.as_bytes());
            writer.write_all(if expected.is_empty() { b"one" } else { b"two" }).expect("written");
        }
        drop(writer);
        output.read_rest(&reader);
        assert!(output.is_complete);
    }
}
