//! The control socket: bad clients do not disturb the daemon, and the socket is removed at the end
//! (R-RPC-1 to 3, R-LOG-6).

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use mcpd_common::exit_code::program;
use mcpd_common::os::process::describe;
use mcpd_proto::v1::ShutdownRequest;
use mcpd_proto::v1::control_client::ControlClient;
use mcpd_tests::{BOUND, ConfigBuilder, Daemon, Signal, command, control, skip, timed, until};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

/// The start of every HTTP/2 connection.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// An empty SETTINGS frame.
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
/// A uid that the daemon does not have.
const NOBODY: u32 = 65534;

fn one_worker() -> ConfigBuilder {
    ConfigBuilder::new().fixture("alpha", "")
}

fn connect(daemon: &Daemon) -> UnixStream {
    let stream = UnixStream::connect(&daemon.places().socket).expect("the daemon listens");
    stream.set_read_timeout(Some(BOUND)).expect("set");
    stream.set_write_timeout(Some(BOUND)).expect("set");
    stream
}

fn descriptors(daemon: &Daemon) -> usize {
    fs::read_dir(format!("/proc/{}/fd", daemon.pid())).map_or(0, Iterator::count)
}

/// Waits until the connections of the test and of `mcpctl` are closed.
fn wait_descriptors(daemon: &Daemon, baseline: usize) {
    until("the connections to be closed", BOUND, || (descriptors(daemon) <= baseline).then_some(()));
}

/// R-RPC-3.
#[test]
fn garbage_on_the_socket_does_no_harm() {
    let mut daemon = Daemon::start(one_worker());
    let baseline = descriptors(&daemon);
    let frame = |head: &[u8], body: &[u8]| [PREFACE, SETTINGS, head, body].concat();
    let noise: Vec<u8> = (0..100_000u32).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
    let garbage: [Vec<u8>; 8] = [
        noise.clone(),
        vec![0; 70_000],
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        // The header of a frame of 16 MiB, without its data.
        frame(&[255, 255, 255, 0, 0, 0, 0, 0, 1], b"x"),
        // Headers that can't be decoded.
        frame(&[0, 0, 4, 1, 4, 0, 0, 0, 1], &[255; 4]),
        // A stream that was never opened.
        frame(&[0, 0, 4, 0, 0, 0, 0, 0, 99], b"data"),
        frame(&[], &noise),
    ];
    for bytes in garbage.iter().cycle().take(80) {
        let mut stream = connect(&daemon);
        // The daemon may close the connection before all of it is written.
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut response = Vec::new();
        let _ = stream.read_to_end(&mut response);
    }
    daemon.mcpctl(&["status"]).expect_code(0);
    wait_descriptors(&daemon, baseline);
    daemon.assert_shuts_down(0);
}

/// R-RPC-3.
#[test]
fn a_client_that_sends_nothing_is_disconnected_after_a_timeout() {
    let mut daemon = Daemon::start(one_worker());
    let baseline = descriptors(&daemon);
    let mut silent = [connect(&daemon), connect(&daemon)];
    daemon.mcpctl(&["status"]).expect_code(0);
    for stream in &mut silent {
        // It may receive the SETTINGS frame of the server first.
        stream.read_to_end(&mut Vec::new()).expect("the end comes within the bound");
    }
    wait_descriptors(&daemon, baseline);
    daemon.assert_shuts_down(0);
}

/// R-RPC-1, R-RPC-3.
#[test]
fn incomplete_requests_do_not_delay_the_shutdown() {
    let mut daemon = Daemon::start(one_worker());
    let mut incomplete: Vec<_> = (0..60).map(|_| connect(&daemon)).collect();
    for (number, stream) in incomplete.iter_mut().enumerate() {
        let sent: &[u8] = match number % 3 {
            0 => &[],
            1 => PREFACE,
            _ => &[PREFACE, SETTINGS, &[0, 0, 50, 1, 4, 0, 0, 0, 1, 0x83]].concat(),
        };
        stream.write_all(sent).expect("written");
    }
    daemon.mcpctl(&["status"]).expect_code(0);
    daemon.signal(Signal::SIGTERM);
    let (_, took) = timed(|| daemon.assert_no_trace(0));
    assert!(took < Duration::from_secs(15), "{took:?}");
    drop(incomplete);
}

/// R-RPC-3: the daemon keeps free descriptors, and closes all connections at the end.
#[test]
fn a_thousand_connections_do_no_harm() {
    raise_open_files();
    let mut daemon = Daemon::start(one_worker());
    let baseline = descriptors(&daemon);
    let held: Vec<_> = (0..1000).map(|_| connect(&daemon)).collect();
    daemon.wait_log("closed to make room");
    assert!(descriptors(&daemon) < baseline + 300);
    assert_eq!(
        mcpd_tests::http::request(daemon.port("alpha"), "GET /health").expect("the worker responds").status,
        200
    );
    drop(held);
    wait_descriptors(&daemon, baseline);
    daemon.mcpctl(&["status"]).expect_code(0);
    daemon.assert_shuts_down(0);
}

pub fn raise_open_files() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("known");
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(8192), hard).expect("raised");
}

/// R-RPC.
#[test]
fn only_the_user_can_reach_directory_and_socket() {
    let mut daemon = Daemon::start(one_worker());
    let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o7777;
    assert_eq!(mode(&daemon.places().socket), 0o600);
    assert_eq!(mode(daemon.state().path()), 0o700);
    daemon.assert_shuts_down(0);
}

/// R-RPC: by the file's mode, and by the daemon if the mode permits the connection.
#[test]
fn another_user_is_refused() {
    if skip::unless_root() {
        return;
    }
    let mut daemon = Daemon::start(one_worker());
    let socket = daemon.places().socket.clone();
    for directory in [daemon.home(), socket.parent().expect("a directory")] {
        fs::set_permissions(directory, Permissions::from_mode(0o755)).expect("set");
    }
    assert_eq!(as_nobody(&socket).expect_err("not permitted").kind(), std::io::ErrorKind::PermissionDenied);
    fs::set_permissions(&socket, Permissions::from_mode(0o777)).expect("set");
    let mut refused = as_nobody(&socket).expect("permitted by the mode");
    let _ = refused.write_all(&[PREFACE, SETTINGS].concat());
    let mut response = Vec::new();
    let _ = refused.read_to_end(&mut response);
    assert!(response.is_empty(), "{response:?}");
    daemon.wait_log(&format!("refused a control connection of another user uid={NOBODY}"));
    daemon.mcpctl(&["status"]).expect_code(0);
    daemon.assert_shuts_down(0);
}

/// Connects as another user, from a thread that changes its own uid only.
fn as_nobody(socket: &Path) -> std::io::Result<UnixStream> {
    let socket = socket.to_owned();
    let connecting = thread::spawn(move || {
        let nobody = rustix::process::Uid::from_raw(NOBODY);
        rustix::thread::set_thread_res_uid(nobody, nobody, nobody)?;
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(BOUND))?;
        Ok(stream)
    });
    connecting.join().expect("no panic")
}

/// R-CLI-2: the daemon belongs to another user.
#[test]
fn mcpctl_of_another_user_names_the_reason() {
    if skip::unless_root() {
        return;
    }
    let mut daemon = Daemon::start(one_worker());
    fs::set_permissions(daemon.home(), Permissions::from_mode(0o755)).expect("set");
    fs::set_permissions(daemon.home().join("run"), Permissions::from_mode(0o755)).expect("set");
    // Another user may have no access to the directory in which it was built.
    let program = daemon.home().join("mcpctl");
    fs::copy(mcpd_tests::binaries::mcpctl(), &program).expect("copied");
    let nobody = NOBODY.to_string();
    let mut setpriv = std::process::Command::new("setpriv");
    setpriv.args(["--reuid", &nobody, "--regid", &nobody, "--clear-groups"]).arg(program);
    setpriv.args(["shutdown", "--wait", "--socket"]).arg(&daemon.places().socket);
    let output = command::start(&mut setpriv).finish(BOUND).expect_code(program::NOPERM);
    assert!(output.stderr.contains("another user's"), "{output:?}");
    daemon.mcpctl(&["health"]).expect_code(0);
    daemon.assert_shuts_down(0);
}

/// R-LOG-6: a socket file without a listener is replaced.
#[test]
fn a_stale_socket_is_replaced() {
    let home = tempfile::tempdir().expect("a temporary directory");
    fs::create_dir(home.path().join("run")).expect("made");
    drop(UnixListener::bind(home.path().join("run/control.sock")).expect("bound"));
    let mut daemon = Daemon::launch_in(home, one_worker());
    daemon.wait_ready();
    daemon.assert_shuts_down(0);
}

/// R-LOG-6.
#[test]
fn a_live_socket_or_another_file_is_not_replaced() {
    let mut daemon = Daemon::start(one_worker());
    let refused = |socket: &str, code: u8, words: &str| {
        let home = tempfile::tempdir().expect("a temporary directory");
        let config = one_worker();
        let own = home.path().join("run/control.sock").display().to_string();
        let file = config.write(home.path());
        let text = config.to_toml(home.path());
        assert!(text.contains(&own), "{text}");
        fs::write(&file, text.replace(&own, socket)).expect("written");
        let mut mcpd = Daemon::command(home.path(), &config);
        let output = command::start(mcpd.arg("--config").arg(file)).finish(BOUND).expect_code(code);
        assert!(output.stderr.contains(words) && output.stderr.contains(socket), "{output:?}");
        let written = fs::read_dir(home.path().join("logs")).map_or(0, Iterator::count);
        assert_eq!(written, 0, "nothing was started");
    };
    let live = daemon.places().socket.display().to_string();
    refused(&live, program::TEMPFAIL, "already serves");
    daemon.mcpctl(&["health"]).expect_code(0);

    let other = daemon.home().join("notes.txt");
    fs::write(&other, "mine").expect("written");
    refused(&other.display().to_string(), program::CONFIG, "not a socket; it was left alone");
    assert_eq!(fs::read_to_string(&other).expect("there"), "mine");

    // Paths at which not even root can create a file or a directory.
    refused("/proc/mcpd-control.sock", program::CONFIG, "can't listen on the control socket");
    refused("/proc/mcpd/control.sock", program::CONFIG, "can't use the directory of the control socket");
    refused(&other.join("s").display().to_string(), program::CONFIG, "can't use the directory");
    daemon.assert_shuts_down(0);
}

/// R-RPC-1: its receive window is one byte; the others receive all events.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_that_never_reads_does_not_delay_the_shutdown() {
    let config = (0..5).fold(ConfigBuilder::new(), |config, n| config.fixture(&format!("w{n}"), ""));
    let mut daemon = Daemon::start(config);
    daemon.remember();
    let channel = control::connect(&daemon.places().socket, Some(1)).await;
    let request = ShutdownRequest { reason: "never read".to_owned(), now: false };
    let unread =
        ControlClient::new(channel).shutdown(request).await.expect("the shutdown starts").into_inner();
    let (output, took) = timed(|| daemon.mcpctl(&["shutdown", "--wait", "--json"]));
    let output = output.expect_code(0);
    assert!(took < Duration::from_secs(20), "{took:?}");
    let report = daemon.assert_no_trace(0);
    assert_eq!(report.reason, "never read");
    let first = &output.json_lines()[0];
    assert_eq!((&first["seq"], &first["event"]), (&0.into(), &"started".into()));
    drop(unread);
}

/// The names of the services, by the version of reflection that most tools use.
async fn old_reflection(socket: PathBuf) -> Vec<String> {
    use tonic_reflection::pb::v1alpha;
    let request = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(
            v1alpha::server_reflection_request::MessageRequest::ListServices(String::new()),
        ),
    };
    let channel = control::connect(&socket, None).await;
    let mut reflection = v1alpha::server_reflection_client::ServerReflectionClient::new(channel);
    let responses = reflection.server_reflection_info(tokio_stream::once(request)).await;
    let response = responses.expect("a response").into_inner().message().await.expect("one").expect("one");
    match response.message_response {
        Some(v1alpha::server_reflection_response::MessageResponse::ListServicesResponse(list)) => {
            list.service.into_iter().map(|service| service.name).collect()
        }
        other => panic!("{other:?}"),
    }
}

/// Section 10: reflection names all services, in both versions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_standard_health_and_reflection_services_respond() {
    let mut daemon = Daemon::start(ConfigBuilder::new().fixture("alpha", "--slow-exit 1500"));
    let channel = control::connect(&daemon.places().socket, None).await;
    let mut health = HealthClient::new(channel.clone());
    for service in ["mcpd.v1.Control", ""] {
        let request = HealthCheckRequest { service: service.to_owned() };
        let response = health.check(request).await.expect("a response").into_inner();
        assert_eq!(response.status(), ServingStatus::Serving, "{service}");
    }
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut reflection = ServerReflectionClient::new(channel);
    let responses = reflection.server_reflection_info(tokio_stream::once(request)).await;
    let response = responses.expect("a response").into_inner().message().await.expect("one").expect("one");
    let Some(MessageResponse::ListServicesResponse(list)) = response.message_response else {
        panic!("{response:?}")
    };
    let names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
    for name in ["mcpd.v1.Control", "grpc.health.v1.Health"] {
        assert!(names.contains(&name), "{names:?}");
    }
    let by_old_version = old_reflection(daemon.places().socket.clone()).await;
    assert_eq!(by_old_version[..2], names[..2]);

    // R-SHUT-7: not serving while the worker exits slowly.
    daemon.mcpctl(&["shutdown"]).expect_code(0);
    let request = HealthCheckRequest { service: "mcpd.v1.Control".to_owned() };
    let response = health.check(request).await.expect("it responds until the end").into_inner();
    assert_eq!(response.status(), ServingStatus::NotServing);
    let text = daemon.mcpctl(&["health"]).expect_code(1).stdout;
    assert!(text.starts_with("shutting down: "), "{text}");
    daemon.assert_no_trace(0);
}

/// `SO_PEERCRED` has the daemon's pid, not the guardian's.
#[test]
fn the_peer_credentials_of_the_socket_name_the_daemon() {
    let mut daemon = Daemon::start(one_worker());
    let peer = nix::sys::socket::getsockopt(&connect(&daemon), nix::sys::socket::sockopt::PeerCredentials);
    assert_eq!(peer.expect("known").pid(), daemon.pid().get());
    assert!(describe(daemon.pid()).is_some_and(|info| info.command.contains("mcpd")));
    daemon.assert_shuts_down(0);
}
