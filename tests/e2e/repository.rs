//! The built-in repository worker with a real MCP client, that of the Rust SDK.

use mcpd_tests::{ConfigBuilder, Daemon, WorkerSpec, repo};
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
