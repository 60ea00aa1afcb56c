//! Pages in browsers as clients, and workers with a list of hosts (R-CLIENT-13).

use std::thread;

use mcpd_tests::mcp::{Client, JSON};
use mcpd_tests::wire::{self, Reply, compose};
use mcpd_tests::{ConfigBuilder, Daemon, WorkerSpec};
use serde_json::{Value, json};

use crate::front_door::behind_front_door;

const PAGE: &str = "http://localhost:3000";

fn start(worker: WorkerSpec) -> Daemon {
    Daemon::start(ConfigBuilder::new().worker("alpha", worker))
}

fn preflight(daemon: &Daemon, origin: &str) -> Reply {
    let origin = format!("origin: {origin}");
    let fields = [
        &*origin,
        "access-control-request-method: POST",
        "access-control-request-headers: content-type,mcp-protocol-version,mcp-session-id",
    ];
    wire::request(daemon.port("alpha"), &compose("OPTIONS /mcp", &fields, ""))
}

fn initialize(daemon: &Daemon, origin: &str) -> Reply {
    let params = json!({
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "page", "version": "1" }
    });
    let message = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params });
    let origin = format!("origin: {origin}");
    wire::request(
        daemon.port("alpha"),
        &compose("POST /mcp", &[JSON[0], JSON[1], &origin], &message.to_string()),
    )
}

/// Whether a browser lets the page read the response, and this field of it.
fn assert_readable(reply: &Reply, origin: &str, field: &str) {
    assert_eq!(reply.header("access-control-allow-origin"), Some(origin), "{reply:?}");
    assert_eq!(reply.header("vary"), Some("Origin"), "{reply:?}");
    let exposed = reply.header("access-control-expose-headers").unwrap_or_default().to_lowercase();
    assert!(exposed.contains(field) && reply.header(field).is_some(), "{reply:?}");
}

/// All that a browser does before and with the first requests of a page.
fn assert_page_is_served(daemon: &Daemon, origin: &str) {
    let reply = preflight(daemon, origin);
    assert_eq!(reply.status, 204);
    assert_eq!(reply.header("access-control-allow-origin"), Some(origin));
    for (name, values) in [
        ("access-control-allow-methods", &["GET", "POST", "DELETE"][..]),
        (
            "access-control-allow-headers",
            &["content-type", "mcp-protocol-version", "mcp-session-id", "authorization"],
        ),
    ] {
        let allowed: Vec<_> = reply.header(name).unwrap_or_default().split(", ").collect();
        assert!(values.iter().all(|value| allowed.contains(value)), "{reply:?}");
    }
    let reply = initialize(daemon, origin);
    assert_eq!(reply.status, 200);
    assert_readable(&reply, origin, "mcp-session-id");
}

#[test]
fn a_page_of_this_machine_has_a_session() {
    let mut daemon = start(behind_front_door(""));
    for origin in [PAGE, "http://tauri.localhost", "tauri://localhost"] {
        assert_page_is_served(&daemon, origin);
    }
    let origin = format!("origin: {PAGE}");
    let client = Client::initialize_with(daemon.port("alpha"), &[&origin]);
    let reply = client.post(&client.tool("slow", &json!({})));
    assert_eq!(reply.header("access-control-allow-origin"), Some(PAGE), "of an event stream");
    let other = wire::request(daemon.port("alpha"), &compose("GET /echo", &[], ""));
    assert_eq!(other.header("access-control-allow-origin"), None, "of a client without an origin");
    daemon.assert_shuts_down(0);
}

#[test]
fn a_page_can_use_a_server_that_speaks_stdio() {
    let mut daemon = start(WorkerSpec::stdio(""));
    assert_page_is_served(&daemon, PAGE);
    daemon.assert_shuts_down(0);
}

#[test]
fn extensions_are_allowed_by_their_scheme() {
    let mut daemon = start(
        behind_front_door("").with(r#"allowed_origins = ["chrome-extension://*", "https://app.example"]"#),
    );
    for origin in ["chrome-extension://abcdefgh", "https://app.example"] {
        assert_page_is_served(&daemon, origin);
    }
    assert_eq!(preflight(&daemon, "moz-extension://abc").status, 403);
    daemon.assert_shuts_down(0);
}

/// A page must be able to tell its user that a token is needed.
#[test]
fn a_page_can_read_the_demand_for_a_token() {
    let mut daemon = start(behind_front_door("--token right"));
    let reply = initialize(&daemon, PAGE);
    assert_eq!(reply.status, 401);
    assert_readable(&reply, PAGE, "www-authenticate");
    daemon.assert_shuts_down(0);
}

#[test]
fn a_refusal_names_the_line_to_write() {
    let mut daemon = start(behind_front_door(""));
    let refused = initialize(&daemon, "https://app.example");
    assert_eq!((refused.status, refused.header("access-control-allow-origin")), (403, None));
    let error = refused.json();
    let message = error["error"]["message"].as_str().expect("JSON-RPC").to_owned();
    assert!(
        message.contains(r#"allowed_origins = ["https://app.example"] under [workers.alpha]"#),
        "{message}"
    );
    daemon.assert_shuts_down(0);
    let line = r#"allowed_origins = ["https://app.example"]"#;
    let mut daemon = start(behind_front_door("").with(line));
    assert_page_is_served(&daemon, "https://app.example");
    daemon.assert_shuts_down(0);
}

fn misdirected(daemon: &Daemon) -> Value {
    wire::request(daemon.port("alpha"), &compose("GET /counts", &[], "")).json()["misdirected"].clone()
}

/// The clients, which connect to `localhost`, notice nothing.
fn assert_host_is_found_out(flags: &str) {
    let mut daemon = start(behind_front_door(flags));
    let client = Client::initialize(daemon.port("alpha"));
    assert_eq!(misdirected(&daemon), 1, "once");
    thread::scope(|scope| {
        (0..10).for_each(|_| drop(scope.spawn(|| assert_eq!(client.state()["initialized"], true))));
    });
    assert_eq!(misdirected(&daemon), 1);
    crate::front_door_restart::kill_worker(&mut daemon);
    assert_eq!(client.state()["initialized"], true);
    assert_eq!(misdirected(&daemon), 0, "the next process is not even asked");
    daemon.assert_shuts_down(0);
}

/// Python servers.
#[test]
fn a_worker_that_responds_421_gets_its_own_host() {
    assert_host_is_found_out("--host-list 421");
}

/// TypeScript servers.
#[test]
fn a_worker_that_responds_403_about_its_host_gets_its_own() {
    assert_host_is_found_out("--host-list 403");
}

#[test]
fn the_configuration_says_which_host_a_worker_gets() {
    let of_worker = behind_front_door("--host-list 421").with("host = \"worker\"");
    let of_client = behind_front_door("--host-list 421").with("host = \"keep\"");
    let mut daemon = Daemon::start(ConfigBuilder::new().worker("alpha", of_worker).worker("beta", of_client));
    Client::initialize(daemon.port("alpha"));
    assert_eq!(misdirected(&daemon), 0);
    let refused = wire::request(daemon.port("beta"), &compose("POST /mcp", &JSON, "{}"));
    assert_eq!(refused.status, 421);
    daemon.assert_shuts_down(0);
}

/// A refusal for another reason is the client's.
#[test]
fn another_403_is_passed_on() {
    let mut daemon = start(behind_front_door("--unknown-session 403"));
    let reply = wire::request(
        daemon.port("alpha"),
        &compose(
            "POST /mcp",
            &[JSON[0], JSON[1], "mcp-session-id: a"],
            r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#,
        ),
    );
    assert_eq!(reply.status, 403);
    assert!(reply.text().contains("No valid session ID"));
    daemon.assert_shuts_down(0);
}
