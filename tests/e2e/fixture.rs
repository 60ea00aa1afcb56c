//! The fixture worker does what its flags say. Without this the other tests prove nothing.

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
        http::ask(self.port(), request).expect("an answer").status
    }

    fn signal(&self, signal: Signal) {
        kill(nix::unistd::Pid::from_raw(self.child.id().cast_signed()), signal).expect("it runs");
    }

    fn state(&self) -> char {
        let pid = Pid::new(self.child.id().cast_signed()).expect("positive");
        process::best_effort::read(pid).expect("not reaped").state
    }

    fn wait(&mut self) -> Option<i32> {
        until("the worker to end", BOUND, || self.child.try_wait().expect("waited")).code()
    }

    /// Processes besides the worker itself that run.
    fn others(&self) -> Vec<process::Process> {
        let me = self.child.id().cast_signed();
        let all = self.trace.remaining();
        all.into_iter().filter(|found| found.pid.get() != me && found.state != 'Z').collect()
    }

    fn wait_others(&self, count: usize) {
        until("its other processes", BOUND, || (self.others().len() == count).then_some(()));
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
fn it_exits_when_asked() {
    let mut worker = Worker::start("");
    assert_eq!(worker.status("GET /health"), 200);
    assert_eq!(worker.status("GET /anything"), 200);
    assert_eq!(worker.status("POST /shutdown"), 202);
    assert_eq!(worker.wait(), Some(0));
    assert!(ports::is_free(worker.port()));
}

#[test]
fn it_dies_of_sigterm() {
    let mut worker = Worker::start("");
    worker.signal(Signal::SIGTERM);
    assert_eq!(worker.wait(), None);
    let mut worker = Worker::start("--term-exit 143");
    worker.signal(Signal::SIGTERM);
    assert_eq!(worker.wait(), Some(143));
}

#[test]
fn it_answers_a_request_to_exit_with_the_given_status() {
    for (flags, status) in
        [("--no-shutdown-route", 404), ("--shutdown-status 500", 500), ("--ignore-shutdown", 202)]
    {
        let mut worker = Worker::start(flags);
        assert_eq!(worker.status("POST /shutdown"), status, "{flags}");
        assert_eq!(worker.status("GET /health"), 200, "{flags}: it stays");
        worker.signal(Signal::SIGTERM);
        worker.wait();
    }
}

#[test]
fn it_need_not_answer_at_all() {
    let worker = Worker::start("--shutdown-never-answers");
    let mut stream = http::connect(worker.port()).expect("connected");
    stream.set_read_timeout(Some(Duration::from_millis(100))).expect("set");
    http::send(&mut stream, "POST /shutdown", &[]).expect("sent");
    assert!(http::receive(&mut BufReader::new(&stream)).is_err());
    assert_eq!(worker.status("GET /health"), 200);
}

#[test]
fn it_ignores_sigterm() {
    let worker = Worker::start("--ignore-term");
    worker.signal(Signal::SIGTERM);
    assert_eq!(worker.status("GET /health"), 200);
}

#[test]
fn it_takes_its_time() {
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
fn it_stops_itself_after_the_first_connection() {
    let worker = Worker::start("--stop-self");
    until("it to stop", BOUND, || (worker.state() == 'T').then_some(()));
    worker.signal(Signal::SIGCONT);
    assert_eq!(worker.status("GET /health"), 200);
}

#[test]
fn it_exits_or_crashes_on_its_own() {
    assert_eq!(Worker::launch("--exit-at-once 7").wait(), Some(7));
    assert_eq!(Worker::launch("--crash-after 20").wait(), Some(1));
    assert_eq!(Worker::launch("--nonsense").wait(), Some(64));
}

#[test]
fn it_waits_for_its_clients() {
    let mut worker = Worker::start("--wait-for-clients");
    let client = http::open_stream(worker.port());
    assert_eq!(worker.status("POST /shutdown"), 202);
    assert_eq!(worker.status("GET /health"), 200);
    drop(client);
    assert_eq!(worker.wait(), Some(0));
}

#[test]
fn it_leaves_bytes_unread() {
    let worker = Worker::start("--big-answer");
    let stuck = http::hang(worker.port());
    assert_eq!(worker.status("GET /health"), 200);
    drop(stuck);
}

#[test]
fn it_listens_elsewhere_late_or_never() {
    let other = ports::claim();
    let elsewhere = Worker::launch(&format!("--bind-other {}", other.port()));
    until("it to listen there", BOUND, || http::connect(other.port()).ok());
    assert!(http::connect(elsewhere.port()).is_err());

    let (late, took) = timed(|| Worker::start("--start-delay 200"));
    assert!(took >= Duration::from_millis(200));
    assert_eq!(late.status("GET /health"), 200);

    let mut never = Worker::launch("--never-ready");
    never.signal(Signal::SIGTERM);
    assert_eq!(never.wait(), None);
}

#[test]
fn it_gets_unhealthy() {
    let worker = Worker::start("--unhealthy-after 50");
    until("503", BOUND, || (worker.status("GET /health") == 503).then_some(()));
}

#[test]
fn it_leaves_zombies() {
    let worker = Worker::start("--zombies 3");
    let zombies = || worker.trace.remaining().iter().filter(|found| found.state == 'Z').count();
    // A zombie has no command line; it is found by its parent.
    let pid = Pid::new(worker.child.id().cast_signed()).expect("positive");
    let children = || process::best_effort::children(pid).into_iter().filter_map(process::best_effort::read);
    until("zombies", BOUND, || (children().filter(process::is_zombie).count() == 3).then_some(()));
    assert_eq!(zombies(), 0, "they can't be found by their tag");
}

#[test]
fn it_grows_a_tree() {
    let worker = Worker::start("--tree 2 3");
    worker.wait_others(3 + 9);
}

#[test]
fn its_children_escape() {
    let mut worker = Worker::start("--escape 2 --escape-polite 1");
    worker.wait_others(3);
    let me = worker.child.id().cast_signed();
    for found in worker.others() {
        assert_ne!(found.session, process::best_effort::read(Pid::current()).expect("me").session);
        assert_ne!(found.ppid, me);
        let env = std::fs::read(format!("/proc/{}/environ", found.pid)).unwrap_or_default();
        assert!(env.is_empty(), "nothing in its environment");
        kill(nix::unistd::Pid::from_raw(found.pid.get()), Signal::SIGTERM).expect("it runs");
    }
    worker.wait_others(2);
    assert_eq!(worker.status("POST /shutdown"), 202);
    assert_eq!(worker.wait(), Some(0));
    assert_eq!(worker.others().len(), 2, "the stubborn ones stay");
}

#[test]
fn its_socket_is_handed_over() {
    let mut worker = Worker::start("--hand-over-socket");
    worker.wait_others(1);
    assert_eq!(worker.status("POST /shutdown"), 202);
    assert_eq!(worker.wait(), Some(0));
    let heir = worker.others()[0].pid.get();
    let answer = http::ask(worker.port(), "GET /health").expect("a child serves");
    assert_eq!(answer.json()["pid"], heir);
    assert!(!ports::is_free(worker.port()));
}

#[test]
fn it_forks_on_and_on() {
    let worker = Worker::start("--fork-bomb 20");
    let all = || worker.others().iter().map(|found| found.pid).collect::<Vec<_>>();
    // Many are gone between being found and being looked at.
    let first = until("the bomb", BOUND, || Some(all()).filter(|all| all.len() >= 3));
    until("others in their place", BOUND, || all().iter().all(|pid| !first.contains(pid)).then_some(()));
    assert!(all().len() <= 200, "each is replaced, none is added; a slow look sees some twice");
}

#[test]
fn its_leader_leaves_it_behind() {
    let mut worker = Worker::start("--leader-exits");
    assert_eq!(worker.status("POST /shutdown"), 202);
    assert_eq!(worker.wait(), Some(0));
    assert_eq!(worker.status("GET /health"), 200, "the worker itself stays");
    assert_eq!(worker.others().len(), 1);
}

#[test]
fn it_reports_what_it_was_given() {
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
fn it_pours_out_text() {
    let claim = ports::claim();
    let mut child = Command::new(binaries::fixture_worker())
        .args(["--flood", "--port", &claim.port().to_string()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("started");
    let mut pipe = child.stdout.take().expect("piped");
    let mut megabyte = vec![0; 1 << 20];
    std::io::Read::read_exact(&mut pipe, &mut megabyte).expect("as much as anybody wants");
    child.kill().expect("killed");
    child.wait().expect("waited");
}
