//! `mcpctl` where things are not as they should be: other environments, late answers, other users, no records.

use std::fs;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::Command;
use std::thread;
use std::time::Duration;

use mcpd_common::event::{EventKind, ShutdownEvent};
use mcpd_common::ids::Pid;
use mcpd_common::os::process;
use mcpd_proto::v1;
use mcpd_proto::v1::control_server::{Control, ControlServer};
use mcpd_tests::daemon::{LONGEST_SHUTDOWN, mcpctl};
use mcpd_tests::{
    BOUND, ConfigBuilder, Daemon, Output, Signal, WorkerSpec, binaries, command, repo, skip, until,
};
use nix::sys::signal::kill;
use tokio::net::UnixListener;
use tokio_stream::Stream;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status};

/// How `XDG_RUNTIME_DIR` is set: cron and ssh often have none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RuntimeDir {
    Set,
    Unset,
}

impl RuntimeDir {
    fn apply(self, command: &mut Command) {
        if self == Self::Unset {
            command.env_remove("XDG_RUNTIME_DIR");
        }
    }
}

/// `mcpctl` with the default socket.
fn run_mcpctl(home: &Path, runtime_dir: RuntimeDir, args: &[&str]) -> Output {
    let mut command = mcpctl(home);
    command.env_remove("MCPD_SOCKET").env_remove("MCPD_CONFIG").args(args);
    runtime_dir.apply(&mut command);
    command::start(&mut command).finish(LONGEST_SHUTDOWN)
}

/// A configuration that names the state directory, but no socket.
fn configuration_without_socket(home: &Path) -> PathBuf {
    let repository = home.join("repository");
    repo::init(&repository);
    let file = home.join("mcpd.toml");
    let text = format!(
        "[daemon]\nstate_dir = \"{}\"\n\n[workers.alpha]\nrepo = \"{}\"\n",
        home.join("state").display(),
        repository.display()
    );
    fs::write(&file, text).expect("written");
    file
}

/// R-CLI-1: `mcpctl` finds a daemon that was started in another environment, by the socket in its run file.
#[test]
fn a_daemon_is_found_whether_or_not_both_have_a_runtime_directory() {
    for (daemon_has, client_has) in
        [(RuntimeDir::Unset, RuntimeDir::Set), (RuntimeDir::Set, RuntimeDir::Unset)]
    {
        for with_config in [false, true] {
            let home = tempfile::tempdir().expect("a temporary directory");
            fs::create_dir(home.path().join("run")).expect("made");
            let file = configuration_without_socket(home.path());
            let option = ["--config", file.to_str().expect("plain text")];
            let mut mcpd = Daemon::command(home.path(), &ConfigBuilder::new());
            daemon_has.apply(&mut mcpd);
            if with_config {
                mcpd.args(option);
            } else {
                mcpd.arg("--repo").arg(home.path().join("repository"));
            }
            let daemon = command::start(&mut mcpd);
            let options = if with_config { &option[..] } else { &[] };
            let ask = |args: &[&str]| run_mcpctl(home.path(), client_has, &[args, options].concat());
            let case = format!("daemon {daemon_has:?}, client {client_has:?}, --config: {with_config}");
            until(&format!("an answer: {case}"), BOUND, || (ask(&["status"]).code == Some(0)).then_some(()));
            let output = ask(&["shutdown", "--wait"]).expect_code(0);
            assert!(output.stdout.contains("Exit code 0"), "{case}: {output:?}");
            daemon.finish(LONGEST_SHUTDOWN).expect_code(0);
        }
    }
}

/// A daemon that listens elsewhere is no reason to advise kill(1): its socket is named.
#[test]
fn the_socket_of_the_run_file_is_named_if_another_one_was_asked_for() {
    let mut daemon = Daemon::start(ConfigBuilder::new().fixture("alpha", ""));
    let other = daemon.home().join("run/other.sock").display().to_string();
    let output = daemon.mcpctl(&["shutdown", "--socket", &other]).expect_code(69);
    let own = daemon.places().socket.display().to_string();
    for named in [&other, &own] {
        assert!(output.stderr.contains(named.as_str()), "{output:?}");
    }
    assert!(!output.stderr.contains("kill"), "{output:?}");
    daemon.assert_shuts_down(0);
}

/// A wrong socket says nothing about other daemons: the message names the socket that would be used without it.
#[test]
fn a_wrong_socket_is_not_called_a_daemon_that_does_not_run() {
    let home = tempfile::tempdir().expect("a temporary directory");
    fs::create_dir(home.path().join("run")).expect("made");
    let repository = home.path().join("repository");
    repo::init(&repository);
    let mut mcpd = Daemon::command(home.path(), &ConfigBuilder::new());
    let daemon = command::start(mcpd.arg("--repo").arg(&repository));
    let ask = |args: &[&str]| run_mcpctl(home.path(), RuntimeDir::Set, args);
    ask(&["health", "--wait"]).expect_code(0);
    let usual = home.path().join("run/mcpd/control.sock").display().to_string();
    let wrong = ["--socket", "/nowhere.sock"];
    for (command, code) in [("status", 3), ("health", 3), ("clients", 69)] {
        let output = ask(&[&[command], &wrong[..]].concat()).expect_code(code);
        let text = format!("{}{}", output.stdout, output.stderr);
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains("nothing listens on /nowhere.sock"), "{command}: {text}");
        assert!(words.contains(&format!("a daemon listens on {usual}")), "{command}: {text}");
        assert!(!words.contains("mcpd is not running"), "{command}: {text}");
    }
    ask(&["shutdown", "--wait"]).expect_code(0);
    daemon.finish(LONGEST_SHUTDOWN).expect_code(0);
    let output = ask(&["clients", "--socket", "/nowhere.sock"]).expect_code(69);
    assert!(output.stderr.contains(&format!("nothing listens on the default socket, {usual}, either")));
}

/// R-CLI-1: a program that asked for JSON gets it, whatever is wrong with its arguments.
#[test]
fn usage_errors_are_json_if_json_was_asked_for() {
    let home = tempfile::tempdir().expect("a temporary directory");
    for args in [&["restart", "--json"][..], &["--output", "json", "bogus"], &["status", "--json", "--bogus"]]
    {
        let output = run_mcpctl(home.path(), RuntimeDir::Unset, args).expect_code(64);
        let error: serde_json::Value = serde_json::from_str(&output.stderr).expect("one object");
        assert_eq!((&error["schema"], &error["code"]), (&"mcpd.error.v1".into(), &64.into()), "{output:?}");
        assert!(output.stdout.is_empty() && !error["happened"].to_string().contains('\x1b'), "{output:?}");
    }
}

/// A stopped daemon accepts connections and answers nothing: every command gives up, says what it waited for, and
/// what to do.
#[test]
fn no_command_waits_for_a_frozen_daemon_without_a_limit() {
    let mut daemon = Daemon::start(ConfigBuilder::new().fixture("alpha", ""));
    let pid = daemon.pid();
    daemon.signal_daemon(Signal::SIGSTOP);
    let lines = [
        "status",
        "health",
        "clients",
        "verify-ports",
        "list-zombies",
        "start alpha",
        "stop --all",
        "restart alpha",
        "restart --daemon",
        "shutdown",
        "shutdown --wait",
    ];
    let commands = lines.map(|line| (line, daemon.mcpctl_start(&line.split(' ').collect::<Vec<_>>())));
    for (line, command) in commands {
        let output = command.finish(LONGEST_SHUTDOWN).expect_code(75);
        assert!(output.stderr.contains("did not send"), "{line}: {output:?}");
        assert!(output.stderr.contains(&format!("kill -CONT {pid}")), "{line}: {output:?}");
    }
    let output = daemon.mcpctl(&["health", "--wait", "--timeout", "100ms"]).expect_code(75);
    assert!(output.stderr.contains("mcpd did not reply within 100ms"), "{output:?}");
}

/// A daemon on a busy machine: late, but not too late.
#[test]
fn a_daemon_that_answers_after_twelve_seconds_is_waited_for() {
    let mut daemon = Daemon::start(ConfigBuilder::new().fixture("alpha", ""));
    daemon.remember();
    daemon.signal_daemon(Signal::SIGSTOP);
    let status = daemon.mcpctl_start(&["status"]);
    let shutdown = daemon.mcpctl_start(&["shutdown", "--wait"]);
    thread::sleep(Duration::from_secs(12));
    daemon.signal_daemon(Signal::SIGCONT);
    status.finish(LONGEST_SHUTDOWN).expect_code(0);
    shutdown.finish(LONGEST_SHUTDOWN).expect_code(0);
    daemon.assert_no_trace(0);
}

/// A daemon that replies to a shutdown request and sends the first event after this time; no other call works.
struct LateFirstEvent(Duration);

type Results<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Control for LateFirstEvent {
    type ShutdownStream = Results<v1::ShutdownEvent>;
    type RestartDaemonStream = Results<v1::ShutdownEvent>;
    type VerifyPortsStream = Results<v1::PortReport>;
    type StartWorkersStream = Results<v1::WorkerResult>;
    type StopWorkersStream = Results<v1::WorkerResult>;
    type RestartWorkersStream = Results<v1::WorkerResult>;

    async fn shutdown(
        &self,
        _: Request<v1::ShutdownRequest>,
    ) -> Result<Response<Self::ShutdownStream>, Status> {
        let (sender, events) = tokio::sync::mpsc::channel(1);
        let delay = self.0;
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            let run = "20261122T130501Z-3f9a2c77".parse().expect("a run");
            let reason = "manual".to_owned();
            let kind = EventKind::Started { run, reason, workers: vec![], limit_ms: 81_000 };
            let at = jiff::Timestamp::now();
            let _ = sender.send(Ok(ShutdownEvent { seq: 0, at, elapsed_ms: 0, kind }.into())).await;
            // The stream stays open.
            sender.closed().await;
        });
        Ok(Response::new(Box::pin(tokio_stream::wrappers::ReceiverStream::new(events))))
    }

    async fn restart_daemon(
        &self,
        _: Request<v1::RestartDaemonRequest>,
    ) -> Result<Response<Self::RestartDaemonStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn status(&self, _: Request<v1::StatusRequest>) -> Result<Response<v1::StatusResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn verify_ports(
        &self,
        _: Request<v1::VerifyPortsRequest>,
    ) -> Result<Response<Self::VerifyPortsStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn list_zombies(
        &self,
        _: Request<v1::ListZombiesRequest>,
    ) -> Result<Response<v1::ListZombiesResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn list_clients(
        &self,
        _: Request<v1::ListClientsRequest>,
    ) -> Result<Response<v1::ListClientsResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn start_workers(
        &self,
        _: Request<v1::WorkersRequest>,
    ) -> Result<Response<Self::StartWorkersStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn stop_workers(
        &self,
        _: Request<v1::WorkersRequest>,
    ) -> Result<Response<Self::StopWorkersStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn restart_workers(
        &self,
        _: Request<v1::WorkersRequest>,
    ) -> Result<Response<Self::RestartWorkersStream>, Status> {
        Err(Status::unimplemented(""))
    }
}

/// Serves it on a socket in this directory.
fn serve(control: LateFirstEvent, directory: &Path) -> PathBuf {
    let socket = directory.join("control.sock");
    let listener = UnixListener::bind(&socket).expect("bound");
    let server = tonic::transport::Server::builder().add_service(ControlServer::new(control));
    tokio::spawn(server.serve_with_incoming(UnixListenerStream::new(listener)));
    socket
}

async fn ask_for_shutdown(home: &Path, socket: &Path, args: &[&str]) -> Output {
    let mut command = mcpctl(home);
    command.arg("shutdown").args(args).arg("--socket").arg(socket);
    let running = command::start(&mut command);
    tokio::task::spawn_blocking(move || running.finish(LONGEST_SHUTDOWN)).await.expect("no panic")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_first_event_is_waited_for() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let socket = serve(LateFirstEvent(Duration::from_secs(7)), home.path());
    let output = ask_for_shutdown(home.path(), &socket, &[]).await.expect_code(0);
    assert!(output.stdout.contains("is shutting down"), "{output:?}");
}

/// The failure names what is late. No time limit of a shutdown was exceeded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_event_that_never_comes_is_named() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let socket = serve(LateFirstEvent(LONGEST_SHUTDOWN), home.path());
    let output = ask_for_shutdown(home.path(), &socket, &["--wait"]).await.expect_code(75);
    let expected = "did not send the first event of the shutdown within 15 s";
    assert!(output.stderr.contains(expected), "{output:?}");
    assert!(!output.stderr.contains("exceeded"), "{output:?}");
}

/// The user whose socket `mcpctl` must not use.
const NOBODY: u32 = 65534;

/// R-CLI-5: a process of another user gets no request, whatever the command is.
#[test]
fn a_socket_of_another_user_gets_no_request() {
    if skip::unless_root() {
        return;
    }
    let home = tempfile::tempdir().expect("a temporary directory");
    rustix::fs::chmod(home.path(), 0o777.into()).expect("set");
    let socket = home.path().join("control.sock");
    let listener = listen_as_nobody(&socket);
    let lines = [
        "status",
        "health",
        "clients",
        "verify-ports",
        "list-zombies",
        "stop --all",
        "restart --daemon",
        "shutdown --wait",
    ];
    for line in lines {
        let mut command = mcpctl(home.path());
        command.args(line.split(' ')).arg("--socket").arg(&socket);
        let output = command::start(&mut command).finish(BOUND).expect_code(77);
        let expected = format!("the process that serves {} belongs to user {NOBODY}", socket.display());
        assert!(output.stderr.contains(&expected), "{line}: {output:?}");
        let (mut connection, _) = listener.accept().expect("mcpctl has connected");
        let mut received = Vec::new();
        std::io::Read::read_to_end(&mut connection, &mut received).expect("mcpctl has exited");
        assert!(received.is_empty(), "{line}: {received:?}");
    }
}

/// The kernel reports the user who called listen(2). Only the one thread changes its identity.
fn listen_as_nobody(socket: &Path) -> StdUnixListener {
    let socket = socket.to_owned();
    let listening = thread::spawn(move || {
        let nobody = rustix::process::Uid::from_raw(NOBODY);
        rustix::thread::set_thread_res_uid(nobody, nobody, nobody).expect("root may");
        StdUnixListener::bind(socket).expect("bound")
    });
    listening.join().expect("no panic")
}

/// What `mcpctl` writes to a terminal; `None` without script(1). The last line is its exit code.
fn on_a_terminal(daemon: &Daemon, args: &str) -> Option<String> {
    let mcpctl_path = binaries::mcpctl();
    let inner =
        format!("stty cols 80 rows 24; '{}' {args}; code=$?; echo; echo $code", mcpctl_path.display());
    let mut script = Command::new("script");
    script.env_clear().args(["--quiet", "--return", "--command", &inner, "/dev/null"]);
    for (name, value) in mcpctl(daemon.home()).get_envs() {
        script.envs(value.map(|value| (name, value)));
    }
    script.env("TERM", "xterm-256color").env("SHELL", "/bin/sh");
    let is_there = Command::new("script").arg("--version").output().is_ok_and(|it| it.status.success());
    if !is_there {
        skip::test("there is no script(1)");
    }
    is_there.then(|| command::start(&mut script).finish(BOUND).stdout)
}

/// On a terminal, a worker that never answers is not waited for in silence; the exit code says that it is the worker.
#[test]
fn a_worker_that_is_not_ready_yet_is_shown_with_its_reason() {
    let spec = WorkerSpec::fixture("--never-ready").with("ready_within = \"8s\"").with("restart = \"never\"");
    let daemon = Daemon::launch(ConfigBuilder::new().worker("alpha", spec));
    until("mcpd to run", BOUND, || (daemon.mcpctl(&["status"]).code == Some(0)).then_some(()));
    let Some(screen) = on_a_terminal(&daemon, "restart alpha") else { return };
    assert!(screen.contains("waiting for alpha: starting, nothing listens on"), "{screen}");
    assert_eq!(screen.trim_end().lines().last(), Some("65"), "R-CLI-2: {screen}");
    let output = daemon.mcpctl(&["restart", "alpha"]).expect_code(65);
    assert!(!output.stdout.contains("waiting for"), "a pipe gets the result only: {output:?}");
}

/// R-CLI-4: a terminal gets no escape sequence of a worker, a pipe gets every byte.
#[test]
fn worker_output_can_not_control_the_terminal() {
    const SCRIPT: &str = r"printf '\033[2J\033]0;title\007red \033[31mtext\033[0m\ta\rb\n'; exec sleep 600";
    let worker =
        WorkerSpec::command(["sh", "-c", SCRIPT]).with("ready = \"none\"").with("shutdown_path = \"\"");
    let mut daemon = Daemon::start(ConfigBuilder::new().worker("alpha", worker));
    let piped = until("output", BOUND, || {
        Some(daemon.mcpctl(&["logs", "alpha"]).stdout).filter(|output| output.contains("red"))
    });
    assert_eq!(piped, "\x1b[2J\x1b]0;title\x07red \x1b[31mtext\x1b[0m\ta\rb\n");
    if let Some(screen) = on_a_terminal(&daemon, "logs alpha") {
        assert!(screen.starts_with("red text\ta b\r\n"), "{screen:?}");
    }
    daemon.assert_shuts_down(0);
}

/// A missing log is no empty log.
#[test]
fn a_deleted_log_is_named() {
    let plain = |text: &str| {
        let script = format!("echo {text}; exec sleep 600");
        WorkerSpec::command(["sh".to_owned(), "-c".to_owned(), script])
            .with("ready = \"none\"")
            .with("shutdown_path = \"\"")
    };
    let mut daemon =
        Daemon::start(ConfigBuilder::new().worker("alpha", plain("one")).worker("beta", plain("two")));
    let log = |name: &str| daemon.places().log_dir.join("workers").join(format!("{name}.log"));
    let (alpha, beta) = (log("alpha"), log("beta"));
    until("both logs", BOUND, || (alpha.exists() && beta.exists()).then_some(()));
    fs::remove_file(&alpha).expect("removed");
    let named = |output: &Output, path: &Path| output.stderr.contains(&path.display().to_string());
    let output = daemon.mcpctl(&["logs"]).expect_code(0);
    assert!(output.stdout.contains("two") && named(&output, &alpha), "{output:?}");
    let output = daemon.mcpctl(&["logs", "alpha"]).expect_code(69);
    assert!(named(&output, &alpha), "{output:?}");
    fs::remove_file(&beta).expect("removed");
    let output = daemon.mcpctl(&["logs"]).expect_code(69);
    assert!(named(&output, &alpha) && named(&output, &beta), "{output:?}");
    daemon.assert_shuts_down(0);
}

/// R-CLI-3: without a run file, too, nothing is called clean while a process with mcpd's mark is left. `shutdown`
/// and the log of the next start name it, and no program touches it.
#[test]
fn what_is_left_without_any_record_is_named() {
    if skip::unless_linux_backend("an emptied environment leaves no mark to be named by") {
        return;
    }
    let mut daemon = Daemon::start(ConfigBuilder::new().fixture("alpha", "--escape 1"));
    let run = daemon.try_status().and_then(|status| status.daemon).expect("it runs").run.tag();
    daemon.kill_both();
    let marked = || {
        let is_marked = |pid| process::best_effort::mark(pid).is_some_and(|mark| mark.run == run);
        let all = process::best_effort::all().into_iter();
        all.filter(|found| found.state != 'Z' && is_marked(found.pid))
            .map(|found| found.pid)
            .collect::<Vec<_>>()
    };
    let left = until("only what escaped to be left", BOUND, || <[Pid; 1]>::try_from(marked()).ok())[0];
    fs::remove_file(daemon.state().run_file()).expect("removed");

    let result = daemon.mcpctl(&["shutdown", "--wait", "--json"]).expect_code(5).json();
    assert_eq!(result["state"], "leftovers", "{result}");
    let findings = result["findings"].as_array().expect("findings");
    let names_it = |text: &str| text.contains(&format!("(pid {left}, "));
    assert!(findings.iter().any(|it| it["detail"].as_str().is_some_and(names_it)), "{result}");
    let output = daemon.mcpctl(&["shutdown"]).expect_code(5);
    let state = daemon.places().state_dir.display().to_string();
    let place = format!("no run is recorded in {state}");
    let words: Vec<_> = output.stdout.split_whitespace().collect();
    assert!(words.join(" ").contains(&place), "{output:?}");

    let mut next = daemon.launch_again();
    next.wait_ready();
    let warning = next.wait_log_line("a warning", |line| line.contains("WARN") && names_it(line));
    assert!(warning.contains("no run is recorded"), "{warning}");
    assert_eq!(marked(), [left], "it was left alone");
    kill(nix::unistd::Pid::from_raw(left.get()), Signal::SIGKILL).expect("it runs");
    // The worker of the next run has a child of the same kind.
    next.assert_shuts_down(3);
}

/// A run that lives is not left, wherever its processes are and whichever state directory it has.
#[test]
fn the_processes_of_another_daemon_are_not_called_left() {
    let mut other = Daemon::start(ConfigBuilder::new().fixture("alpha", "--escape 1 --tree 1 1"));
    let processes = other.processes();
    assert!(processes.len() >= 3, "{processes:?}");
    let home = tempfile::tempdir().expect("a temporary directory");
    let result = run_mcpctl(home.path(), RuntimeDir::Unset, &["shutdown", "--json"]).json();
    for process in processes {
        let pid = format!("(pid {}, ", process.pid);
        assert!(!result.to_string().contains(&pid), "{pid}: {result}");
    }
    other.assert_shuts_down(3);
}

/// mcpd holds the port of a worker behind its proxy from the start; that alone serves nobody.
#[test]
fn a_port_whose_worker_is_not_ready_is_not_shown_as_serving() {
    let spec = WorkerSpec::fixture("--never-ready").with("transport = \"http\"");
    let daemon = Daemon::launch(ConfigBuilder::new().worker("alpha", spec));
    until("mcpd to run", BOUND, || (daemon.mcpctl(&["status"]).code == Some(0)).then_some(()));
    let port = daemon.port("alpha").to_string();
    // With and without the option.
    for args in
        [&["verify-ports", "--json"][..], &["ports", &port, "--json"], &["ports", "--port", &port, "--json"]]
    {
        let ports = daemon.mcpctl(args).expect_code(0).json_lines();
        let [report] = ports.as_slice() else { panic!("{ports:?}") };
        assert_eq!((report["port"].to_string(), &report["state"]), (port.clone(), &"not_ready".into()));
    }
}

/// R-SHUT-7: what a shutdown waits for is named, and clients only if there are any.
#[test]
fn a_status_during_the_shutdown_names_what_is_awaited() {
    let mut daemon = Daemon::start(ConfigBuilder::new().fixture("alpha", "--slow-exit 4000"));
    daemon.remember();
    daemon.mcpctl(&["shutdown"]).expect_code(0);
    // The connection of the stop request is gone in a moment.
    until("the shutdown to wait for the worker alone", BOUND, || {
        let said = daemon.mcpctl(&["status"]).expect_code(0).stdout;
        let words = said.split_whitespace().collect::<Vec<_>>().join(" ");
        words.contains("workers still there, clients gone; waiting for alpha (pid ").then_some(())
    });
    daemon.wait_status("the daemon's own list", |status| {
        let shutdown = status.daemon.as_ref().and_then(|daemon| daemon.shutdown.as_ref());
        shutdown.is_some_and(|shutdown| shutdown.waiting.iter().any(|it| it.starts_with("alpha (pid ")))
    });
    daemon.assert_no_trace(0);
}

/// Where nothing was found, the user can see whether it was looked for in the right place.
#[test]
fn a_history_without_runs_names_the_journal() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let output = run_mcpctl(home.path(), RuntimeDir::Unset, &["history"]).expect_code(0);
    assert!(output.stdout.contains("/journal.sqlite3"), "{output:?}");
}
