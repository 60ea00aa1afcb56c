//! What the reference says besides the keys. Markdown with code between backticks and nothing else.

use mcpd_common::config::schema::{Key, KeyDefault, Kind};
use serde_json::Value;

pub const INTRODUCTION: &[&str] = &[
    "The configuration is a file in TOML. `mcpd` uses the file of `--config`, else that of the variable `MCPD_CONFIG`, \
     else `~/.config/mcpd/config.toml` (on macOS `~/Library/Application Support/mcpd/config.toml`). Every key may be \
     omitted unless its default is \"required\".",
    "`mcpd init --write DIR` writes a configuration to begin with. `mcpd check-config` shows the values that mcpd inferred, and \
     every problem with its line. An unknown key is an error. A problem of a single worker, such as a missing \
     repository, does not keep the others from running, unless mcpd is started with `--strict`.",
];

pub const EDITORS: &str = "For completion and checks in editors that use Taplo (VS Code with Even Better TOML, Helix, \
                           Neovim), save the JSON schema beside the configuration, and begin the configuration with \
                           the line that names it:";

pub const SAVE_SCHEMA: &str = "mcpd schema > ~/.config/mcpd/schema.json";

pub const USE_SCHEMA: &str = "#:schema ./schema.json";

/// A type, and how its values are written.
pub const TYPES: &[(&str, &str)] = &[
    ("path", "A relative path begins at the directory of the configuration. `~` is the home directory."),
    (
        "duration",
        "A text with units (`\"10s\"`, `\"1m 30s\"`, `\"500ms\"`) or a number of seconds (`10`, `0.5`); more than 0, at \
         most 24 h.",
    ),
    (
        "command",
        "A list of strings: the program and its arguments. There is no shell: in arguments neither variables nor `~` \
         are expanded. A program without a slash is looked up in `PATH`; else it is relative to `repo`, or for \
         resources to the directory of the configuration.",
    ),
    ("table of strings", "`{ NAME = \"value\" }`."),
    ("probe", "`\"http:/PATH\"`, `\"tcp\"` or `\"none\"`."),
    ("URL path", "Begins with a slash, as in `\"/shutdown\"`."),
];

pub const PLACEHOLDERS: &str = "In `command`, `stop_command` and `env` of workers, `{port}` is the port that the worker \
                                has to listen on, `{repo}` its `repo` and `{name}` its name. With `transport = \
                                \"http\"` the port is a private one, a new one at each start, and not `port`. \
                                `{{port}}` is the text {port}. Braces around anything else stay as they are, but an \
                                unknown lower-case word in braces is an error.";

/// Variables that replace values of the file.
pub const ENVIRONMENT: &[(&str, &str)] = &[
    ("MCP_SHUTDOWN_CLIENT_TIMEOUT", "Seconds that replace `clients` of `[shutdown]`."),
    ("MCP_SHUTDOWN_WORKER_TIMEOUT", "Seconds that replace `worker_total` of `[shutdown]`."),
    ("MCP_WORKER_GRACEFUL_TIMEOUT", "Seconds that replace `worker_graceful` of `[shutdown]`."),
];

pub const EXAMPLE: &str = r#"repos = ["~/src/alpha", "~/src/beta"]

[workers.docs]
repo = "~/src/docs"
port = 8082
command = ["uv", "run", "server.py", "--port", "{port}"]
env = { LOG_LEVEL = "info" }
shutdown_path = ""

[workers.search]
repo = "~/src/search"
command = ["docker", "run", "--rm", "-p", "127.0.0.1:{port}:8080", "search"]

[defaults]
restart_unhealthy = true

[shutdown]
worker_graceful = "5s"

[resources.cache]
close = ["redis-cli", "-p", "6390", "shutdown"]
path = "/tmp/docs-cache.sock"
"#;

/// `"own"`, `"never"` or `"any"` for a choice, else the name of the type.
pub fn shown_type(key: &Key) -> String {
    let Kind::Choice(choices) = &key.kind else { return key.kind.name().to_owned() };
    let texts: Vec<_> = choices.iter().map(|choice| format!("`\"{}\"`", choice.text)).collect();
    match texts.split_last() {
        Some((last, first)) if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        _ => texts.concat(),
    }
}

pub fn shown_default(default: &KeyDefault) -> String {
    match default {
        KeyDefault::Value(value) if is_empty(value) => "empty".to_owned(),
        KeyDefault::Value(value) => format!("`{value}`"),
        KeyDefault::Derived(text) => (*text).to_owned(),
        KeyDefault::None => "none".to_owned(),
    }
}

fn is_empty(value: &Value) -> bool {
    value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(|table| table.is_empty())
}
