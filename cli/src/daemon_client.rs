//! A connection to the daemon's control socket, and the failures of its calls.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use mcpd_common::exit_code::program;
use mcpd_common::ids::Pid;
use mcpd_common::os::child::Handle;
use mcpd_common::os::{process, this_process};
use mcpd_common::run_file::{ProcessId, RunFile};
use mcpd_common::status::StatusReport;
use mcpd_proto::v1::control_client::ControlClient;
use mcpd_proto::{EXIT_CODE_METADATA, v1};
use tokio::net::UnixStream;
use tokio::time::{timeout, timeout_at};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Response, Status, Streaming};
use tower::service_fn;

use crate::failure::Failure;
use crate::wait::{Instant, now, sleep};

/// Limit for connecting and for an ordinary reply. The daemon itself gives up after 10 s: it waits 5 s for the
/// reply of its supervisor and 5 s for the number of descendants.
pub const REPLY_TIMEOUT: Duration = Duration::from_secs(15);

/// Limit for replies for which the daemon also reads all processes or sockets of the machine.
pub const SCAN_TIMEOUT: Duration = Duration::from_secs(30);

/// Limit for retrying while the socket's accept queue is full.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

const CONNECT_RETRY_INTERVAL: Duration = Duration::from_millis(10);

/// The report of a shutdown with many workers is larger than tonic's default limit of 4 MiB.
const MAX_MESSAGE_BYTES: usize = 64 << 20;

#[derive(Debug)]
pub struct DaemonClient {
    pub control: ControlClient<Channel>,
    pub socket: PathBuf,
    /// The process at the other end (`SO_PEERCRED`); `None` if it is in another PID namespace.
    pub pid: Option<Pid>,
    /// Refers to that process even after its pid is reused.
    pub handle: Option<Handle>,
}

/// A socket to try.
#[derive(Clone, Debug)]
pub struct Candidate {
    pub socket: PathBuf,
    /// The daemon that must be behind it; `None` if any will do.
    daemon: Option<ProcessId>,
}

impl Candidate {
    pub fn any(socket: &Path) -> Self {
        Self { socket: socket.to_owned(), daemon: None }
    }

    /// The socket in a run file. A crash leaves the file, and another daemon may listen there since.
    pub fn of_run(run: &RunFile) -> Self {
        Self { socket: run.socket.clone(), daemon: Some(run.daemon) }
    }

    fn accepts(&self, stream: &UnixStream) -> bool {
        self.daemon.is_none_or(|daemon| {
            let process = peer_pid(stream).and_then(process::best_effort::read);
            process.is_some_and(|process| (process.pid, process.start) == (daemon.pid, daemon.start))
        })
    }
}

/// Connects to the first of these sockets on which a daemon listens; `None` if there is none. The first error
/// counts only if no other socket has a daemon.
pub async fn connect(action: &str, candidates: &[Candidate]) -> Result<Option<DaemonClient>, Failure> {
    let mut first_failure = None;
    for candidate in candidates {
        let socket = &candidate.socket;
        match connect_with_retry(socket).await {
            Ok(stream) if !candidate.accepts(&stream) => {}
            Ok(stream) => {
                check_owner(action, socket, &stream)?;
                return open(action, socket, stream).await.map(Some);
            }
            Err(error) if has_no_listener(&error) => {}
            Err(error) => {
                first_failure.get_or_insert_with(|| connect_failed(action, socket, &error));
            }
        }
    }
    first_failure.map_or(Ok(None), Err)
}

fn peer_pid(stream: &UnixStream) -> Option<Pid> {
    stream.peer_cred().ok()?.pid().and_then(Pid::new)
}

/// The process on the socket gets the user's requests, so it must be the user's or root's (R-CLI-5).
fn check_owner(action: &str, socket: &Path, stream: &UnixStream) -> Result<(), Failure> {
    match stream.peer_cred().map(|peer| peer.uid()) {
        Ok(owner) if this_process::trusts(owner) => Ok(()),
        Ok(owner) => Err(Failure::new(
            program::NOPERM,
            action,
            format_args!("the process that serves {} belongs to user {owner}", socket.display()),
            "no request was sent; name your own daemon with --socket, or run this as that user",
        )),
        Err(error) => Err(connect_failed(action, socket, &error)),
    }
}

/// Retries while the accept queue is full, for instance because another program floods the socket.
async fn connect_with_retry(socket: &Path) -> io::Result<UnixStream> {
    let deadline = now() + CONNECT_TIMEOUT;
    loop {
        match UnixStream::connect(socket).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && now() < deadline => {
                sleep(CONNECT_RETRY_INTERVAL).await;
            }
            result => return result,
        }
    }
}

async fn open(action: &str, socket: &Path, stream: UnixStream) -> Result<DaemonClient, Failure> {
    // Taken before the first request: after the daemon has exited, its process can't be identified any more.
    let pid = peer_pid(&stream);
    let handle =
        pid.and_then(process::best_effort::read).and_then(|process| Handle::open(&process).ok().flatten());
    let mut stream = Some(stream);
    // The channel must not reconnect: a second connection could reach another daemon.
    let connector = service_fn(move |_: Uri| {
        let stream = stream.take();
        async { stream.map(TokioIo::new).ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)) }
    });
    let endpoint = Endpoint::from_static("http://mcpd");
    let channel = match timeout(REPLY_TIMEOUT, endpoint.connect_with_connector(connector)).await {
        Ok(Ok(channel)) => channel,
        Ok(Err(error)) => return Err(connection_lost(action, socket, &error)),
        Err(_) => return Err(timed_out(action, socket, pid, "an answer to the connection", REPLY_TIMEOUT)),
    };
    let control = ControlClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
    Ok(DaemonClient { control, socket: socket.to_owned(), pid, handle })
}

impl DaemonClient {
    /// The status of all workers, or of this one.
    pub async fn status(&mut self, action: &str, worker: Option<String>) -> Result<StatusReport, Failure> {
        let wait = self.wait_for(action, "the status", REPLY_TIMEOUT);
        let request = v1::StatusRequest { worker: worker.unwrap_or_default() };
        let message = wait.reply(self.control.status(request)).await?;
        message.try_into().map_err(|error| bad_reply(action, error))
    }

    /// Begins a wait for something that the daemon sends within its own limit, to which `limit` adds a margin.
    pub fn wait_for(&self, action: &str, awaited: impl Into<String>, limit: Duration) -> Wait {
        Wait {
            action: action.to_owned(),
            socket: self.socket.clone(),
            pid: self.pid,
            awaited: awaited.into(),
            limit,
            deadline: now() + limit,
        }
    }
}

/// A wait for the daemon. Every command that calls the daemon has one, so that none waits without a limit.
#[derive(Clone, Debug)]
pub struct Wait {
    action: String,
    socket: PathBuf,
    pid: Option<Pid>,
    /// "the status".
    pub awaited: String,
    limit: Duration,
    pub deadline: Instant,
}

impl Wait {
    pub async fn response<T>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<Response<T>, Failure> {
        match timeout_at(self.deadline, call).await {
            Ok(result) => result.map_err(|status| self.failed(&status)),
            Err(_) => Err(self.timed_out()),
        }
    }

    pub async fn reply<T>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Failure> {
        self.response(call).await.map(Response::into_inner)
    }

    /// The next message of a stream; `None` after the last one.
    pub async fn message<T>(&self, stream: &mut Streaming<T>) -> Result<Option<T>, Failure> {
        match timeout_at(self.deadline, stream.message()).await {
            Ok(result) => result.map_err(|status| self.failed(&status)),
            Err(_) => Err(self.timed_out()),
        }
    }

    pub fn failed(&self, status: &Status) -> Failure {
        call_failed(&self.action, &self.socket, status)
    }

    pub fn timed_out(&self) -> Failure {
        timed_out(&self.action, &self.socket, self.pid, &self.awaited, self.limit)
    }
}

/// The failure for an error status of the service or of its transport.
fn call_failed(action: &str, socket: &Path, status: &Status) -> Failure {
    let (code, next) = match status.code() {
        Code::NotFound => (program::USAGE, "run `mcpctl status` to list the workers"),
        Code::InvalidArgument => (program::USAGE, "see `mcpctl help`"),
        Code::PermissionDenied | Code::Unauthenticated => {
            (program::NOPERM, "run mcpctl as the user that runs the daemon, or as root")
        }
        Code::FailedPrecondition if status.metadata().get(EXIT_CODE_METADATA).is_some_and(is_config) => (
            program::CONFIG,
            "correct the configuration (`mcpd check-config` shows every problem), and try again",
        ),
        Code::FailedPrecondition => {
            (program::TEMPFAIL, "run `mcpctl status` to see what the daemon is doing")
        }
        Code::DeadlineExceeded => (program::TEMPFAIL, "try again, or see `mcpctl logs --daemon`"),
        Code::Unimplemented => {
            (program::UNAVAILABLE, "daemon and mcpctl have different versions: restart the daemon")
        }
        Code::Unavailable | Code::Unknown | Code::Cancelled => {
            return connection_lost(action, socket, &status.message());
        }
        // A status with a source comes from the transport, not from the service.
        _ if std::error::Error::source(status).is_some() => {
            return connection_lost(action, socket, &status.message());
        }
        _ => (program::SOFTWARE, "see `mcpctl logs --daemon`, and report this as a bug"),
    };
    Failure::new(code, action, status.message(), next)
}

fn is_config(code: &MetadataValue<Ascii>) -> bool {
    code.to_str().is_ok_and(|code| code.parse() == Ok(program::CONFIG))
}

/// A reply that can't be decoded.
pub fn bad_reply(action: &str, error: mcpd_proto::ConvertError) -> Failure {
    let happened = format!("the daemon's reply can't be decoded: {error}");
    let next = "daemon and mcpctl have different versions: restart the daemon";
    Failure::new(program::SOFTWARE, action, happened, next)
}

fn timed_out(action: &str, socket: &Path, pid: Option<Pid>, awaited: &str, limit: Duration) -> Failure {
    let limit = limit.as_secs();
    let happened = format!("the daemon at {} did not send {awaited} within {limit} s", socket.display());
    Failure::new(program::TEMPFAIL, action, happened, next_step(pid))
}

/// What to do about a daemon that does not answer.
pub fn next_step(pid: Option<Pid>) -> String {
    let is_stopped = |pid: &Pid| {
        process::best_effort::read(*pid).is_some_and(|process| matches!(process.state, 'T' | 't'))
    };
    match pid.filter(is_stopped) {
        Some(pid) => {
            format!("its process is stopped by a signal or a debugger; to continue it: kill -CONT {pid}")
        }
        None => "try again, or see `mcpctl logs --daemon` for what the daemon is doing".to_owned(),
    }
}

/// The socket file is missing, or its daemon has exited without removing it.
fn has_no_listener(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, NotADirectory, NotFound};
    matches!(error.kind(), NotFound | ConnectionRefused | NotADirectory)
}

fn connect_failed(action: &str, socket: &Path, error: &io::Error) -> Failure {
    let happened = format!("can't connect to {}: {error}", socket.display());
    match error.kind() {
        io::ErrorKind::PermissionDenied => Failure::new(
            program::NOPERM,
            action,
            happened,
            "the socket is another user's: run mcpctl as that user or as root, or name your own with --socket",
        ),
        io::ErrorKind::WouldBlock => Failure::new(
            program::TEMPFAIL,
            action,
            format_args!("{happened}; its queue is full, because the daemon does not accept connections"),
            "try again, or see `mcpctl logs --daemon`",
        ),
        _ => Failure::new(program::UNAVAILABLE, action, happened, "name the daemon's socket with --socket"),
    }
}

fn connection_lost(action: &str, socket: &Path, error: &impl ToString) -> Failure {
    let happened = format!("the connection to {} was lost: {}", socket.display(), error.to_string());
    let next = "run `mcpctl status` to see whether the daemon is still running";
    Failure::new(program::UNAVAILABLE, action, happened, next)
}
