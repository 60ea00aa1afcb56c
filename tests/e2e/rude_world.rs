//! A world that is rude rather than hostile: consoles that do not read, stopped workers, ports taken by others.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use mcpd_common::ids::Port;
use mcpd_common::outcome::{Departure, ShutdownReport};
use mcpd_common::status::WorkerState;
use mcpd_tests::config::Places;
use mcpd_tests::daemon::mcpctl;
use mcpd_tests::mcp::{Client, Events};
use mcpd_tests::wire::{self, Reply, compose};
use mcpd_tests::{BOUND, ConfigBuilder, Daemon, WorkerSpec, binaries, command, http, skip, until};
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::signal::{Signal, kill};

use crate::front_door::behind_front_door;

const NOBODY: u32 = 65534;

const SHORT: Duration = Duration::from_millis(500);
const LONG: Duration = Duration::from_secs(20);

/// A pipe that is full and never read, like a stopped terminal. The caller keeps the read end open.
fn full_pipe() -> (OwnedFd, File) {
    let (read, write) = nix::unistd::pipe().expect("a pipe");
    let mut write = File::from(write);
    fcntl(write.as_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).expect("non-blocking");
    while write.write(&[b'x'; 4096]).is_ok() {}
    while write.write(b"x").is_ok() {}
    // The flag belongs to the open file, which the daemon shares: it gets a blocking one.
    fcntl(write.as_fd(), FcntlArg::F_SETFL(OFlag::empty())).expect("blocking");
    (read, write)
}

/// The daemon with a standard output and error that are never read.
fn with_blocked_console(config: ConfigBuilder) -> (Daemon, OwnedFd) {
    let (read, write) = full_pipe();
    let home = tempfile::tempdir().expect("a temporary directory");
    let command = Daemon::command(home.path(), &config);
    let stdout = write.try_clone().expect("a descriptor");
    let mut daemon = Daemon::launch_writing_to(stdout.into(), write.into(), command, home, config);
    daemon.wait_ready();
    (daemon, read)
}

fn noisy() -> ConfigBuilder {
    (0..4).fold(ConfigBuilder::new(), |config, number| config.fixture(&format!("w{number}"), ""))
}

/// R-LOG-7, R-SHUT-8.
#[test]
fn a_console_that_does_not_read_delays_no_shutdown() {
    let (mut daemon, _read) = with_blocked_console(noisy());
    let report = daemon.assert_shuts_down(0);
    assert!(report.duration_ms < 10_000, "{} ms", report.duration_ms);
}

/// R-LOG-7: by signal, too.
#[test]
fn a_console_that_does_not_read_delays_no_sigterm() {
    let (mut daemon, _read) = with_blocked_console(noisy());
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.wait_exit(BOUND), 0);
    daemon.assert_no_trace(0);
}

fn row(report: &ShutdownReport) -> Departure {
    report.workers[0].departure
}

/// R-SHUT-9: its stop request wakes it.
#[test]
fn a_stopped_worker_answers_its_stop_request() {
    let mut daemon = Daemon::start(ConfigBuilder::new().times(LONG, SHORT).fixture("alpha", ""));
    let worker = daemon.processes()[0].pid;
    // The daemon has not reaped it, so the pid is still its own.
    kill(nix::unistd::Pid::from_raw(worker.get()), Signal::SIGSTOP).expect("stopped");
    let report = daemon.assert_shuts_down(0);
    assert_eq!(row(&report), Departure::Left);
    assert!(report.duration_ms < 10_000, "{} ms", report.duration_ms);
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).mode() & 0o777
}

/// R-LOG-8: whatever the user's umask is, and the workers keep that one.
#[test]
fn everything_that_mcpd_creates_is_for_its_user_only() {
    let worker = WorkerSpec::command(["sh", "-c", "umask; exec sleep 60"])
        .with("transport = \"direct\"")
        .with("ready = \"none\"")
        .with("shutdown_path = \"\"");
    let config = ConfigBuilder::new().worker("alpha", worker);
    let home = tempfile::tempdir().expect("a temporary directory");
    let command = Daemon::command_below(&["sh", "-c", "umask 022; exec \"$0\" \"$@\""], home.path(), &config);
    let mut daemon = Daemon::launch_by(command, home, config);
    let log = daemon.places().log_dir.join("workers/alpha.log");
    until("the worker to print its umask", BOUND, || {
        fs::read_to_string(&log).ok().filter(|text| !text.is_empty())
    });
    assert!(fs::read_to_string(&log).expect("readable").contains("0022"), "a worker gets the original umask");
    for root in [daemon.places().log_dir.clone(), daemon.state().path().to_owned()] {
        for path in below(&root) {
            assert_eq!(mode(&path) & 0o077, 0, "{} is private", path.display());
        }
    }
    daemon.assert_shuts_down(0);
}

fn below(root: &Path) -> Vec<PathBuf> {
    let mut all = vec![root.to_owned()];
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        let path = entry.path();
        all.extend(if path.is_dir() { below(&path) } else { vec![path] });
    }
    all
}

/// R-LOG-8.
#[test]
fn a_state_directory_that_others_may_write_is_refused_with_the_command() {
    let config = ConfigBuilder::new().fixture("alpha", "");
    let home = tempfile::tempdir().expect("a temporary directory");
    let state = Places::below(home.path()).state_dir;
    fs::create_dir_all(&state).expect("made");
    fs::set_permissions(&state, fs::Permissions::from_mode(0o777)).expect("changed");
    let output = Daemon::refused(home.path(), &config, &[]).expect_code(78);
    assert!(output.stderr.contains("chmod go-w"), "{output:?}");
}

/// R-RPC-3: connections that do not speak give way to the user's tools.
#[test]
fn idle_control_connections_do_not_lock_the_user_out() {
    let mut daemon = Daemon::start(ConfigBuilder::new().fixture("alpha", ""));
    let socket = daemon.places().socket.clone();
    let idle: Vec<_> = (0..500).map(|_| UnixStream::connect(&socket).expect("connected")).collect();
    for _ in 0..5 {
        daemon.mcpctl(&["status"]).expect_code(0);
    }
    daemon.assert_shuts_down(0);
    drop(idle);
}

/// R-CLIENT-12: programs of other users get a 403, unless the configuration lets them in.
#[test]
fn a_client_of_another_user_is_refused() {
    if skip::unless_root() {
        return;
    }
    let open = behind_front_door("").with("allow_other_users = true");
    let mut daemon =
        Daemon::start(ConfigBuilder::new().worker("own", behind_front_door("")).worker("open", open));
    let get = compose("GET /health", &["connection: close"], "");
    let refused = as_nobody(daemon.port("own"), &get);
    assert_eq!(refused.status, 403);
    assert!(refused.text().contains("allow_other_users = true"));
    assert_eq!(as_nobody(daemon.port("open"), &get).status, 200);
    assert_eq!(wire::request(daemon.port("own"), &get).status, 200, "root may do anything");
    daemon.assert_shuts_down(0);
}

/// The response to a request of another user; only the one thread changes its identity.
fn as_nobody(port: Port, request: &str) -> Reply {
    let request = request.to_owned();
    let requesting = thread::spawn(move || {
        let nobody = rustix::process::Uid::from_raw(NOBODY);
        rustix::thread::set_thread_res_uid(nobody, nobody, nobody).expect("root may");
        wire::request(port, &request)
    });
    requesting.join().expect("a response")
}

/// R-CLIENT-13: the worker's shutdown route is mcpd's own, however it is spelled.
#[test]
fn a_client_can_not_stop_a_worker() {
    let mut daemon = Daemon::start(ConfigBuilder::new().worker("alpha", behind_front_door("")));
    let worker = daemon.wait_state("alpha", WorkerState::Ready).pid;
    for path in ["/shutdown", "//shutdown/", "/%73hutdown"] {
        let post = compose(&format!("POST {path}"), &["connection: close"], "");
        let refused = wire::request(daemon.port("alpha"), &post);
        assert_eq!(refused.status, 403, "{path}");
        assert!(refused.text().contains("shutdown_path"));
    }
    assert_eq!(daemon.wait_state("alpha", WorkerState::Ready).pid, worker);
    daemon.assert_shuts_down(0);
}

/// With few descriptors, clients can't take those of the control socket and of the shutdown.
#[test]
fn streams_never_take_the_last_descriptors() {
    let config = ConfigBuilder::new().worker("alpha", behind_front_door(""));
    let home = tempfile::tempdir().expect("a temporary directory");
    let limit = "ulimit -n 64; exec \"$0\" \"$@\"";
    let command = Daemon::command_below(&["sh", "-c", limit], home.path(), &config);
    let mut daemon = Daemon::launch_by(command, home, config);
    daemon.wait_ready();
    let get = compose("GET /mcp", &["accept: text/event-stream"], "");
    let streams: Vec<_> = (0..40)
        .map(|_| {
            let mut stream = http::connect(daemon.port("alpha")).expect("in the queue at least");
            // A connection that is turned away may be closed already.
            let _ = stream.write_all(get.as_bytes());
            stream
        })
        .collect();
    for _ in 0..5 {
        let status = daemon.mcpctl(&["status"]).expect_code(0).stdout;
        assert!(status.contains("limit of open files is 64"), "{status}");
    }
    daemon.assert_shuts_down(0);
    drop(streams);
}

/// A closed terminal stops mcpd: when its signal arrives, the terminal is gone already.
#[test]
fn a_closed_terminal_stops_the_daemon() {
    let config = ConfigBuilder::new().fixture("alpha", "");
    let home = tempfile::tempdir().expect("a temporary directory");
    let terminal = nix::pty::openpty(None, None).expect("a terminal");
    let path = nix::unistd::ttyname(&terminal.slave).expect("a name");
    // The daemon must not hold the terminal open itself.
    for end in [&terminal.master, &terminal.slave] {
        fcntl(end.as_fd(), FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).expect("a flag");
    }
    // A session leader without a terminal gets the first one that it opens.
    let leader = format!("exec 3<>'{}'; exec \"$0\" \"$@\" <&3 3<&-", path.display());
    let command = Daemon::command_below(&["setsid", "sh", "-c", &leader], home.path(), &config);
    let mut daemon = Daemon::launch_by(command, home, config);
    daemon.wait_ready();
    drop(terminal);
    let report = daemon.assert_no_trace(0);
    assert_eq!(report.reason, "signal_SIGHUP");
}

/// A file that never responds, as on a dead network mount: a named pipe without a writer.
fn make_hanging_file(path: &Path) {
    fs::create_dir_all(path.parent().expect("a directory")).expect("made");
    nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).expect("made");
}

/// One worker whose file system hangs neither keeps the others from running nor the daemon from stopping.
#[test]
fn a_file_system_that_hangs_concerns_one_worker() {
    let home = tempfile::tempdir().expect("a temporary directory");
    make_hanging_file(&home.path().join("hanging.env"));
    let config = ConfigBuilder::new()
        .fixture("alpha", "")
        .worker("beta", WorkerSpec::fixture("").with("env_file = \"hanging.env\""));
    let mut daemon = Daemon::launch_in(home, config);
    daemon.wait_state("alpha", WorkerState::Ready);
    let beta = daemon.wait_state("beta", WorkerState::Failed);
    assert!(beta.reason.is_some_and(|reason| reason.contains("does not respond")));
    let start = daemon.mcpctl_start(&["start", "beta"]);
    daemon.wait_state("beta", WorkerState::Starting);
    daemon.mcpctl(&["restart", "alpha"]).expect_code(0);
    daemon.assert_shuts_down(0);
    start.finish(BOUND);
}

/// A program whose exec hangs, as on a network mount that died after the check before the start.
struct HangingProgram {
    path: PathBuf,
    /// Holds the lease that makes the program hang; ended when dropped.
    holder: command::Following,
}

impl HangingProgram {
    fn below(home: &Path) -> Self {
        let path = home.join("program");
        fs::copy(binaries::fixture_worker(), &path).expect("copied");
        let mut hold = std::process::Command::new(binaries::fixture_worker());
        let holder = command::follow(hold.arg("--lease").arg(&path));
        assert_eq!(holder.line(BOUND), "held");
        Self { path, holder }
    }

    fn worker(&self, tag: &str) -> WorkerSpec {
        let path = self.path.display().to_string();
        WorkerSpec::command([&path, "--port", "{port}", "--tag", tag]).with("ready = \"http:/health\"")
    }
}

/// One worker whose exec hangs neither keeps the others from running nor the daemon from stopping.
#[test]
fn an_exec_that_hangs_concerns_one_worker() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let program = HangingProgram::below(home.path());
    let config = ConfigBuilder::new().fixture("alpha", "");
    let beta = program.worker(config.tag());
    let mut daemon = Daemon::launch_in(home, config.worker("beta", beta));
    daemon.wait_state("alpha", WorkerState::Ready);
    daemon.wait_state("beta", WorkerState::Starting);
    let began = Instant::now();
    daemon.mcpctl(&["restart", "alpha"]).expect_code(0);
    assert!(began.elapsed() < Duration::from_secs(8), "alpha waited for beta: {:?}", began.elapsed());
    daemon.assert_shuts_down(0);
}

/// What hangs is named, killed, and started again.
#[test]
fn a_worker_whose_exec_hangs_is_started_again() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let program = HangingProgram::below(home.path());
    let config = ConfigBuilder::new();
    let beta = program.worker(config.tag());
    let mut daemon = Daemon::launch_in(home, config.worker("beta", beta));
    let failed = daemon.wait_status("beta to be given up", |status| {
        status.workers[0].reason.as_ref().is_some_and(|reason| reason.contains("does not respond"))
    });
    let reason = failed.workers[0].reason.clone().unwrap_or_default();
    assert!(reason.contains("can't start") && reason.contains("within 10 s"), "{reason}");
    drop(program.holder);
    daemon.wait_state("beta", WorkerState::Ready);
    daemon.assert_shuts_down(0);
}

/// The check before a start finds the program, and exec(3) fails all the same.
#[test]
fn a_program_without_its_interpreter_is_named() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let program = home.path().join("server");
    fs::write(&program, "#!/no/such/interpreter\n").expect("written");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).expect("changed");
    let program = program.display().to_string();
    let config = ConfigBuilder::new()
        .worker("alpha", WorkerSpec::command([&program, "{port}"]))
        .toml(&format!("[resources.lease]\nclose = [\"{program}\"]\n"));
    let mut daemon = Daemon::launch_in(home, config);
    let failed = daemon.wait_state("alpha", WorkerState::BackingOff);
    let reason = format!("can't start {program}: {program}: no such program (or no interpreter for it)");
    assert_eq!(failed.reason, Some(reason.clone()));
    // A command that is run at the end fails in the same way.
    let report = daemon.assert_shuts_down(6);
    let lease = report.findings.iter().find(|finding| finding.subject == "lease").expect("a finding");
    assert!(lease.detail.contains(&reason), "{}", lease.detail);
}

/// `hold` limits the whole wait of a request: for a worker that is not running, and then for one that does not listen.
#[test]
fn a_request_is_held_once() {
    let script = "[ -e started ] && exec sleep 600; touch started; exit 1";
    let worker = WorkerSpec::command(["sh", "-c", script])
        .with("transport = \"http\"")
        .with("ready = \"none\"")
        .with("hold = \"4s\"");
    let config = ConfigBuilder::new().env("MCPD_FAULT", "first-wait-ms:3000").worker("alpha", worker);
    let mut daemon = Daemon::launch(config);
    daemon.wait_state("alpha", WorkerState::BackingOff);
    let began = Instant::now();
    let get = compose("GET /health", &["connection: close"], "");
    let refused = wire::request(daemon.port("alpha"), &get);
    let held = began.elapsed();
    assert_eq!(refused.status, 503);
    assert!((Duration::from_secs(4)..Duration::from_secs(6)).contains(&held), "{held:?}");
    daemon.wait_state("alpha", WorkerState::Ready);
    // Nothing listened for the stop request.
    daemon.assert_shuts_down(2);
}

/// A worker that could not be started is checked again at each start, and gets its `env_file` as it is then.
#[test]
fn obstacles_and_variables_are_read_at_each_start() {
    let config = ConfigBuilder::new();
    let script = format!(
        "echo \"$GREETING\" >> greetings; exec '{}' --port \"$PORT\" --tag {}",
        binaries::fixture_worker().display(),
        config.tag()
    );
    let worker =
        WorkerSpec::command(["sh", "-c", &script]).with("env_file = \"env\"").with("transport = \"http\"");
    let mut daemon = Daemon::launch(config.worker("alpha", worker));
    daemon.wait_state("alpha", WorkerState::Failed);
    let get = compose("GET /health", &["connection: close"], "");
    let refused = wire::request(daemon.port("alpha"), &get);
    assert_eq!(refused.status, 503, "at once, not after 30 s");
    assert!(refused.text().contains("can't use env_file"));
    daemon.mcpctl(&["start", "alpha"]).expect_code(65);
    for greeting in ["one", "two"] {
        fs::write(daemon.home().join("env"), format!("GREETING={greeting}\n")).expect("written");
        daemon.mcpctl(&["restart", "alpha"]).expect_code(0);
    }
    let greetings = fs::read_to_string(daemon.home().join("repos/alpha/greetings")).expect("written");
    assert_eq!(greetings, "one\ntwo\n");
    daemon.assert_shuts_down(0);
}

/// An error after the socket is bound leaves no file behind.
#[test]
fn a_start_that_fails_late_leaves_no_socket() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let places = Places::below(home.path());
    // A directory in the place of the run file can't be replaced.
    fs::create_dir_all(places.state_dir.join("run.json/obstacle")).expect("made");
    for directory in [&places.state_dir, home.path()] {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o700)).expect("changed");
    }
    let config = ConfigBuilder::new().fixture("alpha", "");
    let output = Daemon::refused(home.path(), &config, &[]);
    assert_ne!(output.code, Some(0), "{output:?}");
    assert!(!places.socket.exists(), "{output:?}");
}

/// What the log of a worker hangs on stops no worker, and a deleted log is made again.
#[test]
fn worker_logs_hang_and_disappear() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let hanging = Places::below(home.path()).log_dir.join("workers/alpha.log");
    make_hanging_file(&hanging);
    let config = ConfigBuilder::new().fixture("alpha", "--flood").fixture("beta", "--flood");
    let mut daemon = Daemon::launch_in(home, config);
    daemon.wait_ready();
    daemon.mcpctl(&["restart", "--all"]).expect_code(0);
    let reader = thread::spawn(move || {
        File::open(hanging).and_then(|mut log| std::io::copy(&mut log, &mut std::io::sink()))
    });
    let log = daemon.places().log_dir.join("workers/beta.log");
    let size = || fs::metadata(&log).map_or(0, |file| file.len());
    until("output of beta", BOUND, || (size() > 0).then_some(()));
    fs::remove_file(&log).expect("removed");
    until("more output of beta", BOUND, || (size() > 0).then_some(()));
    daemon.assert_shuts_down(0);
    assert!(reader.join().expect("no panic").expect("readable") > 0);
}

/// A `GET` that names no media type is a stream if its response is one: a restart neither waits for it nor ends it.
#[test]
fn a_stream_of_a_client_that_accepts_anything_outlives_its_worker() {
    let mut daemon = Daemon::start(ConfigBuilder::new().worker("alpha", behind_front_door("")));
    let client = Client::initialize(daemon.port("alpha"));
    let session = format!("mcp-session-id: {}", client.session);
    let get = compose("GET /mcp", &["accept: */*", &session], "");
    let mut stream = Events::of(wire::request(daemon.port("alpha"), &get));
    assert!(stream.next().is_some_and(|event| event.retry.is_some()));
    let first = stream.message();
    let began = std::time::Instant::now();
    daemon.mcpctl(&["restart", "alpha"]).expect_code(0);
    assert!(began.elapsed() < Duration::from_secs(8), "the restart waited for the stream");
    let next =
        std::iter::repeat_with(|| stream.message()).find(|message| message["params"]["data"]["pid"].is_u64());
    let next = next.expect("an endless iterator");
    assert_ne!(next["params"]["data"]["pid"], first["params"]["data"]["pid"], "attached to the new worker");
    daemon.assert_shuts_down(0);
}

/// A worker can't stop another one: each process has a shutdown token of its own.
#[test]
fn every_built_in_worker_has_its_own_token() {
    let config =
        ConfigBuilder::new().worker("alpha", WorkerSpec::built_in()).worker("beta", WorkerSpec::built_in());
    let mut daemon = Daemon::start(config);
    let mut tokens: Vec<_> = ["alpha", "beta", "alpha"]
        .into_iter()
        .enumerate()
        .map(|(number, name)| {
            if number == 2 {
                daemon.mcpctl(&["restart", name]).expect_code(0);
            }
            let pid = daemon.wait_state(name, WorkerState::Ready).pid.expect("it runs");
            let environment = fs::read_to_string(format!("/proc/{pid}/environ")).expect("readable");
            let token = environment.split('\0').find_map(|entry| entry.strip_prefix("MCPD_SHUTDOWN_TOKEN="));
            token.expect("a token").to_owned()
        })
        .collect();
    tokens.sort();
    tokens.dedup();
    assert_eq!(tokens.len(), 3);
    daemon.assert_shuts_down(0);
}

/// The stop that a later start overtakes ends at once, and says so.
#[test]
fn a_stop_that_is_overtaken_by_a_start_ends_at_once() {
    let config = ConfigBuilder::new().times(LONG, LONG).fixture("alpha", "--slow-exit 1500");
    let mut daemon = Daemon::start(config);
    let stop = daemon.mcpctl_start(&["stop", "alpha"]);
    daemon.wait_state("alpha", WorkerState::Stopping);
    daemon.mcpctl(&["start", "alpha"]).expect_code(0);
    let stop = stop.finish(BOUND).expect_code(65);
    assert!(stop.stdout.contains("superseded by a later start"), "{stop:?}");
    daemon.assert_shuts_down(0);
}

/// A daemon that was frozen together with its guardian has not used its time (102).
#[test]
fn a_frozen_daemon_does_not_overrun() {
    let config = ConfigBuilder::new()
        .times(SHORT, SHORT)
        .shutdown("verification = \"1s\"")
        .fixture("alpha", "--slow-exit 300");
    let mut daemon = Daemon::start(config);
    daemon.mcpctl(&["shutdown"]).expect_code(0);
    let pids = [daemon.guardian(), daemon.pid()].map(|pid| nix::unistd::Pid::from_raw(pid.get()));
    pids.iter().for_each(|pid| kill(*pid, Signal::SIGSTOP).expect("ours"));
    // Longer than its total bound of 9 s and what the guardian adds.
    thread::sleep(Duration::from_secs(16));
    pids.iter().rev().for_each(|pid| kill(*pid, Signal::SIGCONT).expect("ours"));
    let code = daemon.wait_exit(BOUND);
    // The time of the graceful phase may be over by then; the total bound is not.
    assert!(code == 0 || code == 2, "{code}");
    daemon.assert_no_trace(code);
}

/// What was given on the command line is not optional.
#[test]
fn a_repository_that_does_not_exist_is_refused() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let mut mcpd = Daemon::command(home.path(), &ConfigBuilder::new());
    mcpd.args(["--repo", "nosuch"]).env_remove("MCPD_CONFIG").current_dir(home.path());
    let output = command::start(&mut mcpd).finish(BOUND).expect_code(78);
    assert!(output.stderr.contains("nosuch does not exist"), "{output:?}");
}

/// A person who starts mcpd in a repository is told that the configuration does not serve it.
#[test]
fn a_repository_that_is_not_configured_is_named() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let other = home.path().join("other");
    mcpd_tests::repo::init(&other);
    let config = ConfigBuilder::new().fixture("alpha", "");
    let file = config.write(home.path());
    let mut mcpd = Daemon::command(home.path(), &config);
    let running = command::start(mcpd.env("MCPD_CONFIG", file).current_dir(&other));
    let mcpctl = |args: &[&str]| {
        let mut command = mcpctl(home.path());
        command::start(command.env("MCPD_SOCKET", Places::below(home.path()).socket).args(args)).finish(BOUND)
    };
    let text = until("a status", BOUND, || {
        let status = mcpctl(&["status"]);
        let words: Vec<_> = status.stdout.split_whitespace().collect();
        (status.code == Some(0)).then(|| words.join(" "))
    });
    assert!(text.contains("is not among the workers of"), "{text}");
    mcpctl(&["shutdown", "--wait"]).expect_code(0);
    running.finish(BOUND).expect_code(0);
}
