//! The fixture worker behaves as its flags say. The other tests depend on that.

use std::io::BufReader;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use mcpd_common::ids::{Pid, Port};
use mcpd_common::os::process;
use mcpd_tests::ports::Claim;
use mcpd_tests::trace::Trace;
use mcpd_tests::{BOUND, ConfigBuilder, Signal, binaries, http, ports, timed, until};
use nix::sys::signal::kill;

struct Worker {
    child: Child,
    claim: Claim,
    trace: Trace,
}

impl Worker {
    fn launch(flags: &str) -> Self {
        let claim = ports::claim();
        let config = ConfigBuilder::new();
        let child = Command::new(binaries::fixture_worker())
            .args(["--tag", config.tag()])
            .args(flags.split_whitespace())
            .env("PORT", claim.port().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("started");
        Self { child, claim, trace: Trace::new(config.tag()) }
    }

    fn start(flags: &str) -> Self {
        let worker = Self::launch(flags);
        until("the worker to listen", BOUND, || http::connect(worker.port()).ok());
        worker
    }

    fn port(&self) -> Port {
        self.claim.port()
    }

    fn status(&self, request: &str) -> u16 {
        http::request(self.port(), request).expect("a response").status
    }

    fn signal(&self, signal: Signal) {
        kill(nix::unistd::Pid::from_raw(self.child.id().cast_signed()), signal).expect("it runs");
    }

    fn state(&self) -> char {
        let pid = Pid::new(self.child.id().cast_signed()).expect("positive");
        process::best_effort::read(pid).expect("not reaped").state
    }

    fn wait(&mut self) -> Option<i32> {
        until("the worker to exit", BOUND, || self.child.try_wait().expect("waited")).code()
    }

    /// The running processes without the worker itself.
    fn others(&self) -> Vec<process::Process> {
        let me = self.child.id().cast_signed();
        let all = self.trace.remaining();
        all.into_iter().filter(|found| found.pid.get() != me && found.state != 'Z').collect()
    }

    fn wait_others(&self, count: usize) {
        until("the other processes", BOUND, || (self.others().len() == count).then_some(()));
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.trace.kill_remaining();
    }
}

#[test]
fn exits_on_request() {
    let mut worker = Worker::start("");
    assert_eq!(worker.status("GET /health"), 200);
    assert_eq!(worker.status("GET /anything"), 200);
    assert_eq!(worker.status("POST /shutdown"), 202);
    assert_eq!(worker.wait(), Some(0));
    assert!(ports::is_free(worker.port()));
}

#[test]
fn sigterm_ends_it() {
    let mut worker = Worker::start("");
    worker.signal(Signal::SIGTERM);
    assert_eq!(worker.wait(), None);
    let mut worker = Worker::start("--term-exit 143");
    worker.signal(Signal::SIGTERM);
    assert_eq!(worker.wait(), Some(143));
}

#[test]
fn responds_to_a_stop_request_with_the_given_status() {
    for (flags, status) in
        [("--no-shutdown-route", 404), ("--shutdown-status 500", 500), ("--ignore-shutdown", 202)]
    {
        let mut worker = Worker::start(flags);
        assert_eq!(worker.status("POST /shutdown"), status, "{flags}");
        assert_eq!(worker.status("GET /health"), 200, "{flags}: it keeps running");
        worker.signal(Signal::SIGTERM);
        worker.wait();
    }
}

#[test]
fn shutdown_never_answers_sends_no_response() {
    let worker = Worker::start("--shutdown-never-answers");
    let mut stream = http::connect(worker.port()).expect("connected");
    stream.set_read_timeout(Some(Duration::from_millis(100))).expect("set");
    http::send(&mut stream, "POST /shutdown", &[]).expect("sent");
    assert!(http::receive(&mut BufReader::new(&stream)).is_err());
    assert_eq!(worker.status("GET /health"), 200);
}

#[test]
fn ignore_term_ignores_sigterm() {
    let worker = Worker::start("--ignore-term");
    worker.signal(Signal::SIGTERM);
    assert_eq!(worker.status("GET /health"), 200);
}

#[test]
fn slow_exit_delays_the_exit() {
    for by_signal in [false, true] {
        let mut worker = Worker::start("--slow-exit 300");
        let (code, took) = timed(|| {
            if by_signal {
                worker.signal(Signal::SIGTERM);
            } else {
                assert_eq!(worker.status("POST /shutdown"), 202);
            }
            worker.wait()
        });
        assert_eq!(code, Some(0));
        assert!(took >= Duration::from_millis(300));
    }
}

#[test]
fn stop_self_stops_it_after_the_first_connection() {
    let worker = Worker::start("--stop-self");
    until("it to be stopped", BOUND, || (worker.state() == 'T').then_some(()));
    worker.signal(Signal::SIGCONT);
    assert_eq!(worker.status("GET /health"), 200);
}

#[test]
fn exits_or_crashes_without_a_request() {
    assert_eq!(Worker::launch("--exit-at-once 7").wait(), Some(7));
    assert_eq!(Worker::launch("--crash-after 20").wait(), Some(1));
    assert_eq!(Worker::launch("--nonsense").wait(), Some(64));
}

#[test]
fn wait_for_clients_delays_the_exit() {
    let mut worker = Worker::start("--wait-for-clients");
    let client = http::open_stream(worker.port());
    assert_eq!(worker.status("POST /shutdown"), 202);
    assert_eq!(worker.status("GET /health"), 200);
    drop(client);
    assert_eq!(worker.wait(), Some(0));
}

#[test]
fn big_answer_blocks_no_other_client() {
    let worker = Worker::start("--big-answer");
    let stuck = http::hang(worker.port());
    assert_eq!(worker.status("GET /health"), 200);
    drop(stuck);
}

#[test]
fn listens_on_another_port_late_or_never() {
    let other = ports::claim();
    let worker = Worker::launch(&format!("--bind-other {}", other.port()));
    until("it to listen on the other port", BOUND, || http::connect(other.port()).ok());
    assert!(http::connect(worker.port()).is_err());

    let (late, took) = timed(|| Worker::start("--start-delay 200"));
    assert!(took >= Duration::from_millis(200));
    assert_eq!(late.status("GET /health"), 200);

    let mut never = Worker::launch("--never-ready");
    never.signal(Signal::SIGTERM);
    assert_eq!(never.wait(), None);
}

#[test]
fn becomes_unhealthy() {
    let worker = Worker::start("--unhealthy-after 50");
    until("status 503", BOUND, || (worker.status("GET /health") == 503).then_some(()));
}

#[test]
fn has_zombies() {
    let worker = Worker::start("--zombies 3");
    let zombies = || worker.trace.remaining().iter().filter(|found| found.state == 'Z').count();
    // A zombie has no command line, so that it is found by its parent only.
    let pid = Pid::new(worker.child.id().cast_signed()).expect("positive");
    let children = || process::best_effort::children(pid).into_iter().filter_map(process::best_effort::read);
    until("zombies", BOUND, || (children().filter(process::is_zombie).count() == 3).then_some(()));
    assert_eq!(zombies(), 0, "zombies can't be found by their tag");
}

#[test]
fn starts_a_tree() {
    let worker = Worker::start("--tree 2 3");
    worker.wait_others(3 + 9);
}

#[test]
fn escaped_children_outlive_it() {
    let mut worker = Worker::start("--escape 2 --escape-polite 1");
    worker.wait_others(3);
    let me = worker.child.id().cast_signed();
    for found in worker.others() {
        assert_ne!(found.session, process::best_effort::read(Pid::current()).expect("this process").session);
        assert_ne!(found.ppid, me);
        let env = std::fs::read(format!("/proc/{}/environ", found.pid)).unwrap_or_default();
        assert!(env.is_empty(), "an empty environment");
        kill(nix::unistd::Pid::from_raw(found.pid.get()), Signal::SIGTERM).expect("it runs");
    }
    worker.wait_others(2);
    assert_eq!(worker.status("POST /shutdown"), 202);
    assert_eq!(worker.wait(), Some(0));
    assert_eq!(worker.others().len(), 2, "those that ignore SIGTERM keep running");
}

#[test]
fn hands_its_socket_over() {
    let mut worker = Worker::start("--hand-over-socket");
    worker.wait_others(1);
    assert_eq!(worker.status("POST /shutdown"), 202);
    assert_eq!(worker.wait(), Some(0));
    let heir = worker.others()[0].pid.get();
    let answer = http::request(worker.port(), "GET /health").expect("the heir responds");
    assert_eq!(answer.json()["pid"], heir);
    assert!(!ports::is_free(worker.port()));
}

#[test]
fn fork_bomb_keeps_forking() {
    let worker = Worker::start("--fork-bomb 20");
    let all = || worker.others().iter().map(|found| found.pid).collect::<Vec<_>>();
    // Many have exited before they are read.
    let first = until("three processes", BOUND, || Some(all()).filter(|all| all.len() >= 3));
    until("other processes in their place", BOUND, || {
        all().iter().all(|pid| !first.contains(pid)).then_some(())
    });
    assert!(all().len() <= 200, "each is replaced and none is added; a slow scan finds some twice");
}

#[test]
fn leader_exits_before_its_worker() {
    let mut worker = Worker::start("--leader-exits");
    assert_eq!(worker.status("POST /shutdown"), 202);
    assert_eq!(worker.wait(), Some(0));
    assert_eq!(worker.status("GET /health"), 200, "the worker keeps running");
    assert_eq!(worker.others().len(), 1);
}

#[test]
fn print_env_reports_what_it_inherited() {
    let directory = tempfile::tempdir().expect("made");
    let file = directory.path().join("report.json");
    let status = Command::new(binaries::fixture_worker())
        .args(["--print-env", "--crash-after", "0", "--never-ready"])
        .env_clear()
        .env("FIXTURE_REPORT", &file)
        .stdin(Stdio::null())
        .status()
        .expect("started");
    assert_eq!(status.code(), Some(1));
    let text = std::fs::read_to_string(&file).expect("written");
    let report: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(report["env"].as_object().expect("an object").len(), 1);
    assert_eq!(report["descriptors"]["0"], "/dev/null");
    assert!(report["limits"].as_array().is_some_and(|limits| limits.len() > 10));
    assert!(report["signals"]["SigBlk"].is_string());
}

#[test]
fn flood_writes_without_end() {
    let claim = ports::claim();
    let mut child = Command::new(binaries::fixture_worker())
        .args(["--flood", "--port", &claim.port().to_string()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("started");
    let mut pipe = child.stdout.take().expect("piped");
    let mut megabyte = vec![0; 1 << 20];
    std::io::Read::read_exact(&mut pipe, &mut megabyte).expect("a megabyte of output");
    child.kill().expect("killed");
    child.wait().expect("waited");
}
