//! `mcpd` without any configuration in a git repository, with a real MCP client, that of the Rust SDK.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use mcpd_common::config::Transport;
use mcpd_common::status::{StatusReport, WorkerState};
use mcpd_tests::daemon::{LONGEST_SHUTDOWN, mcpctl};
use mcpd_tests::{BOUND, ConfigBuilder, Daemon, Output, command, ports, repo, until};
use rmcp::ServiceExt;
use rmcp::model::CallToolRequestParams;
use rmcp::service::{RoleClient, RunningService};
use rmcp::transport::StreamableHttpClientTransport;
use serde_json::{Value, json};

/// Runs `mcpctl` without variables that name a socket or a configuration.
fn run_mcpctl(home: &Path, args: &[&str]) -> Output {
    let mut command = mcpctl(home);
    command.env_remove("MCPD_SOCKET").env_remove("MCPD_CONFIG").args(args);
    command::start(&mut command).finish(LONGEST_SHUTDOWN)
}

/// A repository with three commits of two people, a branch, a tag, and something changed.
fn repository(home: &Path) -> PathBuf {
    let directory = home.join("src").join("Alpha Project");
    repo::init(&directory);
    fs::create_dir(directory.join("src")).expect("made");
    fs::write(directory.join("src/main.rs"), "fn main() {\n    // TODO: greet\n}\n").expect("written");
    repo::git(&directory, &["add", "."]);
    repo::git(&directory, &["commit", "--quiet", "--message=Add a program"]);
    repo::git(&directory, &["tag", "v1"]);
    repo::git(&directory, &["branch", "topic"]);
    fs::write(directory.join("README.md"), "# A repository\n\nhello, world\n").expect("written");
    repo::git(&directory, &["commit", "--quiet", "--all", "--message=Greet the world"]);
    fs::write(directory.join("src/main.rs"), "fn main() {\n    hello();\n}\n").expect("written");
    directory
}

type Client = RunningService<RoleClient, ()>;

async fn call(client: &Client, tool: &str, arguments: Value) -> (String, bool) {
    let arguments = arguments.as_object().cloned().expect("an object");
    let request = CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments);
    let result = client.call_tool(request).await.expect("a response");
    let text = result.content.first().and_then(|content| content.as_text());
    (text.expect("text").text.clone(), result.is_error == Some(true))
}

/// Tool calls: tool, arguments, text that the result contains, and text that it does not contain.
fn tool_calls() -> Vec<(&'static str, Value, &'static str, &'static str)> {
    vec![
        ("status", json!({}), " M src/main.rs", "README.md"),
        ("log", json!({ "limit": 2 }), "Greet the world", "Begin"),
        ("log", json!({ "paths": ["src"] }), "Add a program", "Greet"),
        ("diff", json!({}), "+    hello();", "README.md"),
        ("diff", json!({ "from": "v1", "to": "HEAD" }), "+hello, world", "main.rs"),
        ("show", json!({ "revision": "v1" }), "Add a program", "Greet"),
        ("blame", json!({ "path": "README.md", "start_line": 3, "end_line": 3 }), "hello, world", "# A"),
        ("branches", json!({ "tags": true }), "topic", "nowhere"),
        ("grep", json!({ "pattern": "TODO", "revision": "HEAD" }), "src/main.rs:2:", "README.md"),
        ("list_files", json!({ "path": "src" }), "main.rs", "README.md"),
        ("read_file", json!({ "path": "src/main.rs", "revision": "HEAD" }), "TODO: greet", "hello()"),
    ]
}

/// R-CLI, R-WORK: start, initialize, list and call every tool, check, shut down.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repository_is_served_without_a_configuration() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let directory = repository(home.path());
    let mut mcpd = Daemon::command(home.path(), &ConfigBuilder::new());
    fs::create_dir(home.path().join("run")).expect("made");
    let daemon = command::start(mcpd.current_dir(directory.join("src")));

    let status = until("the repository to be served", BOUND, || {
        let output = run_mcpctl(home.path(), &["status", "--json"]);
        let status: StatusReport = serde_json::from_str(&output.stdout).ok()?;
        let is_ready = status.workers.iter().all(|worker| worker.state == WorkerState::Ready);
        (status.daemon.is_some() && is_ready).then_some(status)
    });
    let [worker] = status.workers.as_slice() else { panic!("{status:?}") };
    assert_eq!((worker.name.as_str(), Path::new(&worker.repo)), ("alpha-project", directory.as_path()));
    assert!((8100..=8999).contains(&worker.port.get()), "R-CONF-2: {}", worker.port);
    let socket = home.path().join("run/mcpd/control.sock");
    assert_eq!(status.daemon.map(|daemon| PathBuf::from(daemon.socket)), Some(socket.clone()));
    let mode = |path: &Path| fs::metadata(path).expect("it exists").permissions().mode() & 0o7777;
    assert_eq!((mode(&socket), mode(&home.path().join("run/mcpd"))), (0o600, 0o700), "R-RPC");

    call_every_tool(&worker.url).await;

    run_mcpctl(home.path(), &["health"]).expect_code(0);
    run_mcpctl(home.path(), &["verify-ports"]).expect_code(0);
    run_mcpctl(home.path(), &["shutdown", "--wait"]).expect_code(0);
    let output = daemon.finish(LONGEST_SHUTDOWN).expect_code(0);
    let line = format!("claude mcp add --transport http alpha-project {}", worker.url);
    assert!(output.stdout.contains(&line), "{output:?}");
    assert!(!socket.exists() && ports::is_free(worker.port));
    let report = run_mcpctl(home.path(), &["report", "--json"]).expect_code(0).json();
    assert_eq!((&report["exit_code"], &report["workers"][0]["departure"]), (&0.into(), &"left".into()));
    assert_eq!(status_of(&directory), " M src/main.rs\n", "the repository is unchanged");
}

async fn call_every_tool(url: &str) {
    let transport = StreamableHttpClientTransport::from_uri(url);
    let client: Client = ().serve(transport).await.expect("the client initializes");
    let info = client.peer_info().expect("known since the initialization").clone();
    assert!(info.capabilities.tools.is_some(), "{info:?}");
    let tools = client.list_all_tools().await.expect("tools");
    let mut names: Vec<_> = tools.iter().map(|tool| tool.name.as_ref()).collect();
    names.sort_unstable();
    let mut called: Vec<_> = tool_calls().iter().map(|call| call.0).collect();
    called.sort_unstable();
    called.dedup();
    assert_eq!(names, called, "every tool is called");
    for tool in &tools {
        assert!(tool.description.as_ref().is_some_and(|text| !text.is_empty()), "{}", tool.name);
        assert!(tool.annotations.as_ref().is_some_and(|it| it.read_only_hint == Some(true)), "{}", tool.name);
    }
    for (tool, arguments, has, has_not) in tool_calls() {
        let (text, failed) = call(&client, tool, arguments.clone()).await;
        assert!(!failed && text.contains(has) && !text.contains(has_not), "{tool} {arguments}: {text}");
    }
    let (text, failed) = call(&client, "show", json!({ "revision": "nowhere" })).await;
    assert!(failed && text.contains("nowhere"), "{text}");
    client.cancel().await.expect("the client ends");
}

fn status_of(directory: &Path) -> String {
    let mut git = std::process::Command::new("git");
    let git = git.args(["status", "--porcelain"]).current_dir(directory);
    command::start(git).finish(BOUND).expect_code(0).stdout
}

/// Any MCP server, with nothing written anywhere.
#[test]
fn a_command_is_served_without_a_configuration() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let mut mcpd = Daemon::command(home.path(), &ConfigBuilder::new());
    fs::create_dir(home.path().join("run")).expect("made");
    let server = mcpd_tests::binaries::fixture_worker();
    let daemon = command::start(mcpd.current_dir(home.path()).arg("--").arg(server).arg("--stdio"));
    let worker = until("the server to be served", BOUND, || {
        let output = run_mcpctl(home.path(), &["status", "--json"]);
        let status: StatusReport = serde_json::from_str(&output.stdout).ok()?;
        status.workers.into_iter().find(|worker| worker.state == WorkerState::Ready)
    });
    assert_eq!((worker.name.as_str(), worker.transport), ("fixture_worker", Transport::Stdio));
    assert_eq!(Path::new(&worker.repo), home.path().canonicalize().expect("it exists"));
    assert_eq!(mcpd_tests::mcp::Client::initialize(worker.port).state()["initialized"], 1);
    run_mcpctl(home.path(), &["shutdown", "--wait"]).expect_code(0);
    daemon.finish(LONGEST_SHUTDOWN).expect_code(0);
    assert!(ports::is_free(worker.port));
}
