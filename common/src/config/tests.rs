//! Loads whole files and compares configurations and problems.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::ids::WorkerName;

/// A directory with two repositories, `alpha` and `beta`, a program and an empty home.
struct Place {
    dir: tempfile::TempDir,
    env: BTreeMap<&'static str, String>,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        for repo in ["alpha", "beta"] {
            fs::create_dir_all(dir.path().join(repo).join(".git")).expect("made");
        }
        let env = BTreeMap::from([
            ("HOME", dir.path().display().to_string()),
            ("PATH", "/bin:/usr/bin".to_owned()),
        ]);
        Self { dir, env }
    }

    fn set(mut self, key: &'static str, value: &str) -> Self {
        self.env.insert(key, value.to_owned());
        self
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Loads a text; state directory and socket are below the directory unless the text has a section `[daemon]`.
    fn load(&self, text: &str) -> Result<Loaded, LoadError> {
        let text = if text.contains("[daemon]") {
            text.to_owned()
        } else {
            format!("{text}\n[daemon]\nstate_dir = \"state\"\nsocket = \"control.sock\"\n")
        };
        let source = Source::Text { name: "config.toml".to_owned(), text, base: self.path().to_owned() };
        load(source, &|key| self.env.get(key).cloned())
    }

    fn good(&self, text: &str) -> Loaded {
        self.load(text).unwrap_or_else(|error| panic!("{error}"))
    }

    fn worker(&self, text: &str, name: &str) -> WorkerConfig {
        self.good(text).config.workers[&name.parse::<WorkerName>().expect("a name")].clone()
    }

    /// The text of all problems; the path of the directory is replaced by `HERE`.
    fn problems(&self, text: &str) -> Vec<String> {
        let problems = match self.load(text) {
            Ok(loaded) => loaded.problems,
            Err(LoadError::Problems(problems)) => problems,
            Err(other) => panic!("{other}"),
        };
        let path = self.path().display().to_string();
        problems.iter().map(|problem| problem.to_string().replace(&path, "HERE")).collect()
    }
}

#[test]
fn an_empty_file_has_all_defaults() {
    let loaded = Place::new().good("");
    assert_eq!(loaded.config.shutdown, ShutdownConfig::default());
    assert!(loaded.config.workers.is_empty() && loaded.problems.is_empty());
    assert_eq!(loaded.warnings, ["no workers: write repos = [\"DIRECTORY\"] or [workers.NAME]"]);
}

#[test]
fn the_short_form_makes_built_in_workers() {
    let place = Place::new();
    fs::create_dir_all(place.path().join("other/alpha/.git")).expect("made");
    let config = place.good("repos = [\"~/alpha\", \"beta\", \"./other/alpha\"]").config;
    let names: Vec<_> = config.workers.keys().map(WorkerName::as_str).collect();
    assert_eq!(names, ["alpha", "alpha-2", "beta"]);
    let alpha = &config.workers[&"alpha".parse::<WorkerName>().expect("a name")];
    assert_eq!(alpha.repo, place.path().join("alpha"));
    assert_eq!((&alpha.program, &alpha.ready), (&Program::BuiltIn, &Probe::Http("/health".to_owned())));
    assert_eq!(alpha.shutdown_path.as_deref(), Some("/shutdown"));
    assert_eq!((alpha.restart, alpha.transport), (RestartPolicy::Always, Transport::Http));
    assert_eq!(alpha.port_source, PortSource::Derived);
}

/// R-CONF-1.
#[test]
fn placeholders_in_a_command_are_filled_in() {
    let text = r#"
        [workers.docs]
        repo = "alpha"
        port = 8082
        command = ["sh", "-c", "serve --port={port} {repo} {name} ${HOME} {{port}}"]
        env = { URL = "http://localhost:{port}/" }
        stop_command = ["sh", "-c", "stop {name}"]
        shutdown_path = ""
        restart = "on-failure"
    "#;
    let place = Place::new();
    let docs = place.worker(text, "docs");
    let repo = place.path().join("alpha");
    let script = format!("serve --port=8082 {} docs ${{HOME}} {{port}}", repo.display());
    let with_port = |arguments: &[PortText]| -> Vec<_> {
        arguments.iter().map(|argument| argument.with(docs.port)).collect()
    };
    let Program::Command(command) = &docs.program else { panic!("{:?}", docs.program) };
    assert_eq!(with_port(command), ["sh", "-c", &script]);
    assert_eq!(docs.transport, Transport::Http, "the command contains its port");
    assert_eq!(docs.env.read().variables["URL"].with(docs.port), "http://localhost:8082/");
    assert_eq!(docs.env.read().variables["PORT"].with(docs.port), "8082");
    assert_eq!(docs.stop_command, Some(vec!["sh".into(), "-c".into(), "stop docs".into()]));
    assert_eq!((docs.shutdown_path, docs.ready), (None, Probe::Tcp));
    assert_eq!((docs.restart, docs.port_source), (RestartPolicy::OnFailure, PortSource::Written));
}

/// R-STDIO-2: only a worker that speaks stdio has processes that sessions can share or not.
#[test]
fn sessions_have_processes_of_their_own_only_where_workers_speak_stdio() {
    let place = Place::new();
    let worker = |keys: &str| place.worker(&format!("[workers.a]\nrepo = \"alpha\"\n{keys}"), "a");
    let own = worker("command = [\"sh\"]\nsessions = \"own\"\n");
    assert_eq!((own.sessions, own.max_processes), (SessionsPolicy::Own, 8));
    assert_eq!(worker("command = [\"sh\"]\nsessions = \"shared\"\n").sessions, SessionsPolicy::Shared);
    assert_eq!(worker("command = [\"sh\"]\nmax_processes = 3\n").max_processes, 3);
    let defaults = "repos = [\"beta\"]\n[defaults]\nsessions = \"own\"\n";
    assert!(place.problems(defaults).is_empty(), "the defaults are for those that speak stdio");
    assert_eq!(place.worker(defaults, "beta").sessions, SessionsPolicy::Keep);
    let mistake = place.problems("[workers.a]\nrepo = \"alpha\"\nsessions = \"own\"\n");
    assert_eq!(
        mistake,
        [
            "config.toml:2: a: sessions \"shared\" and \"own\" are for workers that speak stdio; write \"keep\" or \"forget\", or omit it"
        ]
    );
    let container = "command = [\"docker\", \"run\", \"-i\", \"--rm\", \"x\"]\nsessions = \"own\"\n";
    assert_eq!(worker(container).sessions, SessionsPolicy::Keep, "its containers can't be told apart");
    for bad in ["0", "257", "-1"] {
        let problems = place.problems(&format!("[workers.a]\nrepo = \"alpha\"\nmax_processes = {bad}\n"));
        let expected = format!(
            "config.toml:3: max_processes in [workers.a] is {bad}, which is not allowed; write a number from 1 to 256"
        );
        assert_eq!(problems, [expected]);
    }
}

/// R-CONF-1: a command without `{port}` speaks on its standard input and output.
#[test]
fn the_transport_is_inferred_from_who_knows_the_port() {
    let worker = |keys: &str| Place::new().worker(&format!("[workers.a]\nrepo = \"alpha\"\n{keys}"), "a");
    let stdio = worker("command = [\"sh\"]\n");
    assert_eq!((stdio.transport, &stdio.ready), (Transport::Stdio, &Probe::Initialize));
    assert!(!stdio.env.read().variables.contains_key("PORT"), "mcpd itself listens on it");
    assert_eq!(worker("command = [\"sh\", \"{port}\"]\n").transport, Transport::Http);
    assert_eq!(worker("command = [\"sh\"]\nenv = { LISTEN = \"{port}\" }\n").transport, Transport::Http);
    assert_eq!(worker("command = [\"sh\"]\ntransport = \"http\"\n").transport, Transport::Http);
    assert_eq!(worker("").transport, Transport::Http, "the built-in worker");
    let problems = Place::new().problems("[workers.a]\nrepo = \"alpha\"\ntransport = \"stdio\"\n");
    assert_eq!(
        problems,
        ["config.toml:2: a: the built-in worker speaks HTTP; omit transport, or write a command"]
    );
}

/// A server that needs no repository runs in the directory of the file; its port comes from its name.
#[test]
fn a_worker_with_a_command_needs_no_repository() {
    let place = Place::new();
    let text = "[workers.time]\ncommand = [\"sh\"]\n[workers.clock]\ncommand = [\"sh\"]\n";
    let (time, clock) = (place.worker(text, "time"), place.worker(text, "clock"));
    assert_eq!((&time.repo, time.port_source), (&place.path().to_owned(), PortSource::Derived));
    assert_ne!(time.port, clock.port);
    assert_eq!(Place::new().worker("[workers.time]\ncommand = [\"sh\"]\n", "time").port, time.port);
}

#[test]
fn defaults_apply_to_every_worker() {
    let text = r#"
        [defaults]
        command = ["sh", "server.sh"]
        env = { A = "default", B = "default" }
        ready = "none"
        restart = "never"
        restart_unhealthy = true
        transport = "direct"

        [workers.one]
        repo = "alpha"

        [workers.two]
        repo = "beta"
        command = ["sleep", "1"]
        env = { B = "own" }
        ready = "http:/up?x=1"
        restart = "always"
    "#;
    let place = Place::new();
    let one = place.worker(text, "one");
    let two = place.worker(text, "two");
    assert_eq!(one.program, Program::Command(vec!["sh".into(), "server.sh".into()]));
    assert_eq!(two.program, Program::Command(vec!["sleep".into(), "1".into()]));
    let env = [one.env.read(), two.env.read()].map(|env| env.variables);
    assert_eq!(
        [&env[0]["B"], &env[1]["A"], &env[1]["B"]].map(ToString::to_string),
        ["default", "default", "own"]
    );
    assert_eq!((one.ready, two.ready), (Probe::None, Probe::Http("/up?x=1".to_owned())));
    assert_eq!((one.restart, two.restart), (RestartPolicy::Never, RestartPolicy::Always));
    assert!(one.restart_unhealthy && two.restart_unhealthy);
}

#[test]
fn an_env_file_can_not_change_the_port() {
    let place = Place::new();
    fs::write(place.path().join(".env"), "PORT=3000\nTOKEN=secret\nLEVEL=file\n").expect("written");
    let text = "[workers.a]\nrepo = \"alpha\"\nport = 8081\nenv_file = \".env\"\nenv = { LEVEL = \"own\" }\n";
    let env = place.worker(text, "a").env.read().variables;
    assert_eq!(
        [&env["PORT"], &env["TOKEN"], &env["LEVEL"]].map(ToString::to_string),
        ["{port}", "secret", "own"]
    );
}

/// R-CONF-2.
#[test]
fn a_derived_port_is_remembered() {
    let place = Place::new();
    let before = place.worker("repos = [\"beta\"]", "beta").port;
    let after = place.worker("repos = [\"alpha\", \"beta\"]", "beta").port;
    assert_eq!(before, after);
    assert!((8100..=8999).contains(&before.get()));
    assert!(place.path().join("state/ports.json").exists());
}

#[test]
fn peeking_and_a_faulty_configuration_write_no_file() {
    let place = Place::new();
    let text = "repos = [\"alpha\"]\n[daemon]\nstate_dir = \"state\"\nsocket = \"s\"\n".to_owned();
    let source = Source::Text { name: "c".to_owned(), text, base: place.path().to_owned() };
    peek(source, &|_| None).expect("good");
    assert!(place.load("repos = [\"alpha\"]\nnonsense = 1\n").is_err());
    assert!(!place.path().join("state").exists());
}

/// R-CONF-2: an unwritable state directory is a warning.
#[test]
fn a_port_that_can_not_be_remembered_is_a_warning() {
    let place = Place::new();
    fs::write(place.path().join("state"), "a file in the way").expect("written");
    let loaded = place.good("repos = [\"alpha\"]");
    assert_eq!(loaded.config.workers.len(), 1);
    assert!(loaded.warnings.iter().any(|text| text.contains("can't be remembered")), "{:?}", loaded.warnings);
}

/// R-CONF-3: all of them at once, each with its line.
#[test]
fn all_problems_are_reported_at_once() {
    let text = r#"repo = ["alpha"]
[shutdown]
worker_graceful = "0s"
clients = -1
worker_total = nan
verification = "30h"
force_ports = "mine"
[defaults]
restart = "sometimes"
port = 1
[workers.alpha]
repo = "alpha"
port = 8081
prot = 1
command = ["sh", "{prot}"]
[workers.beta]
repo = "beta"
port = 8081
[workers.gamma]
repo = "alpha"
port = 0
[workers.delta]
repo = "alpha"
port = 65536
[workers.Epsilon]
repo = "alpha"
env = { A = 1 }
[workers.zeta]
port = "8083"
[workers.eta]
repo = "nowhere"
[workers.theta]
repo = "alpha"
command = ["no-such-program", "{port}"]
ready = "https:/health"
shutdown_path = "shutdown"
command_line = 1
[resources.cache]
timeout = "1s"
[workers.iota]
repo = "alpha"
command = []
"#;
    let expected = [
        "config.toml:1: unknown key \"repo\"; did you mean \"repos\"?",
        "config.toml:3: worker_graceful in [shutdown] is \"0s\", which is zero; DURATION",
        "config.toml:4: clients in [shutdown] is -1, which is negative; DURATION",
        "config.toml:5: worker_total in [shutdown] is nan, which is not a number; DURATION",
        "config.toml:6: verification in [shutdown] is \"30h\", which is more than 24h; DURATION",
        "config.toml:7: force_ports in [shutdown] is \"mine\", which is unknown; write \"own\" or \"never\" or \"any\"",
        "config.toml:9: restart in [defaults] is \"sometimes\", which is unknown; write \"always\" or \"on-failure\" or \"never\"",
        "config.toml:10: unknown key \"port\" in [defaults]; known keys: allow_other_users, allowed_hosts, allowed_origins, command, env, env_file, hold, host, max_processes, ready, ready_within, restart, restart_unhealthy, sessions, shutdown_path, stop_command, transport, trust_listener",
        "config.toml:14: unknown key \"prot\" in [workers.alpha]; did you mean \"port\"?",
        "config.toml:15: command in [workers.alpha] has the unknown placeholder {prot}; write {port}, {repo} or {name}; for the text {prot} write {{prot}}",
        "config.toml:18: port 8081 in [workers.beta] is also that of alpha (config.toml:13); write another port, or omit port to have one derived",
        "config.toml:21: port in [workers.gamma] is 0, which is not a port; PORT",
        "config.toml:24: port in [workers.delta] is 65536, which is not a port; PORT",
        "config.toml:25: \"Epsilon\" is not a worker name: write lower-case letters, digits, '-' and '_', a letter or digit first",
        "config.toml:27: A in [workers.Epsilon.env] must be a string, not integer; put it in quotes",
        "config.toml:28: [workers.zeta] has no usable repo; write repo = \"DIRECTORY\", the repository to serve, or a command",
        "config.toml:29: port in [workers.zeta] must be a number, not string; PORT",
        "config.toml:31: eta: repository HERE/nowhere does not exist; create it or correct the path",
        "config.toml:34: theta: program no-such-program was not found in PATH (/bin:/usr/bin); install it, write its full path, or set PATH in env",
        "config.toml:35: ready in [workers.theta] is \"https:/health\", which is not a probe; write \"http:/PATH\", \"tcp\" or \"none\"",
        "config.toml:36: shutdown_path in [workers.theta] is \"shutdown\", which is not a path; write a path such as \"/shutdown\", or \"\" if the server has no such route",
        "config.toml:37: unknown key \"command_line\" in [workers.theta]; KNOWN",
        "config.toml:38: [resources.cache] closes and checks nothing; write at least one of close, check and path",
        "config.toml:42: command in [workers.iota] names no program; write the program and its arguments: command = [\"uv\", \"run\", \"server.py\"]",
    ];
    let shorten = |line: String| {
        let line = line.replace(duration::ALLOWED, "DURATION");
        let line =
            line.replace("write a number from 1 to 65535, or omit the key to have one derived", "PORT");
        line.split("known keys: allow_other_users, allowed_hosts, allowed_origins, command, env, env_file, hold, host, max_processes, port")
            .next()
            .map(|start| if start == line { line.clone() } else { format!("{start}KNOWN") })
    };
    let found: Vec<_> = Place::new().problems(text).into_iter().filter_map(shorten).collect();
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
}

/// R-CONF-3: syntax errors are reported with their lines.
#[test]
fn invalid_toml_is_reported_with_its_lines() {
    let text = "[workers.a]\nrepo = \"x\"\nrepo = \"y\"\nport = [1,\n[shutdown]\nclients = 1 2 3\n";
    let problems = Place::new().problems(text);
    assert!(problems.iter().all(|line| line.contains(": this is not valid TOML: ")), "{problems:#?}");
    let lines: Vec<_> = problems.iter().filter_map(|line| line.split(':').nth(1)).collect();
    assert_eq!(lines[0], "3", "the second repo: {problems:#?}");
    assert!(lines.contains(&"6"), "{problems:#?}");
    assert_eq!(lines.len(), BTreeSet::from_iter(&lines).len(), "each line once: {problems:#?}");
}

/// R-CONF-4: the rest runs.
#[test]
fn one_bad_worker_does_not_stop_the_rest() {
    let text = "repos = [\"alpha\", \"nowhere\"]\n[workers.x]\nrepo = \"beta\"\ncommand = [\"./missing\", \"{port}\"]\n";
    let place = Place::new();
    let loaded = place.good(text);
    let unusable =
        |name: &str| loaded.config.workers[&name.parse::<WorkerName>().expect("a name")].unusable.clone();
    assert_eq!(unusable("alpha"), None);
    assert!(unusable("nowhere").is_some_and(|why| why.ends_with("nowhere does not exist")));
    assert!(unusable("x").is_some_and(|why| why.ends_with("beta/missing does not exist")));
    assert_eq!(loaded.problems.len(), 2);
    assert!(loaded.problems.iter().all(|problem| problem.severity == Severity::Worker));
}

#[test]
fn the_built_in_worker_needs_a_git_repository() {
    let place = Place::new();
    fs::create_dir(place.path().join("plain")).expect("made");
    let why = place.worker("repos = [\"plain\"]", "plain").unusable;
    assert!(why.is_some_and(|why| why.ends_with("plain is not inside a git repository")));
    let text = "[workers.plain]\nrepo = \"plain\"\ncommand = [\"sh\", \"{port}\"]\n";
    assert_eq!(place.worker(text, "plain").unusable, None);
}

#[test]
fn a_missing_stop_command_is_reported_but_the_worker_runs() {
    let text = "[workers.a]\nrepo = \"alpha\"\nstop_command = [\"no-such-program\"]\n";
    let place = Place::new();
    assert_eq!(place.worker(text, "a").unusable, None);
    assert_eq!(place.problems(text).len(), 1);
}

/// R-CONF-5.
#[test]
fn the_environment_overrides_the_file() {
    let place = Place::new()
        .set("MCP_SHUTDOWN_CLIENT_TIMEOUT", "1.5")
        .set("MCP_SHUTDOWN_WORKER_TIMEOUT", "7")
        .set("MCP_WORKER_GRACEFUL_TIMEOUT", "0.25");
    let loaded = place.good("[shutdown]\nclients = \"9s\"\n[workers.a]\nrepo = \"alpha\"\n");
    let shutdown = loaded.config.shutdown;
    assert_eq!(shutdown.clients, Duration::from_millis(1500));
    assert_eq!(shutdown.worker_total, Duration::from_secs(7));
    assert_eq!(shutdown.worker_graceful, Duration::from_millis(250));
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
}

/// R-CONF-5: text, negative, NaN, infinite, too large.
#[test]
fn an_invalid_override_is_a_warning_and_the_value_stays() {
    for value in ["", "soon", "10s", "-1", "0", "NaN", "inf", "1e300", "86401"] {
        let place = Place::new().set("MCP_SHUTDOWN_CLIENT_TIMEOUT", value);
        let loaded = place.good("repos = [\"alpha\"]\n[shutdown]\nclients = \"9s\"\n");
        assert_eq!(loaded.config.shutdown.clients, Duration::from_secs(9), "{value}");
        let [warning] = loaded.warnings.as_slice() else { panic!("{value}: {:?}", loaded.warnings) };
        assert!(
            warning.starts_with("MCP_SHUTDOWN_CLIENT_TIMEOUT=") && warning.ends_with("clients stays 9s"),
            "{warning}"
        );
    }
}

#[test]
fn the_total_is_never_shorter_than_the_graceful_part() {
    let place = Place::new();
    let shutdown = |text: &str| {
        let loaded = place.good(&format!("repos = [\"alpha\"]\n[shutdown]\n{text}"));
        (loaded.config.shutdown.worker_total.as_secs(), loaded.warnings.len())
    };
    assert_eq!(shutdown("worker_graceful = \"20s\""), (30, 0));
    assert_eq!(shutdown("worker_graceful = \"60s\""), (80, 1));
    assert_eq!(shutdown("worker_graceful = \"60s\"\nworker_total = \"5s\""), (60, 1));
}

#[test]
fn the_paths_of_the_daemon_are_absolute_and_have_defaults() {
    let place = Place::new();
    let daemon = place.good("[daemon]\nstate_dir = \"~/s\"\nsocket = \"run/c.sock\"\n").config.daemon;
    assert_eq!(daemon.state_dir, place.path().join("s"));
    assert_eq!(daemon.log_dir, place.path().join("s/logs"));
    assert_eq!(daemon.socket, place.path().join("run/c.sock"));
    let daemon = place.good("[daemon]\nstate_dir = \"s\"\nlog_dir = \"/var/l\"\n").config.daemon;
    assert_eq!(
        (daemon.socket, daemon.log_dir),
        (place.path().join("s/control.sock"), PathBuf::from("/var/l"))
    );
}

#[test]
fn a_socket_path_that_is_too_long_is_a_problem() {
    let long = "x".repeat(120);
    let problems = Place::new().problems(&format!("[daemon]\nsocket = \"/{long}\"\n"));
    let expected = format!(
        "config.toml:2: the socket path /{long} has 121 bytes, more than the 100 that every system accepts; write a shorter socket = \"...\" under [daemon]"
    );
    assert_eq!(problems, [expected]);
}

#[test]
fn resources_keep_their_order() {
    let text = "[resources.zeta]\nclose = [\"sh\", \"-c\", \"true\"]\ntimeout = 2.5\n[resources.alpha]\npath = \"cache.sock\"\n";
    let place = Place::new();
    let resources = place.good(text).config.resources;
    let names: Vec<_> = resources.iter().map(|resource| resource.name.as_str()).collect();
    assert_eq!(names, ["zeta", "alpha"]);
    assert_eq!(resources[0].timeout, Duration::from_millis(2500));
    assert_eq!(resources[1].path, Some(place.path().join("cache.sock")));
    assert_eq!(resources[1].timeout, Duration::from_secs(5));
}

#[test]
fn a_file_is_the_base_of_its_paths() {
    let place = Place::new();
    let file = place.path().join("mcpd.toml");
    fs::write(&file, "repos = [\"alpha\"]\n[daemon]\nstate_dir = \"s\"\nsocket = \"c\"\n").expect("written");
    let loaded = load(Source::File(file.clone()), &|_| None).expect("good");
    assert_eq!(loaded.config.file, Some(file));
    assert_eq!(loaded.config.daemon.state_dir, place.path().join("s"));
}

#[test]
fn a_file_that_can_not_be_read_is_named() {
    let place = Place::new();
    let missing = load(Source::File(place.path().join("none.toml")), &|_| None).expect_err("missing");
    assert!(missing.to_string().contains("none.toml"), "{missing}");
    let binary = place.path().join("binary.toml");
    fs::write(&binary, b"a = 1\n\xff").expect("written");
    let error = load(Source::File(binary), &|_| None).expect_err("not text");
    assert!(error.to_string().ends_with("line 2 is not UTF-8"), "{error}");
}

#[test]
fn repositories_from_the_command_line_need_no_file() {
    let place = Place::new().set("MCPD_TEST", "");
    let repos = vec![place.path().join("alpha"), place.path().join("nowhere")];
    let loaded = peek(Source::Repos(repos), &|_| None).expect("good");
    assert_eq!(loaded.config.file, None);
    let names: Vec<_> = loaded.config.workers.keys().map(WorkerName::as_str).collect();
    assert_eq!(names, ["alpha", "nowhere"]);
    assert!(loaded.problems[0].to_string().starts_with("--repo: nowhere: repository "));
}

#[test]
fn what_init_prints_can_be_loaded() {
    let place = Place::new();
    let odd = place.path().join("Odd \"name\"\\");
    fs::create_dir_all(odd.join(".git")).expect("made");
    let repos =
        [place.path().join("alpha"), place.path().join("beta"), odd.clone(), place.path().join("alpha")];
    let text = init::render(&repos);
    let source = Source::Text { name: "init".to_owned(), text, base: "/".into() };
    let loaded = peek(source, &|_| None).expect("no problems");
    assert_eq!((loaded.problems, loaded.warnings), (vec![], vec![]));
    let repos: Vec<_> = loaded.config.workers.values().map(|worker| worker.repo.clone()).collect();
    assert_eq!(repos, [place.path().join("alpha"), place.path().join("beta"), odd]);
}

/// The commented lines of `init` are valid too.
#[test]
fn what_init_comments_out_can_be_loaded_too() {
    let place = Place::new();
    let text = init::render(&[place.path().join("alpha")]);
    let live: String = text
        .lines()
        .filter(|line| !line.contains("\"...\""))
        .map(|line| match line.strip_prefix("# ") {
            Some(key) if key.split_once(" = ").is_some_and(|(key, _)| !key.contains(' ')) => {
                format!("{key}\n")
            }
            _ => format!("{line}\n"),
        })
        .collect();
    fs::write(place.path().join(".env"), "").expect("written");
    let loaded = place
        .load(&live.replace("[daemon]", "[daemon]\nstate_dir = \"s\""))
        .unwrap_or_else(|error| panic!("{error}\n{live}"));
    assert_eq!(loaded.config.workers.len(), 1);
    assert_eq!(loaded.config.shutdown, ShutdownConfig::default());
}

fn any_value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        any::<i64>().prop_map(|number| number.to_string()),
        any::<bool>().prop_map(|truth| truth.to_string()),
        "[ -~\u{e9}]{0,12}".prop_map(|text| toml::Value::String(text).to_string()),
        Just("nan".to_owned()),
        Just("-inf".to_owned()),
        Just("1e308".to_owned()),
        Just("0xffff_ffff_ffff_ffff".to_owned()),
        Just("99999999999999999999".to_owned()),
        Just("1979-05-27".to_owned()),
        Just("\"{port}{{name}}{x}{\"".to_owned()),
        Just("\"9223372036854775807h\"".to_owned()),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3)
                .prop_map(|items| format!("[{}]", items.join(", "))),
            inner.prop_map(|value| format!("{{ a = {value} }}")),
        ]
    })
}

const KEYS: [&str; 26] = [
    "repos",
    "daemon",
    "daemon.socket",
    "daemon.state_dir",
    "daemon.log_dir",
    "shutdown",
    "shutdown.clients",
    "shutdown.worker_total",
    "shutdown.worker_graceful",
    "shutdown.verification",
    "shutdown.force_ports",
    "defaults",
    "defaults.command",
    "defaults.env",
    "defaults.env_file",
    "workers",
    "workers.a",
    "workers.a.port",
    "workers.b.repo",
    "workers.a.ready",
    "workers.a.shutdown_path",
    "workers.a.stop_command",
    "workers.a.restart",
    "workers.a.restart_unhealthy",
    "resources",
    "resources.r.close",
];

proptest! {
    /// R-CONF-3.
    #[test]
    fn any_text_is_a_configuration_or_problems(text in "[\\[\\]a-d=.\"'{}#,0-9\\-\n \u{e9}]{0,60}") {
        let source = Source::Text { name: "x".to_owned(), text, base: "/nowhere".into() };
        let _ = peek(source, &|_| None);
    }

    #[test]
    fn any_value_in_any_key_is_accepted_or_a_problem(values in proptest::collection::btree_map(
        proptest::sample::select(KEYS.to_vec()), any_value(), 1..4)) {
        let text: String = values.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
        let source = Source::Text { name: "x".to_owned(), text: text.clone(), base: "/nowhere".into() };
        match peek(source, &|_| None) {
            Ok(loaded) => prop_assert!(loaded.config.shutdown.worker_total >= loaded.config.shutdown.worker_graceful),
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }
}

/// The first mistakes of everybody: reported with the text to write, and the worker runs all the same.
#[test]
fn first_mistakes_are_reported_with_what_to_write() {
    let place = Place::new();
    fs::write(place.path().join("alpha/.env"), "A=1\n").expect("written");
    let text = r#"repos = ["beta", "./beta"]
[workers.a]
repo = "alpha"
port = 8081
command = ["sh", "$PORT", "8081", "~/x", "{port}"]
env = { PORT = "8081" }
[workers.b]
repo = "alpha"
port = 8082
command = ["sh -c x {port}"]
transport = "http"
[workers.c]
repo = "alpha"
port = 8083
command = ["sh", "{port}"]
env_file = ".env"
"#;
    let loaded = place.load(text).expect("usable");
    let problems: Vec<_> = loaded.problems.iter().map(ToString::to_string).collect();
    let has = |line: &str, part: &str| {
        let found = problems.iter().any(|problem| problem.starts_with(line) && problem.contains(part));
        assert!(found, "{line} {part}: {problems:#?}");
    };
    has("config.toml:1: ", "twice; it is served once");
    has("config.toml:5: ", "contains $PORT, which is not expanded; write {port}");
    has("config.toml:5: ", "contains 8081, the port that mcpd itself listens on; write {port}");
    has("config.toml:5: ", "write the whole path (");
    has("config.toml:5: ", "the variable PORT contains 8081");
    has("config.toml:10: ", r#"write command = ["sh", "-c", "x", "{port}"]"#);
    has("config.toml:16: ", "alpha/.env\": a relative path starts at the configuration's directory");
    let worker = |name: &str| &loaded.config.workers[&name.parse::<WorkerName>().expect("a name")];
    assert!(
        worker("a").unusable.is_none()
            && worker("a").hint.as_deref().is_some_and(|hint| hint.contains("{port}"))
    );
    assert!(worker("b").unusable.is_some() && worker("c").unusable.is_some());

    let refused = place.load("[workers.a]\nrepo = \"alpha\"\ncommand = \"uv run x\"\n");
    let refused = refused.err().map(|error| error.to_string()).unwrap_or_default();
    assert!(refused.contains(r#"write command = ["uv", "run", "x"]"#), "{refused}");
}
