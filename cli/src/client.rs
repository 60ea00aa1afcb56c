//! The way to the daemon: its socket, its process, its answers.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use mcpd_common::exit_code::program;
use mcpd_common::ids::Pid;
use mcpd_common::os::child::Handle;
use mcpd_common::os::process;
use mcpd_common::status::StatusReport;
use mcpd_proto::v1;
use mcpd_proto::v1::control_client::ControlClient;
use tokio::net::UnixStream;
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Status};
use tower::service_fn;

use crate::exit::Failure;
use crate::wait::{now, pause};

/// An answer that is not a stream comes within this, or the daemon hangs.
pub const ANSWER: Duration = Duration::from_secs(5);

/// How long a socket with a full queue is tried again.
const CONNECT: Duration = Duration::from_secs(2);

/// How long to wait before it is tried again.
const RETRY: Duration = Duration::from_millis(10);

/// The report of a shutdown of many workers is larger than tonic's 4 MiB.
const LARGEST_MESSAGE: usize = 64 << 20;

/// A daemon that was reached.
#[derive(Debug)]
pub struct Daemon {
    /// The service.
    pub control: ControlClient<Channel>,
    /// Where it was reached.
    pub socket: PathBuf,
    /// Its process, as the kernel names the one that listens.
    pub pid: Option<Pid>,
    /// A hold on that process.
    pub handle: Option<Handle>,
}

/// The first daemon that answers at one of these sockets; `None` if nobody listens at any.
pub async fn reach(tried: &str, sockets: &[PathBuf]) -> Result<Option<Daemon>, Failure> {
    for socket in sockets {
        match knock(socket).await {
            Ok(stream) => return open(tried, socket, stream).await.map(Some),
            Err(error) if nobody_listens(&error) => {}
            Err(error) => return Err(refused(tried, socket, &error)),
        }
    }
    Ok(None)
}

async fn knock(socket: &Path) -> io::Result<UnixStream> {
    let limit = now() + CONNECT;
    loop {
        match UnixStream::connect(socket).await {
            // The queue of connections is full: somebody floods the socket.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && now() < limit => {
                pause(RETRY).await;
            }
            done => return done,
        }
    }
}

async fn open(tried: &str, socket: &Path, stream: UnixStream) -> Result<Daemon, Failure> {
    // Asked before anything is said: once the daemon is gone nobody can name it any more.
    let pid = stream.peer_cred().ok().and_then(|peer| peer.pid()).and_then(Pid::new);
    let handle =
        pid.and_then(process::best_effort::read).and_then(|process| Handle::open(&process).ok().flatten());
    let mut stream = Some(stream);
    // One connection and no other: a second one might reach another daemon.
    let connector = service_fn(move |_: Uri| {
        let stream = stream.take();
        async { stream.map(TokioIo::new).ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)) }
    });
    let endpoint = Endpoint::from_static("http://mcpd");
    let channel = match timeout(ANSWER, endpoint.connect_with_connector(connector)).await {
        Ok(Ok(channel)) => channel,
        Ok(Err(error)) => return Err(broken(tried, socket, &error)),
        Err(_) => return Err(silent(tried, socket)),
    };
    let control = ControlClient::new(channel).max_decoding_message_size(LARGEST_MESSAGE);
    Ok(Daemon { control, socket: socket.to_owned(), pid, handle })
}

impl Daemon {
    /// The status of all workers, or of one.
    pub async fn status(&mut self, tried: &str, worker: Option<String>) -> Result<StatusReport, Failure> {
        let request = v1::StatusRequest { worker: worker.unwrap_or_default() };
        let answer = timeout(ANSWER, self.control.status(request)).await;
        let answer = answer.map_err(|_| silent(tried, &self.socket))?;
        let message = answer.map_err(|status| self.answered(tried, &status))?.into_inner();
        message.try_into().map_err(|error| unreadable(tried, error))
    }

    /// What an error of the service means.
    pub fn answered(&self, tried: &str, status: &Status) -> Failure {
        let (code, next) = match status.code() {
            Code::NotFound => (program::USAGE, "`mcpctl status` lists the workers"),
            Code::InvalidArgument => (program::USAGE, "see `mcpctl help`"),
            Code::PermissionDenied | Code::Unauthenticated => {
                (program::NOPERM, "ask as the user who runs the daemon, or as root")
            }
            Code::FailedPrecondition => (program::TEMPFAIL, "`mcpctl status` shows what the daemon is doing"),
            Code::DeadlineExceeded => (program::TEMPFAIL, "try again, or see `mcpctl logs --daemon`"),
            Code::Unimplemented => {
                (program::UNAVAILABLE, "daemon and mcpctl differ in version: restart the daemon")
            }
            Code::Unavailable | Code::Unknown | Code::Cancelled => {
                return broken(tried, &self.socket, &status.message());
            }
            // What has a source was not said by the service, but by the transport about it.
            _ if std::error::Error::source(status).is_some() => {
                return broken(tried, &self.socket, &status.message());
            }
            _ => (program::SOFTWARE, "see `mcpctl logs --daemon`, and report it"),
        };
        Failure::new(code, tried, status.message(), next)
    }
}

/// A message that could not be understood.
pub fn unreadable(tried: &str, error: mcpd_proto::ConvertError) -> Failure {
    let happened = format!("the daemon's answer can't be understood: {error}");
    Failure::new(
        program::SOFTWARE,
        tried,
        happened,
        "daemon and mcpctl differ in version: restart the daemon",
    )
}

/// The daemon does not answer.
pub fn silent(tried: &str, socket: &Path) -> Failure {
    let happened = format!("the daemon at {} did not answer within {} s", socket.display(), ANSWER.as_secs());
    Failure::new(program::TEMPFAIL, tried, happened, "try again, or see `mcpctl logs --daemon`")
}

/// No socket, or one that a daemon left behind.
fn nobody_listens(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, NotADirectory, NotFound};
    matches!(error.kind(), NotFound | ConnectionRefused | NotADirectory)
}

fn refused(tried: &str, socket: &Path, error: &io::Error) -> Failure {
    let happened = format!("connecting to {}: {error}", socket.display());
    match error.kind() {
        io::ErrorKind::PermissionDenied => Failure::new(
            program::NOPERM,
            tried,
            happened,
            "the socket is another user's: ask as that user or as root, or name yours with --socket",
        ),
        _ => Failure::new(program::UNAVAILABLE, tried, happened, "name the daemon's socket with --socket"),
    }
}

fn broken(tried: &str, socket: &Path, error: &impl ToString) -> Failure {
    let happened = format!("the connection to {} broke: {}", socket.display(), error.to_string());
    let next = "see whether the daemon still runs: `mcpctl status`";
    Failure::new(program::UNAVAILABLE, tried, happened, next)
}
