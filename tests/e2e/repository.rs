//! The built-in repository worker with a real MCP client, that of the Rust SDK.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use mcpd_common::exit_code::program;
use mcpd_tests::{BOUND, ConfigBuilder, Daemon, Output, WorkerSpec, command, ports, repo};
use rmcp::ServiceExt;
use rmcp::model::CallToolRequestParams;
use rmcp::service::{RoleClient, RunningService};
use rmcp::transport::StreamableHttpClientTransport;
use serde_json::{Value, json};

type Client = RunningService<RoleClient, ()>;

async fn connect(daemon: &Daemon, worker: &str, path: &str) -> Client {
    let url = format!("http://127.0.0.1:{}{path}", daemon.port(worker));
    ().serve(StreamableHttpClientTransport::from_uri(url)).await.expect("the client initializes")
}

/// The text of a tool's result, and whether it is an error.
async fn call(client: &Client, tool: &'static str, arguments: Value) -> (String, bool) {
    let arguments = arguments.as_object().cloned().expect("an object");
    let request = CallToolRequestParams::new(tool).with_arguments(arguments);
    let result = client.call_tool(request).await.expect("a response");
    let text = result.content.first().and_then(|content| content.as_text());
    (text.expect("text").text.clone(), result.is_error == Some(true))
}

/// R-WORK: at `/mcp` and `/mcp/`; then a clean shutdown with a connected client.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_client_calls_every_tool() {
    let mut daemon = Daemon::start(ConfigBuilder::new().worker("alpha", WorkerSpec::built_in()));
    let directory = daemon.home().join("repos/alpha");
    repo::git(&directory, &["branch", "topic"]);
    std::fs::write(directory.join("README.md"), "# A repository\n\nhello, changed\n").expect("written");

    for path in ["/mcp", "/mcp/"] {
        let client = connect(&daemon, "alpha", path).await;
        let tools = client.list_all_tools().await.expect("tools");
        assert_eq!(tools.len(), 9);
        for (tool, arguments, expected) in [
            ("status", json!({}), " M README.md"),
            ("log", json!({ "limit": 5 }), "Begin"),
            ("diff", json!({}), "+hello, changed"),
            ("show", json!({ "revision": "main" }), "Begin"),
            ("blame", json!({ "path": "README.md", "revision": "HEAD" }), "# A repository"),
            ("branches", json!({}), "topic"),
            ("grep", json!({ "pattern": "HELLO", "ignore_case": true }), "README.md:3:hello, changed"),
            ("list_files", json!({}), "README.md"),
            ("read_file", json!({ "path": "README.md", "start_line": 3 }), "hello, changed"),
        ] {
            let (text, failed) = call(&client, tool, arguments).await;
            assert!(!failed && text.contains(expected), "{tool}: {text}");
        }
        let (text, failed) = call(&client, "read_file", json!({ "path": "../../config.toml" })).await;
        assert!(failed && text.contains("outside the repository"), "{text}");
        client.cancel().await.expect("the client ends");
    }

    let client = connect(&daemon, "alpha", "/mcp").await;
    let output = daemon.mcpctl(&["shutdown", "--wait"]);
    drop(client);
    let report = daemon.assert_no_trace(0);
    assert_eq!(output.code, Some(0), "{output:?}");
    assert_eq!(report.workers[0].answer.as_deref(), Some("202"));
}

/// `mcpd` in this home, with the programs of `home/bin` before others.
fn mcpd(home: &Path, args: &[&str]) -> Output {
    let path = format!("{}:{}", home.join("bin").display(), std::env::var("PATH").expect("set"));
    let config = ConfigBuilder::new().env("PATH", &path).env("GIT_CONFIG_NOSYSTEM", "1");
    command::start(Daemon::command(home, &config).args(args).current_dir(home)).finish(BOUND)
}

/// What `check-config` and `worker` say of this repository, which neither accepts.
#[track_caller]
fn refusals(home: &Path, repo: &str) -> [String; 2] {
    let text = format!(
        "[daemon]\nstate_dir = \"state\"\nsocket = \"run/socket\"\n\n[workers.alpha]\nrepo = {repo:?}\n"
    );
    fs::write(home.join("config.toml"), text).expect("written");
    let checked = mcpd(home, &["check-config", "config.toml"]).expect_code(program::CONFIG);
    let port = ports::claim().port().to_string();
    let worker = mcpd(home, &["worker", "--repo", repo, "--port", &port]).expect_code(program::CONFIG);
    let problem = checked.stderr.lines().find(|line| line.starts_with("config.toml:6: alpha: "));
    [problem.unwrap_or_else(|| panic!("no problem with its line in {checked:?}")).to_owned(), worker.stderr]
}

/// A bare repository has no working tree to serve.
#[test]
fn a_bare_repository_is_refused_with_what_to_do() {
    let home = tempfile::tempdir().expect("a temporary directory");
    fs::create_dir(home.path().join("bare.git")).expect("made");
    repo::git(&home.path().join("bare.git"), &["init", "--quiet", "--bare"]);
    for text in refusals(home.path(), "bare.git") {
        for part in ["bare.git is a bare git repository", "must be run in a work tree", "name a clone"] {
            assert!(text.contains(part), "{part:?} is not in {text:?}");
        }
    }
}

/// git serves no repository of another user; its message says how to allow it.
#[test]
fn a_repository_of_another_user_is_refused_with_the_reason_of_git() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let directory = home.path().join("repo");
    repo::init(&directory);
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(&directory, Some(4242), None).expect("given away");
    } else {
        // Only root can give a repository away, so git's part is played.
        let git = home.path().join("bin/git");
        fs::create_dir(home.path().join("bin")).expect("made");
        let script = "#!/bin/sh\necho \"fatal: detected dubious ownership in repository at '$PWD'\n\
                      \tgit config --global --add safe.directory $PWD\" >&2\nexit 128\n";
        fs::write(&git, script).expect("written");
        fs::set_permissions(&git, fs::Permissions::from_mode(0o755)).expect("executable");
    }
    for text in refusals(home.path(), "repo") {
        for part in ["git refuses ", "detected dubious ownership", "--add safe.directory"] {
            assert!(text.contains(part), "{part:?} is not in {text:?}");
        }
    }
}
