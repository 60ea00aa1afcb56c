//! A test acts as systemd: it receives what guardian and daemon send to `NOTIFY_SOCKET` (R-SVC-2, R-SHUT-6).

use std::os::unix::net::UnixDatagram;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use mcpd_common::os::Backend;
use mcpd_common::outcome::FindingKind;
use mcpd_tests::daemon::LONGEST_SHUTDOWN;
use mcpd_tests::{BOUND, ConfigBuilder, Daemon, Signal, until};
use tempfile::TempDir;

const SHORT: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_secs(20);

/// The receiving side; messages that feed the watchdog are counted, not kept.
struct Manager {
    home: Option<TempDir>,
    path: String,
    received: Arc<Mutex<Vec<String>>>,
    fed: Arc<Mutex<u32>>,
}

impl Manager {
    /// Reads all messages from the start.
    fn listen() -> Self {
        let (manager, socket) = Self::bind();
        manager.read(socket);
        manager
    }

    /// Does not read yet.
    fn bind() -> (Self, UnixDatagram) {
        let home = tempfile::tempdir().expect("a temporary directory");
        let path = home.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("bound");
        let path = path.display().to_string();
        (Self { home: Some(home), path, received: Arc::default(), fed: Arc::default() }, socket)
    }

    fn read(&self, socket: UnixDatagram) {
        let (received, fed) = (self.received.clone(), self.fed.clone());
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length) = socket.recv(&mut buffer) {
                let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
                if message == "WATCHDOG=1\n" {
                    *fed.lock().expect("no panic") += 1;
                } else {
                    received.lock().expect("no panic").push(message.trim_end().replace('\n', " | "));
                }
            }
        });
    }

    fn config(&self) -> ConfigBuilder {
        ConfigBuilder::new().env("NOTIFY_SOCKET", &self.path)
    }

    fn launch(&mut self, config: ConfigBuilder) -> Daemon {
        Daemon::launch_in(self.home.take().expect("launched once"), config)
    }

    /// The messages so far.
    fn messages(&self) -> Vec<String> {
        self.received.lock().expect("no panic").clone()
    }

    /// Waits for a message that begins like this, and returns all messages until then, which are forgotten.
    #[track_caller]
    fn until(&self, begin: &str) -> Vec<String> {
        until(begin, BOUND, || {
            let mut received = self.received.lock().expect("no panic");
            let at = received.iter().position(|message| message.starts_with(begin))?;
            Some(received.drain(..=at).collect())
        })
    }

    fn fed(&self) -> u32 {
        *self.fed.lock().expect("no panic")
    }
}

/// A message with fixed numbers instead of pids.
fn without_pids(messages: Vec<String>) -> Vec<String> {
    let pid = |message: String| match message.split_once("(pid ") {
        Some((before, rest)) => {
            let rest = rest.trim_start_matches(|c: char| c.is_ascii_digit());
            format!("{before}(pid N{rest}")
        }
        None => message,
    };
    messages.into_iter().map(pid).collect()
}

#[test]
fn a_start_and_a_shutdown_are_reported_step_by_step() {
    let mut manager = Manager::listen();
    let config = manager.config().fixture("alpha", "").fixture("beta", "--start-delay 1000");
    let mut daemon = manager.launch(config);
    let started = manager.until("READY=1");
    assert_eq!(
        started,
        [
            "STATUS=0 of 2 workers ready, still waiting for alpha, beta | EXTEND_TIMEOUT_USEC=40000000",
            "STATUS=1 of 2 workers ready, still waiting for beta | EXTEND_TIMEOUT_USEC=40000000",
            "READY=1 | STATUS=2 of 2 workers ready",
        ]
    );
    daemon.wait_ready();
    daemon.mcpctl(&["shutdown", "--wait", "--reason", "an upgrade"]).expect_code(0);
    assert_eq!(
        manager.until("STATUS=exit code"),
        [
            "STOPPING=1 | STATUS=shutting down: an upgrade | EXTEND_TIMEOUT_USEC=10000000",
            "STATUS=shutting down: initiated | EXTEND_TIMEOUT_USEC=10000000",
            "STATUS=shutting down: workers-graceful | EXTEND_TIMEOUT_USEC=20000000",
            "STATUS=shutting down: clients | EXTEND_TIMEOUT_USEC=40000000",
            "STATUS=shutting down: workers-terminate | EXTEND_TIMEOUT_USEC=35000000",
            "STATUS=shutting down: verification | EXTEND_TIMEOUT_USEC=25000000",
            "STATUS=shutting down: exit | EXTEND_TIMEOUT_USEC=11000000",
            "STATUS=exit code 0: clean: nothing is left and nothing had to be forced",
        ]
    );
    daemon.assert_no_trace(0);
    assert!(manager.messages().is_empty(), "{:?}", manager.messages());
    assert_eq!(manager.fed(), 0, "no watchdog was asked for");
}

#[test]
fn a_worker_that_fails_does_not_delay_readiness() {
    let mut manager = Manager::listen();
    let config = manager.config().fixture("alpha", "").fixture("broken", "--exit-at-once 1");
    let mut daemon = manager.launch(config);
    let started = manager.until("READY=1");
    let last = started.last().expect("it is there");
    assert!(last.contains("not ready: broken"), "{started:?}");
    daemon.wait_status("both workers", |status| status.workers.len() == 2);
    daemon.mcpctl(&["shutdown", "--wait"]).expect_code(0);
    daemon.assert_no_trace(0);
}

#[test]
fn a_shutdown_says_what_it_waits_for() {
    let mut manager = Manager::listen();
    let config = manager.config().times(Duration::from_secs(3), SHORT);
    let mut daemon = manager.launch(config.fixture("docs", "--ignore-shutdown"));
    daemon.wait_ready();
    manager.until("READY=1");
    daemon.signal(Signal::SIGTERM);
    let messages = without_pids(manager.until("STATUS=exit code"));
    assert!(messages[0].starts_with("STOPPING=1 | STATUS=shutting down: signal_SIGTERM"), "{messages:?}");
    let waiting = "STATUS=shutting down: workers-graceful, still waiting for docs (pid N)";
    assert!(messages.iter().any(|message| message == waiting), "{messages:?}");
    daemon.assert_no_trace(2);
}

#[test]
fn a_crash_is_reported_by_the_guardian() {
    let mut manager = Manager::listen();
    let config = manager.config().fixture("alpha", "--tree 2 2");
    let mut daemon = manager.launch(config);
    daemon.wait_ready();
    manager.until("READY=1");
    daemon.signal_daemon(Signal::SIGKILL);
    let messages = without_pids(manager.until("STATUS=exit code"));
    assert_eq!(
        messages[0],
        "STATUS=the daemon has died; its guardian cleans up | EXTEND_TIMEOUT_USEC=20000000"
    );
    assert!(
        messages[1].starts_with("STATUS=exit code 101: the daemon (pid N) died (SIGKILL)"),
        "{messages:?}"
    );
    assert_eq!(messages.len(), 2, "{messages:?}");
    daemon.assert_cleaned_up(101);
}

#[test]
fn a_restart_of_the_daemon_is_a_reload_of_the_unit() {
    let mut manager = Manager::listen();
    let config = manager.config().fixture("alpha", "").env("WATCHDOG_USEC", "1000000");
    let mut daemon = manager.launch(config);
    daemon.wait_ready();
    manager.until("READY=1");
    daemon.mcpctl(&["restart", "--daemon", "--reason", "an upgrade"]).expect_code(0);
    let messages = manager.until("READY=1");
    assert_eq!(messages[0], "RELOADING=1 | STATUS=restarting: an upgrade | EXTEND_TIMEOUT_USEC=10000000");
    assert!(messages.contains(&"STATUS=restarting: executing the new program".to_owned()), "{messages:?}");
    assert_eq!(messages.last().expect("one"), "READY=1 | STATUS=1 of 1 worker ready");
    assert!(messages.iter().all(|message| !message.contains("STOPPING") && !message.contains("MAINPID")));
    let fed = manager.fed();
    until("the new program to feed the watchdog", BOUND, || (manager.fed() > fed + 2).then_some(()));
    daemon.mcpctl(&["shutdown", "--wait"]).expect_code(0);
    daemon.assert_no_trace(0);
}

/// The watchdog is fed by the loop of the supervisor alone. When it hangs, systemd sends `SIGABRT` to the main process.
#[test]
fn a_supervisor_that_hangs_does_not_feed_the_watchdog() {
    let mut manager = Manager::listen();
    // WATCHDOG_PID names the guardian, or a wrapper; the daemon feeds all the same.
    let config = manager.config().env("WATCHDOG_USEC", "200000").env("WATCHDOG_PID", "1");
    let config = config.env("MCPD_FAULT", "hang:alpha").fixture("alpha", "--tree 2 2");
    let mut daemon = manager.launch(config);
    daemon.wait_ready();
    until("the watchdog to be fed", BOUND, || (manager.fed() > 3).then_some(()));
    let restart = daemon.mcpctl_start(&["restart", "alpha"]);
    let silence = Duration::from_secs(1);
    until("the watchdog to starve", BOUND, || {
        let fed = manager.fed();
        thread::sleep(silence);
        (manager.fed() == fed).then_some(())
    });
    daemon.signal(Signal::SIGABRT);
    let report = daemon.assert_cleaned_up(101);
    assert_eq!(report.findings[0].kind, FindingKind::DaemonDied);
    assert!(report.findings[0].detail.contains("the watchdog expired"), "{:?}", report.findings[0]);
    assert_eq!(report.proof.is_some(), report.backend == Backend::Linux);
    assert!(manager.until("STATUS=exit code 101").len() >= 2);
    drop(restart);
}

/// A service manager that hangs must not stop mcpd.
#[test]
fn a_manager_that_does_not_read_blocks_nothing() {
    let (mut manager, socket) = Manager::bind();
    let filler = UnixDatagram::unbound().expect("a socket");
    filler.set_nonblocking(true).expect("set");
    while filler.send_to(b"X=1", &manager.path).is_ok() {}
    let config = manager.config().fixture("alpha", "").env("WATCHDOG_USEC", "20000");
    let mut daemon = manager.launch(config);
    daemon.wait_ready();
    manager.read(socket);
    manager.until("READY=1");
    daemon.mcpctl(&["shutdown", "--wait"]).expect_code(0);
    daemon.assert_no_trace(0);
}

#[test]
fn a_shutdown_is_not_delayed_by_a_manager_that_does_not_read() {
    let (mut manager, _socket) = Manager::bind();
    let config = manager.config().fixture("alpha", "").env("WATCHDOG_USEC", "2000");
    let mut daemon = manager.launch(config);
    daemon.wait_ready();
    daemon.mcpctl(&["shutdown", "--wait"]).expect_code(0);
    daemon.assert_no_trace(0);
}

#[test]
fn a_failure_to_start_is_the_status_of_the_unit() {
    let manager = Manager::listen();
    let home = tempfile::tempdir().expect("a temporary directory");
    let config = manager.config().toml("nonsense = 1").fixture("alpha", "");
    let refused = Daemon::refused(home.path(), &config, &["--strict"]);
    assert_eq!(refused.code, Some(78), "{refused:?}");
    let messages = manager.until("STATUS=exit code 78");
    assert_eq!(messages.len(), 1, "{messages:?}");
    let first = manager.config().times(LONG, LONG).fixture("alpha", "");
    let mut daemon = Daemon::start(first);
    let second = ConfigBuilder::new().env("NOTIFY_SOCKET", &manager.path);
    manager.until("READY=1");
    let second = Daemon::refused(daemon.home(), &second, &[]);
    assert_eq!(second.code, Some(75), "{second:?}");
    manager.until("STATUS=exit code 75");
    daemon.signal(Signal::SIGTERM);
    daemon.wait_exit(LONGEST_SHUTDOWN);
}
