//! Runs programs, with time limits.

use std::io::{self, BufRead, BufReader};
use std::process::{self, Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait::{BOUND, until};

/// How long a program may take to exit when a test has failed.
const EXIT_LIMIT: Duration = Duration::from_secs(10);

/// The output of a program, and its exit code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// `None` if the program was killed by a signal.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// Standard output as JSON, one value for each line.
    #[track_caller]
    pub fn json_lines(&self) -> Vec<serde_json::Value> {
        let parse = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line:?}"));
        self.stdout.lines().map(parse).collect()
    }

    /// Checks the exit code.
    #[track_caller]
    pub fn expect_code(self, code: u8) -> Self {
        assert_eq!(self.code, Some(code.into()), "{self:?}");
        self
    }
}

/// A running program. Terminated on drop.
#[derive(Debug)]
pub struct Running {
    pid: Pid,
    /// Receives the output when the process has been reaped; `None` once it was received.
    ended: Option<mpsc::Receiver<io::Result<process::Output>>>,
}

/// Starts a program and collects its output.
#[track_caller]
pub fn start(command: &mut Command) -> Running {
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child: Child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let pid = Pid::from_raw(child.id().cast_signed());
    let (sender, ended) = mpsc::channel();
    thread::spawn(move || sender.send(child.wait_with_output()));
    Running { pid, ended: Some(ended) }
}

impl Running {
    /// The pid of the program.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Sends a signal. The program must not have exited.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        kill(self.pid, signal).expect("it runs");
    }

    /// Waits until the program exits; panics after this limit.
    #[track_caller]
    pub fn finish(mut self, limit: Duration) -> Output {
        let receiver = self.ended.take().expect("finished only once");
        let Ok(ended) = receiver.recv_timeout(limit) else {
            // The process is not reaped yet, so its pid is not reused.
            let _ = kill(self.pid, Signal::SIGKILL);
            let output = receiver.recv_timeout(limit);
            panic!("the program has not exited after {limit:?}: {output:?}");
        };
        let ended = ended.expect("readable output");
        Output {
            code: ended.status.code(),
            stdout: String::from_utf8_lossy(&ended.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&ended.stderr).into_owned(),
        }
    }
}

/// `SIGTERM` first, because the program may be an `mcpd` with workers.
impl Drop for Running {
    fn drop(&mut self) {
        let Some(ended) = self.ended.take() else { return };
        for signal in [Signal::SIGTERM, Signal::SIGKILL] {
            if !matches!(ended.try_recv(), Err(mpsc::TryRecvError::Empty)) {
                return;
            }
            let _ = kill(self.pid, signal);
            if ended.recv_timeout(EXIT_LIMIT).is_ok() {
                return;
            }
        }
    }
}

/// A running program whose standard output is read line by line. Killed on drop.
#[derive(Debug)]
pub struct Following {
    child: Child,
    lines: mpsc::Receiver<String>,
}

/// Starts a program and reads its standard output line by line.
#[track_caller]
pub fn follow(command: &mut Command) -> Following {
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let output = child.stdout.take().expect("piped");
    // If the test does not read, the program blocks, as on a stopped terminal.
    let (sender, lines) = mpsc::sync_channel(1000);
    thread::spawn(move || {
        let lines = BufReader::new(output).lines();
        lines.map_while(Result::ok).try_for_each(|line| sender.send(line))
    });
    Following { child, lines }
}

impl Following {
    /// Waits for the next line; panics after this limit.
    #[track_caller]
    pub fn line(&self, limit: Duration) -> String {
        self.lines.recv_timeout(limit).expect("another line")
    }

    /// Reads lines until `wanted` holds for one. The lines before it are dropped.
    #[track_caller]
    pub fn wait_line(&self, what: &str, wanted: impl Fn(&str) -> bool) {
        until(what, BOUND, || wanted(&self.line(BOUND)).then_some(()));
    }

    /// Sends a signal; then like [`Self::finish`].
    #[track_caller]
    pub fn end(self, signal: Signal, limit: Duration) -> (process::ExitStatus, Vec<String>) {
        // The process is not reaped yet, so its pid is not reused.
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).expect("it runs");
        self.finish(limit)
    }

    /// Waits until the program exits, up to this limit. Returns its exit status and the lines that were not read yet.
    #[track_caller]
    pub fn finish(mut self, limit: Duration) -> (process::ExitStatus, Vec<String>) {
        let mut lines = Vec::new();
        let status = until("the program to exit", limit, || {
            lines.extend(self.lines.try_iter());
            self.child.try_wait().expect("a child can be waited for")
        });
        lines.extend(self.lines.iter());
        (status, lines)
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
