//! The error that a client gets says what happened and what to do, to a model that knows nothing else (R-CLIENT-11). Each
//! test stages one failure.

use std::thread;
use std::time::Duration;

use mcpd_common::status::WorkerState;
use mcpd_tests::mcp::{Client, Events, JSON};
use mcpd_tests::wire::{self, compose};
use mcpd_tests::{BOUND, ConfigBuilder, Daemon, WorkerSpec, timed, until};
use serde_json::{Value, json};

use crate::front_door::behind_front_door;
use crate::front_door_restart::kill_worker;

const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":7,"method":"initialize","params":{}}"#;

fn launch(spec: WorkerSpec) -> Daemon {
    listening(Daemon::launch(ConfigBuilder::new().worker("alpha", spec.with("transport = \"http\""))))
}

/// Waits until mcpd listens, not until the worker is ready.
fn listening(mut daemon: Daemon) -> Daemon {
    daemon.wait_status("mcpd to run", |_| true);
    daemon
}

fn shell(script: &str) -> WorkerSpec {
    WorkerSpec::command(["sh", "-c", script])
}

/// The response to an `initialize` now, if it is an error.
fn find_error(daemon: &Daemon) -> Option<Value> {
    let answer = wire::request(daemon.port("alpha"), &compose("POST /mcp", &JSON, INITIALIZE)).json();
    assert_eq!(answer["id"], 7, "{answer}");
    let error = answer.get("error")?;
    assert_eq!((&error["code"], &error["data"]["worker"]), (&json!(-32000), &json!("alpha")), "{answer}");
    Some(error.clone())
}

fn error(daemon: &Daemon) -> Value {
    find_error(daemon).expect("an error")
}

/// The error has all of these texts.
#[track_caller]
fn assert_says(error: &Value, texts: &[&str]) {
    let all = error.to_string();
    texts.iter().for_each(|text| assert!(all.contains(text), "no {text:?} in {error:#}"));
}

/// Waits until the error of an `initialize` has this text.
fn wait_error(daemon: &Daemon, text: &str) -> Value {
    until("the error", BOUND, || find_error(daemon).filter(|error| error.to_string().contains(text)))
}

/// Without waiting, after the second exit.
#[test]
fn a_worker_that_exits_at_its_start() {
    let daemon = &mut launch(shell("echo \"ModuleNotFoundError: No module named 'mcp'\" >&2; exit 3"));
    let says = wait_error(daemon, "again and again");
    assert_says(&says, &["exit 3", "No module named 'mcp'", "mcpctl logs alpha", "was not executed"]);
    let (_, took) = timed(|| error(daemon));
    assert!(took < Duration::from_secs(4), "it does not wait: {took:?}");
    daemon.assert_shuts_down(0);
}

/// `status` shows the line, too (R-CLI-4).
#[test]
fn a_worker_that_failed_for_good() {
    let spec = shell("echo 'fatal: the database is locked' >&2; exit 1").with("restart = \"never\"");
    let daemon = &mut launch(spec);
    let says = wait_error(daemon, "\"failed\"");
    assert_says(
        &says,
        &["exit 1", "the database is locked", "mcpctl restart alpha", "does not start it again"],
    );
    let status = daemon.wait_state("alpha", WorkerState::Failed);
    assert!(
        status
            .reason
            .is_some_and(|reason| reason.ends_with("its last output: fatal: the database is locked"))
    );
    daemon.assert_shuts_down(0);
}

#[test]
fn secrets_are_not_shown() {
    let spec = shell("echo \"invalid key $API_KEY\" >&2; exit 1").with("restart = \"never\"");
    let daemon = &mut launch(spec.with("env = { API_KEY = \"sk-123456789\" }"));
    let says = wait_error(daemon, "\"failed\"");
    assert_says(&says, &["invalid key ***"]);
    assert!(!says.to_string().contains("sk-123456789"));
    daemon.assert_shuts_down(0);
}

#[test]
fn a_program_that_does_not_exist() {
    let daemon = &mut launch(WorkerSpec::command(["no-such-server-anywhere"]));
    assert_says(&wait_error(daemon, "\"failed\""), &["no-such-server-anywhere", "mcpctl restart alpha"]);
    daemon.assert_shuts_down(0);
}

#[test]
fn a_worker_that_listens_on_another_port() {
    let other =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a port").port();
    let spec = WorkerSpec::fixture(&format!("--mcp --bind-other {other}")).with("hold = \"8s\"");
    let daemon = &mut launch(spec);
    assert_says(&wait_error(daemon, &format!(":{other} and not on")), &["\"starting\"", "was not executed"]);
    daemon.assert_shuts_down(0);
}

#[test]
fn a_worker_that_never_becomes_ready() {
    let daemon = &mut launch(WorkerSpec::fixture("--mcp --never-ready").with("ready_within = \"1s\""));
    assert_says(&wait_error(daemon, "not ready within 1 s"), &["nothing listens"]);
    daemon.assert_shuts_down(0);
}

#[test]
fn a_worker_that_starts_slowly() {
    let daemon = &mut launch(WorkerSpec::fixture("--mcp --start-delay 20000").with("hold = \"1s\""));
    assert_says(
        &error(daemon),
        &["was not ready within 1 s (hold)", "\"starting\"", "try again in a moment"],
    );
    daemon.assert_shuts_down(0);
}

#[test]
fn a_worker_that_was_stopped() {
    let daemon = &mut Daemon::start(ConfigBuilder::new().worker("alpha", behind_front_door("")));
    daemon.mcpctl(&["stop", "alpha"]).expect_code(0);
    assert_says(&error(daemon), &["\"stopped\"", "mcpctl start alpha"]);
    daemon.assert_shuts_down(0);
}

/// The error of a call in flight when its worker is killed.
fn interrupted(message: impl Fn(&Client) -> Value) -> Value {
    let mut daemon = Daemon::start(ConfigBuilder::new().worker("alpha", behind_front_door("")));
    let client = Client::initialize(daemon.port("alpha"));
    let message = message(&client);
    let answer = thread::scope(|scope| {
        let call = scope.spawn(|| client.post(&message));
        if message["params"]["name"] == "stuck" {
            crate::front_door_restart::wait_stuck(&daemon);
            kill_worker(&mut daemon);
            return call.join().expect("no panic").json();
        }
        let mut events = Events::of(call.join().expect("no panic"));
        events.message();
        kill_worker(&mut daemon);
        events.last().expect("the error").json()
    });
    daemon.assert_shuts_down(0);
    assert_eq!(answer["id"], message["id"]);
    answer["error"].clone()
}

#[test]
fn a_worker_that_is_killed_during_a_call() {
    let says = interrupted(|client| client.tool("stuck", &json!({})));
    assert_says(
        &says,
        &["SIGKILL", "may have been executed", "only if that does no harm", "starts it again"],
    );
}

#[test]
fn a_worker_that_is_killed_during_a_stream() {
    let says = interrupted(|client| client.tool("slow", &json!({ "steps": 100, "pause": 300 })));
    assert_says(&says, &["SIGKILL", "may have been executed", "starts it again"]);
}

#[test]
fn a_server_that_speaks_stdio_and_exits_at_its_start() {
    let script = "echo 'Error: Cannot find module @acme/server' >&2; exit 1";
    let spec = WorkerSpec::command(["sh", "-c", script]).with("transport = \"stdio\"");
    let daemon = &mut listening(Daemon::launch(ConfigBuilder::new().worker("alpha", spec)));
    assert_says(&wait_error(daemon, "again and again"), &["exit 1", "Cannot find module @acme/server"]);
    daemon.assert_shuts_down(0);
}

/// While mcpd shuts down and the worker needs time for it.
#[test]
fn a_request_during_the_shutdown() {
    let mut daemon =
        Daemon::start(ConfigBuilder::new().worker("alpha", behind_front_door("--slow-exit 3000")));
    let shutdown = daemon.mcpctl_start(&["shutdown", "--wait"]);
    let says = wait_error(&daemon, "shutting down");
    assert_says(&says, &["was not executed", "started again"]);
    shutdown.finish(BOUND).expect_code(0);
    assert_eq!(daemon.wait_exit(BOUND), 0);
}

/// A discovery document of a server that is not up.
#[test]
fn documents_about_oauth_are_missing_at_once() {
    let mut daemon = launch(WorkerSpec::fixture("--mcp --start-delay 20000"));
    let line = "GET /.well-known/oauth-protected-resource/mcp";
    let (reply, took) = timed(|| wire::request(daemon.port("alpha"), &compose(line, &[], "")));
    assert_eq!(reply.status, 404);
    assert!(took < Duration::from_secs(5), "{took:?}");
    daemon.assert_shuts_down(0);
}

/// Its worker exits with the call in flight.
#[test]
fn a_call_in_flight_at_the_shutdown() {
    let mut daemon = Daemon::start(ConfigBuilder::new().worker("alpha", behind_front_door("")));
    let client = Client::initialize(daemon.port("alpha"));
    let call = client.tool("stuck", &json!({}));
    let answer = thread::scope(|scope| {
        let answer = scope.spawn(|| client.call(&call));
        crate::front_door_restart::wait_stuck(&daemon);
        daemon.mcpctl(&["shutdown", "--wait"]).expect_code(0);
        answer.join().expect("no panic")
    });
    assert_eq!(answer["id"], call["id"]);
    assert_says(
        &answer["error"],
        &["the server is shutting down", "may have been executed", "started again"],
    );
    assert_eq!(daemon.wait_exit(BOUND), 0);
}
