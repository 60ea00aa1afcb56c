//! Invalid configurations, names, variables and arguments are reported, and change nothing.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use mcpd_common::exit_code::program;
use mcpd_common::phase::Phase;
use mcpd_common::status::WorkerState;
use mcpd_tests::daemon::mcpctl;
use mcpd_tests::{BOUND, ConfigBuilder, Daemon, Output, Signal, command, ports, repo};

fn home() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn mcpd(home: &Path, args: &[&str]) -> Output {
    let mut command = Daemon::command(home, &ConfigBuilder::new());
    command::start(command.args(args).current_dir(home)).finish(BOUND)
}

fn files(home: &Path) -> BTreeSet<OsString> {
    let entries = fs::read_dir(home).expect("readable");
    entries.map(|entry| entry.expect("an entry").file_name()).collect()
}

const WRONG: &str = r#"[daemon]
state_dir = "state"
log_dir = "logs"
socket = "run/control.sock"

[shutdown]
worker_graceful = "-1s"
clients = "0s"
verification = "nan"
worker_total = "99999999999999h"
worker_totl = "30s"

[workers.alpha]
repo = "missing"
port = 0

[workers.beta]
repo = "."
port = 70000
command = ["no-such-program", "{port}"]

[workers.gamma]
repo = "."
port = 20111
command = ["true", "{port}"]
restrat = "always"

[workers.delta]
repo = "."
port = 20111
command = ["true", "{port}"]

[workers.Bad_Name]
repo = "."
"#;

/// The problems of [`WRONG`], by line.
const PROBLEMS: [(usize, &str); 12] = [
    (7, "is \"-1s\", which is negative"),
    (8, "is \"0s\", which is zero"),
    (9, "is \"nan\", which is not a duration"),
    (10, "which is more than 24h"),
    (11, "unknown key \"worker_totl\" in [shutdown]; did you mean \"worker_total\"?"),
    (14, "missing does not exist; create it or correct the path"),
    (15, "is 0, which is not a port; write a number from 1 to 65535"),
    (19, "is 70000, which is not a port"),
    (20, "program no-such-program was not found in PATH"),
    (26, "did you mean \"restart\"?"),
    (30, "is also that of gamma (config.toml:24)"),
    (33, "\"Bad_Name\" is not a worker name"),
];

/// R-CONF-3: all problems at once, each with its line and the allowed values; nothing is started or written.
#[test]
fn all_problems_of_a_configuration_are_reported() {
    let home = home();
    fs::write(home.path().join("config.toml"), WRONG).expect("written");
    let run = mcpd(home.path(), &["--config", "config.toml"]).expect_code(program::CONFIG);
    let check = mcpd(home.path(), &["check-config", "config.toml"]).expect_code(program::CONFIG);
    for output in [&run.stderr, &format!("{}{}", check.stdout, check.stderr)] {
        for (line, words) in PROBLEMS {
            let head = format!("config.toml:{line}: ");
            let found = output.lines().any(|line| line.starts_with(&head) && line.contains(words));
            assert!(found, "{head}{words} in\n{output}");
        }
    }
    assert_eq!(run.stderr.lines().count(), PROBLEMS.len(), "{}", run.stderr);
    assert_eq!(files(home.path()), BTreeSet::from(["config.toml".into()]));
}

/// R-CONF-3.
#[test]
fn a_file_that_is_not_a_configuration_is_an_error() {
    let home = home();
    let file = home.path().join("config.toml");
    for (bytes, problem) in [
        (&b"a = [[[\n= 4\n"[..], "config.toml:2: this is not valid TOML"),
        (b"# \xff\n", "line 1 is not UTF-8"),
        (b"repos = 7\n", "config.toml:1: "),
    ] {
        fs::write(&file, bytes).expect("written");
        let output = mcpd(home.path(), &["--config", "config.toml"]).expect_code(program::CONFIG);
        assert!(output.stderr.contains(problem), "{output:?}");
    }
    let output = mcpd(home.path(), &["--config", "nowhere.toml"]).expect_code(program::CONFIG);
    assert!(output.stderr.contains("nowhere.toml: No such file"), "{output:?}");
    assert_eq!(files(home.path()), BTreeSet::from(["config.toml".into()]));
}

/// R-CLI: outside of a repository and without a configuration.
#[test]
fn without_a_repository_or_a_configuration_the_error_shows_how_to_start() {
    let home = home();
    let output = mcpd(home.path(), &[]).expect_code(program::CONFIG);
    for words in ["not inside a git repository", "mcpd --repo DIR", "mcpd init --write DIR", "config.toml"] {
        assert!(output.stderr.contains(words), "{words}: {output:?}");
    }
    assert!(files(home.path()).is_empty());
}

/// The file is written where a start looks for it, for its owner only, and never over another one.
#[test]
fn a_configuration_is_written_into_a_missing_directory_and_not_over_another_one() {
    let home = home();
    for name in ["alpha", "beta"] {
        repo::init(&home.path().join(name));
    }
    let file = home.path().join(".config/mcpd/config.toml");
    let output = mcpd(home.path(), &["init", "--write", "alpha"]).expect_code(0);
    assert!(output.stdout.contains(&file.display().to_string()), "{output:?}");
    assert!(output.stdout.contains("mcpd check-config"), "the next command: {output:?}");
    let mode = |path: &Path| fs::metadata(path).expect("it exists").permissions().mode() & 0o777;
    assert_eq!((mode(&file), mode(file.parent().expect("a directory"))), (0o600, 0o700));
    let checked = mcpd(home.path(), &["check-config"]).expect_code(0);
    assert!(checked.stdout.contains("alpha"), "{checked:?}");

    let written = fs::read(&file).expect("readable");
    let output = mcpd(home.path(), &["init", "--write", "beta"]).expect_code(program::USAGE);
    assert!(output.stderr.contains("exists and was not changed"), "{output:?}");
    assert_eq!(fs::read(&file).expect("readable"), written);

    let other = ["init", "--write", "--config", "elsewhere/mcpd.toml", "beta"];
    let output = mcpd(home.path(), &other).expect_code(0);
    assert!(output.stdout.contains("mcpd --config elsewhere/mcpd.toml"), "{output:?}");
    assert!(home.path().join("elsewhere/mcpd.toml").exists());
}

/// R-CONF-4: a worker that can't be started is failed, with a reason; the others run. With `--strict` the daemon
/// does not start.
#[test]
fn an_unusable_worker_does_not_affect_others() {
    let gone = ports::claim();
    let lost = ports::claim();
    let bad = format!(
        "[workers.gone]\nrepo = \"nowhere\"\nport = {}\n\
         [workers.lost]\nrepo = \".\"\nport = {}\ncommand = [\"no-such-program\", \"{{port}}\"]\n",
        gone.port(),
        lost.port()
    );
    let config = || ConfigBuilder::new().fixture("alpha", "").toml(&bad);

    let strict = home();
    let output = Daemon::refused(strict.path(), &config(), &["--strict"]).expect_code(program::CONFIG);
    for words in ["nowhere does not exist", "no-such-program was not found", "nothing was started"] {
        assert!(output.stderr.contains(words), "{words}: {output:?}");
    }
    assert!(!strict.path().join("state").exists() && !strict.path().join("logs").exists());

    let mut daemon = Daemon::start(config());
    let reason = |daemon: &mut Daemon, name| daemon.wait_state(name, WorkerState::Failed).reason;
    assert!(reason(&mut daemon, "gone").is_some_and(|reason| reason.contains("nowhere does not exist")));
    assert!(reason(&mut daemon, "lost").is_some_and(|reason| reason.contains("was not found in PATH")));
    let health = daemon.mcpctl(&["health"]).expect_code(1);
    assert_eq!(health.stdout, "degraded: gone is failed, lost is failed\n");

    // The directory can be created without a restart of the daemon.
    mcpd_tests::repo::init(&daemon.home().join("nowhere"));
    daemon.mcpctl(&["start", "gone"]).expect_code(0);
    daemon.wait_state("gone", WorkerState::Ready);
    daemon.assert_shuts_down(0);
    assert!(ports::is_free(gone.port()) && ports::is_free(lost.port()));
}

/// R-CLI-2: a usage error that names the known workers.
#[test]
fn an_unknown_worker_changes_nothing() {
    let mut daemon = Daemon::start(ConfigBuilder::new().fixture("alpha", "").fixture("beta", ""));
    let before = daemon.try_status().expect("the daemon responds").workers;
    for line in [
        "start nope",
        "stop nope",
        "restart nope",
        "stop alpha nope",
        "restart nope beta",
        "status nope",
        "logs nope",
    ] {
        let args: Vec<_> = line.split(' ').collect();
        let output = daemon.mcpctl(&args).expect_code(program::USAGE);
        assert_eq!(output.stdout, "", "{line}");
        for words in ["nope", "alpha, beta"] {
            assert!(output.stderr.contains(words), "{line}: {output:?}");
        }
        let mut json = args.clone();
        json.push("--json");
        let error: serde_json::Value = serde_json::from_str(&daemon.mcpctl(&json).stderr).expect("JSON");
        assert_eq!(error["schema"], "mcpd.error.v1", "{line}");
        assert_eq!(error["code"], program::USAGE, "{line}");
    }
    assert_eq!(daemon.try_status().expect("the daemon responds").workers, before);
    daemon.assert_shuts_down(0);
}

/// R-CONF-5: an invalid variable leaves the configured value in force; a valid one overrides it.
#[test]
fn invalid_variables_are_warnings() {
    for (clients, total) in [("soon", "-4"), ("NaN", "inf"), ("1e300", "0")] {
        let config = ConfigBuilder::new()
            .fixture("alpha", "")
            .shutdown("clients = \"7s\"\nworker_graceful = \"3s\"\nworker_total = \"4s\"")
            .env("MCP_SHUTDOWN_CLIENT_TIMEOUT", clients)
            .env("MCP_SHUTDOWN_WORKER_TIMEOUT", total)
            .env("MCP_WORKER_GRACEFUL_TIMEOUT", "1.5");
        let mut daemon = Daemon::start(config);
        let warnings = daemon.try_status().and_then(|status| status.daemon).expect("it runs").warnings;
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        for (value, stays) in [(clients, "clients stays 7s"), (total, "worker_total stays 4s")] {
            let is_warning = |text: &str| text.contains(&format!("=\"{value}\"")) && text.contains(stays);
            assert!(warnings.iter().any(|warning| is_warning(warning)), "{warnings:?}");
            daemon.wait_log_line(stays, |line| line.contains("WARN") && is_warning(line));
        }
        daemon.signal(Signal::SIGTERM);
        let report = daemon.assert_no_trace(0);
        let limit = |phase| report.phases.iter().find(|it| it.phase == phase).map(|it| it.limit_ms);
        assert_eq!(limit(Phase::Clients), Some(7000));
        assert_eq!(limit(Phase::WorkersGraceful), Some(1500));
    }
}

/// R-EXIT-2, R-CLI-2.
#[test]
fn wrong_arguments_are_usage_errors() {
    let home = home();
    for line in [
        "--nonsense",
        "--config",
        "bogus",
        "init",
        "--repo . --config x",
        "--log-format xml",
        "worker --port 0 --repo .",
        "worker --repo .",
    ] {
        let output = mcpd(home.path(), &line.split(' ').collect::<Vec<_>>()).expect_code(program::USAGE);
        assert!(output.stderr.starts_with("error: ") && output.stdout.is_empty(), "{output:?}");
    }
    for line in [
        "--nonsense",
        "bogus",
        "start",
        "stop --all alpha",
        "restart Bad!",
        "ports --port 0",
        "ports --port 99999999999999999999",
        "logs -n -1",
        "logs --daemon alpha",
        "report yesterday",
        "history -n many",
        "status --output yaml",
        "completions tcsh",
    ] {
        let output = command::start(mcpctl(home.path()).args(line.split(' '))).finish(BOUND);
        let output = output.expect_code(program::USAGE);
        assert!(output.stderr.starts_with("error: ") && output.stdout.is_empty(), "{output:?}");
    }
    assert!(files(home.path()).is_empty());
}

/// R-EXIT-2: damaged files and invalid socket paths.
#[test]
fn mcpctl_does_not_panic_on_garbage() {
    let home = home();
    let state = home.path().join("state");
    fs::create_dir_all(&state).expect("made");
    for file in ["run.json", "last-shutdown.json", "journal.sqlite3", "ports.json", "mcpd.lock"] {
        fs::write(state.join(file), b"{\"schema\":\xff\0garbage").expect("written");
    }
    ConfigBuilder::new().fixture("alpha", "").write(home.path());
    let commands = [
        ("shutdown --wait", 0),
        ("status", program::NOT_RUNNING),
        ("ports", 0),
        ("zombies", 0),
        ("history", program::UNAVAILABLE),
        ("report", program::UNAVAILABLE),
        ("health", program::NOT_RUNNING),
        ("logs", program::UNAVAILABLE),
        ("restart --all", program::UNAVAILABLE),
    ];
    for (line, code) in commands {
        for format in ["table", "json"] {
            let args = line.split(' ').chain(["--output", format]);
            let output = command::start(mcpctl(home.path()).args(args)).finish(BOUND).expect_code(code);
            assert!(!output.stderr.contains("panicked"), "{line}: {output:?}");
        }
    }
    let sockets = [
        (OsString::from_vec(b"\xff\xfe".to_vec()), program::NOT_RUNNING),
        ("x".repeat(100_000).into(), program::UNAVAILABLE),
        (home.path().into(), program::NOT_RUNNING),
        ("".into(), program::USAGE),
        ("\n\x1b[31m".into(), program::NOT_RUNNING),
    ];
    for (socket, code) in sockets {
        let mut command = mcpctl(home.path());
        let output = command::start(command.args(["status", "--socket"]).arg(&socket)).finish(BOUND);
        let output = output.expect_code(code);
        assert!(!output.stderr.contains("panicked") && !output.stderr.contains('\x1b'), "{output:?}");
    }
}
