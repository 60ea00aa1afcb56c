//! Every command of `mcpctl` with a real daemon: JSON, pipes, terminals, exit codes (R-CLI-1, R-CLI-2).

use std::fs;
use std::net::TcpListener;
use std::process::Command;

use jiff::Timestamp;
use mcpd_common::status::{StatusReport, WorkerState};
use mcpd_tests::daemon::mcpctl;
use mcpd_tests::{BOUND, ConfigBuilder, Daemon, Signal, WorkerSpec, binaries, command, skip, until};
use serde_json::Value;

/// Commands that change nothing; `report` needs an earlier run.
const QUERIES: [&str; 13] = [
    "status",
    "status alpha",
    "verify-ports",
    "ports --port 19999",
    "list-zombies",
    "zombies --all",
    "history",
    "history -n 1",
    "report",
    "health",
    "logs",
    "logs chatty -n 1",
    "logs --daemon",
];

/// Commands that change something, in this order.
const CHANGES: [&str; 5] = ["stop alpha", "start alpha", "restart beta", "restart --all", "shutdown --wait"];

/// A worker that does not listen; `SIGTERM` is its stop request.
fn script_worker(script: &str) -> WorkerSpec {
    WorkerSpec::command(["sh", "-c", script]).with("ready = \"none\"").with("shutdown_path = \"\"")
}

/// A daemon with an earlier run, two workers, and output in a log.
fn second_run() -> Daemon {
    let chatty = script_worker("echo one line; echo another; exec sleep 600");
    let config = ConfigBuilder::new().fixture("alpha", "").fixture("beta", "").worker("chatty", chatty);
    let mut first = Daemon::start(config);
    first.assert_shuts_down(0);
    let mut daemon = first.launch_again();
    daemon.wait_ready();
    daemon
}

/// R-CLI-1: times are RFC 3339, durations are integers.
fn check_shape(key: &str, value: &Value) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(key, value)| check_shape(key, value)),
        Value::Array(items) => items.iter().for_each(|item| check_shape(key, item)),
        Value::Null => {}
        value if key == "at" || key.ends_with("_at") || key == "since" => {
            let is_time = value.as_str().is_some_and(|text| text.parse::<Timestamp>().is_ok());
            assert!(is_time, "{key} is {value}");
        }
        value if key.ends_with("_ms") => assert!(value.is_u64(), "{key} is {value}"),
        _ => {}
    }
}

/// R-CLI-1.
#[test]
fn every_command_has_json_output() {
    let mut daemon = second_run();
    daemon.remember();
    for line in QUERIES.iter().chain(&CHANGES) {
        let args: Vec<_> = line.split(' ').chain(["--json"]).collect();
        let output = daemon.mcpctl(&args);
        // Other programs on the machine may have zombies.
        let has_zombies = *line == "zombies --all" && output.json()["zombies"] != serde_json::json!([]);
        assert_eq!(output.code, Some(if has_zombies { 5 } else { 0 }), "{line}: {output:?}");
        assert!(!output.stdout.is_empty(), "{line}: {output:?}");
        for text in output.stdout.lines() {
            assert!(text.starts_with("{\"schema\":\"mcpd."), "{line}: {text}");
        }
        output.json_lines().iter().for_each(|value| check_shape("", value));
    }
    daemon.assert_no_trace(0);
}

/// R-CLI-1: without a terminal no colours, no spinners, no cursor movement.
#[test]
fn output_to_a_pipe_is_plain_lines() {
    let mut daemon = second_run();
    daemon.remember();
    for line in QUERIES.iter().chain(&CHANGES) {
        let output = daemon.mcpctl(&line.split(' ').collect::<Vec<_>>());
        let text = format!("{}{}", output.stdout, output.stderr);
        assert!(output.stdout.ends_with('\n'), "{line}: {output:?}");
        assert!(!text.contains(['\x1b', '\r', '\x08']), "{line}: {text:?}");
    }
    daemon.assert_no_trace(0);
}

/// The output on a terminal of 80 columns; `None` if script(1) is not installed.
fn on_a_terminal(daemon: &Daemon, args: &str, no_color: bool) -> Option<String> {
    let inner = format!("stty cols 80 rows 24; exec '{}' {args}", binaries::mcpctl().display());
    // The environment is that of other `mcpctl` calls.
    let mut script = Command::new("script");
    script.env_clear().args(["--quiet", "--return", "--command", &inner, "/dev/null"]);
    for (name, value) in mcpctl(daemon.home()).get_envs() {
        script.envs(value.map(|value| (name, value)));
    }
    script.env("TERM", "xterm-256color").env("SHELL", "/bin/sh");
    if no_color {
        script.env("NO_COLOR", "1");
    }
    let is_there = Command::new("script").arg("--version").output().is_ok_and(|it| it.status.success());
    is_there.then(|| command::start(&mut script).finish(BOUND).stdout)
}

/// The lines without control sequences.
fn lines(screen: &str) -> Vec<String> {
    let mut plain = String::new();
    let mut characters = screen.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\x1b' => {
                characters.next_if_eq(&'[');
                // To the letter that ends it.
                while characters.next().is_some_and(|it| !it.is_ascii_alphabetic()) {}
            }
            '\r' => {}
            other => plain.push(other),
        }
    }
    plain.lines().map(str::to_owned).collect()
}

/// R-CLI-1: tables fit the terminal, and `NO_COLOR` is honoured.
#[test]
fn tables_fit_the_terminal() {
    let mut daemon = second_run();
    daemon.remember();
    let mut coloured = 0;
    // Log lines are not wrapped.
    for line in QUERIES.iter().filter(|line| !line.starts_with("logs")).chain(&CHANGES) {
        let no_color = line.len() % 2 == 0;
        let Some(screen) = on_a_terminal(&daemon, line, no_color) else {
            return skip::test("there is no script(1)");
        };
        assert!(!screen.trim().is_empty(), "{line}");
        for text in lines(&screen) {
            assert!(
                text.chars().count() <= 80,
                "{line}: {} columns:\n{text}\n{screen}",
                text.chars().count()
            );
        }
        let colours = screen.split("\x1b[").skip(1).filter(|rest| {
            rest.trim_start_matches(|it: char| it.is_ascii_digit() || it == ';').starts_with('m')
        });
        let colours = colours.count();
        assert!(colours == 0 || !no_color, "{line}: {screen:?}");
        coloured += colours;
    }
    assert!(coloured > 0, "there are colours on a terminal");
    daemon.assert_no_trace(0);
}

/// R-CLI-1: one object for each line, until Ctrl-C.
#[test]
fn status_watch_is_a_stream() {
    let mut daemon = Daemon::start(ConfigBuilder::new().fixture("alpha", ""));
    let watching = command::follow(mcpctl(daemon.home()).args(["status", "--watch", "--json"]));
    for _ in 0..2 {
        let status: StatusReport = serde_json::from_str(&watching.line(BOUND)).expect("a status");
        assert_eq!((status.workers.len(), status.workers[0].state), (1, WorkerState::Ready));
    }
    daemon.assert_shuts_down(0);
    until("a status without a daemon", BOUND, || {
        let status: StatusReport = serde_json::from_str(&watching.line(BOUND)).expect("a status");
        status.daemon.is_none().then_some(())
    });
    let (ended, _) = watching.end(Signal::SIGINT, BOUND);
    assert_eq!(ended.code(), Some(0));
}

/// `logs -f` continues after a rotation of the file and loses no line.
#[test]
fn followed_logs_survive_rotation() {
    // 13 MB of numbered lines, enough for one rotation. The script starts when the file `go` exists.
    const LINES: u32 = 13_000;
    const SCRIPT: &str = "echo waiting; until [ -e go ]; do sleep 0.05; done; pad=$(printf %01000d 0); i=0; \
                          while [ $i -lt 13000 ]; do echo \"$i $pad\"; i=$((i + 1)); done; exec sleep 600";
    let mut daemon = Daemon::start(ConfigBuilder::new().worker("alpha", script_worker(SCRIPT)));
    let following = command::follow(mcpctl(daemon.home()).args(["logs", "alpha", "--follow"]));
    assert_eq!(following.line(BOUND), "waiting");
    fs::write(daemon.home().join("repos/alpha/go"), "").expect("written");
    for number in 0..LINES {
        let line = following.line(BOUND);
        assert!(line.starts_with(&format!("{number} 0")), "{number}: {line}");
    }
    assert!(daemon.places().log_dir.join("workers/alpha.log.1").exists(), "it was rotated");
    let (ended, rest) = following.end(Signal::SIGINT, BOUND);
    assert_eq!((ended.code(), rest), (Some(0), Vec::new()));
    daemon.assert_shuts_down(0);
}

/// R-VER-2, R-VER-5: the process that holds a port is named.
#[test]
fn ports_names_another_process_on_a_port() {
    let mut daemon = Daemon::start(ConfigBuilder::new().fixture("alpha", "").fixture("beta", ""));
    let ports = daemon.mcpctl(&["verify-ports", "--json"]).expect_code(0).json_lines();
    assert!(ports.len() == 2 && ports.iter().all(|port| port["state"] == "serving"), "{ports:?}");

    daemon.mcpctl(&["stop", "alpha"]).expect_code(0);
    let port = daemon.port("alpha").get();
    let other = TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
    let ports = daemon.mcpctl(&["ports", "--json"]).expect_code(4).json_lines();
    let report = ports.iter().find(|report| report["port"] == port).expect("alpha's");
    assert_eq!((&report["state"], &report["worker"]), (&"in_use".into(), &"alpha".into()));
    assert_eq!(report["holders"][0]["pid"], std::process::id(), "{report}");
    let text = daemon.mcpctl(&["ports", "--port", &port.to_string()]).expect_code(4).stdout;
    assert!(text.contains(&format!("pid {}", std::process::id())), "{text}");
    drop(other);
    daemon.mcpctl(&["ports"]).expect_code(0);
    daemon.mcpctl(&["start", "alpha"]).expect_code(0);
    daemon.assert_shuts_down(0);
}

/// R-VER-1, R-VER-5.
#[test]
fn zombies_among_the_descendants_are_listed() {
    let mut daemon = Daemon::start(ConfigBuilder::new().fixture("alpha", "--zombies 3").fixture("beta", ""));
    let alpha = daemon.wait_state("alpha", WorkerState::Ready).pid.expect("it runs").get();
    let of_alpha = |args: &[&str]| {
        let report = daemon.mcpctl(args).expect_code(5).json();
        let zombies = report["zombies"].as_array().cloned().expect("zombies");
        zombies.into_iter().filter(|zombie| zombie["ppid"] == alpha).collect::<Vec<_>>()
    };
    for args in [&["list-zombies", "--json"][..], &["zombies", "--all", "--json"]] {
        let found = until("three zombies", BOUND, || Some(of_alpha(args)).filter(|found| found.len() == 3));
        assert!(found.iter().all(|zombie| zombie["worker"] == "alpha"), "{args:?}: {found:?}");
    }
    let text = daemon.mcpctl(&["list-zombies"]).expect_code(5).stdout;
    assert!(text.contains(&format!("(pid {alpha})")), "{text}");
    daemon.mcpctl(&["stop", "alpha"]).expect_code(0);
    daemon.mcpctl(&["list-zombies"]).expect_code(0);
    daemon.assert_shuts_down(0);
    daemon.mcpctl(&["list-zombies"]).expect_code(0);
}

/// Codes 0, 1 and 3; a worker that was stopped on request counts as healthy.
#[test]
fn health_is_the_exit_code() {
    let mut daemon = Daemon::start(ConfigBuilder::new().fixture("alpha", "").fixture("beta", ""));
    assert_eq!(daemon.mcpctl(&["health"]).expect_code(0).stdout, "healthy\n");
    daemon.mcpctl(&["stop", "beta"]).expect_code(0);
    daemon.mcpctl(&["health"]).expect_code(0);
    // The worker can't be started again without its repository.
    fs::rename(daemon.home().join("repos/beta"), daemon.home().join("moved")).expect("renamed");
    daemon.mcpctl(&["start", "beta"]).expect_code(65);
    let output = daemon.mcpctl(&["health", "--json"]).expect_code(1).json();
    assert_eq!((&output["schema"], &output["health"]), (&"mcpd.health.v1".into(), &"degraded".into()));
    daemon.assert_shuts_down(0);
    assert_eq!(daemon.mcpctl(&["health", "--json"]).expect_code(3).json()["health"], "not_running");
    daemon.mcpctl(&["status"]).expect_code(3);
}

/// A script in CI starts mcpd and waits for it.
#[test]
fn health_waits_until_mcpd_is_healthy_or_can_not_become_healthy() {
    let spec = WorkerSpec::fixture("--never-ready").with("restart = \"never\"").with("ready_within = \"2s\"");
    let mut daemon = Daemon::launch(ConfigBuilder::new().fixture("alpha", "").worker("beta", spec));
    let waiting = daemon.mcpctl_start(&["health", "--wait", "--timeout", "60s"]);
    let output = waiting.finish(BOUND).expect_code(1);
    assert_eq!(output.stdout, "degraded: beta is failed\n", "a failed worker ends the wait");
    daemon.signal(Signal::SIGTERM);
    daemon.assert_no_trace(0);

    let output = daemon.mcpctl(&["health", "--wait", "--timeout", "200ms"]).expect_code(3);
    assert!(output.stdout.starts_with("not running: nothing listens on "), "the limit: {output:?}");
    let waiting = daemon.mcpctl_start(&["health", "--wait"]);
    let mut next = Daemon::launch_in(daemon.into_home().0, ConfigBuilder::new().fixture("alpha", ""));
    assert_eq!(waiting.finish(BOUND).expect_code(0).stdout, "healthy\n");
    next.wait_ready();
    next.assert_shuts_down(0);
}

/// Without a terminal there is a line for each event, and no table that repeats them.
#[test]
fn a_shutdown_in_a_pipe_shows_each_step_once() {
    let mut daemon = Daemon::start(ConfigBuilder::new().fixture("alpha", ""));
    daemon.remember();
    let output = daemon.mcpctl(&["shutdown", "--wait"]).expect_code(0);
    let lines_with = |text: &str| output.stdout.lines().filter(|line| line.contains(text)).count();
    for text in
        ["asked to exit by ", "exited after ", "workers-graceful: finished after ", "ECHILD", "Exit code 0"]
    {
        // The proof is the evidence of a check and the summary of its phase.
        assert_eq!(lines_with(text), if text == "ECHILD" { 2 } else { 1 }, "{text}: {}", output.stdout);
    }
    assert_eq!(lines_with("WORKER") + lines_with("EVIDENCE"), 0, "{}", output.stdout);
    daemon.assert_no_trace(0);
}

/// All workers are ready, but what the stop could not do is not hidden.
#[test]
fn a_resource_that_fails_to_close_is_the_exit_code_of_a_restart() {
    let resource = "[resources.cache]\nclose = [\"false\"]\n";
    let mut daemon = Daemon::start(ConfigBuilder::new().fixture("alpha", "").toml(resource));
    let output = daemon.mcpctl(&["restart", "--daemon"]).expect_code(6);
    for text in
        ["closed; failed to close: cache", "exit code 6, a resource failed to close", "1 of 1 worker ready"]
    {
        assert!(output.stdout.contains(text), "{text}: {}", output.stdout);
    }
    let lines = daemon.mcpctl(&["restart", "--daemon", "--json"]).expect_code(6).json_lines();
    let result = lines.last().expect("a result");
    assert_eq!((&result["exit_code"], &result["stop_exit_code"]), (&6.into(), &6.into()), "{result}");
    assert_eq!(result["stop_findings"][0]["subject"], "cache", "{result}");
    daemon.assert_shuts_down(6);
}

/// The shells accept the scripts. With that of bash, Tab completes commands and the names of workers.
#[test]
fn completions_are_for_three_shells() {
    let mut daemon = Daemon::start(ConfigBuilder::new().fixture("alpha", "").fixture("beta", ""));
    let home = daemon.home().to_owned();
    for shell in ["bash", "zsh", "fish"] {
        let script = daemon.mcpctl(&["completions", shell]).expect_code(0).stdout;
        let mcpd_script =
            command::start(Daemon::command(&home, &ConfigBuilder::new()).args(["completions", shell]));
        let mcpd_script = mcpd_script.finish(BOUND).expect_code(0).stdout;
        assert!(mcpd_script.contains("check-config"), "{shell}: {mcpd_script}");
        for (name, text) in [("mcpctl", script), ("mcpd", mcpd_script)] {
            let file = home.join(format!("{name}.{shell}"));
            fs::write(&file, text).expect("written");
            match Command::new(shell).arg("-n").arg(&file).output() {
                Ok(parsed) => {
                    assert!(parsed.status.success() && parsed.stderr.is_empty(), "{shell}: {parsed:?}");
                }
                Err(_) => skip::test(&format!("there is no {shell}")),
            }
        }
    }
    let words = complete_in_bash(&daemon, "restart ''");
    assert!(words.contains(&"alpha".to_owned()) && words.contains(&"beta".to_owned()), "{words:?}");
    assert_eq!(complete_in_bash(&daemon, "restart al"), ["alpha"]);
    assert_eq!(complete_in_bash(&daemon, "list-z"), ["list-zombies"]);
    daemon.assert_shuts_down(0);
    assert_eq!(complete_in_bash(&daemon, "logs be"), ["beta"], "from the configuration");
}

/// What Tab at the end of this line offers.
fn complete_in_bash(daemon: &Daemon, line: &str) -> Vec<String> {
    let program = binaries::mcpctl();
    let programs = program.parent().expect("a directory").display();
    let script = daemon.home().join("mcpctl.bash").display().to_string();
    let inner = format!(
        "PATH='{programs}':$PATH; source '{script}'; COMP_WORDS=(mcpctl {line}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
         COMP_TYPE=9; _clap_complete_mcpctl mcpctl \"${{COMP_WORDS[COMP_CWORD]}}\" x; printf '%s\n' \"${{COMPREPLY[@]}}\""
    );
    let mut bash = Command::new("bash");
    bash.env_clear().args(["--norc", "-c", &inner]);
    for (name, value) in mcpctl(daemon.home()).get_envs() {
        bash.envs(value.map(|value| (name, value)));
    }
    let output = command::start(&mut bash).finish(BOUND).expect_code(0);
    output.stdout.lines().map(str::to_owned).collect()
}
