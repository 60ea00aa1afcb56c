//! The configuration that `mcpd init DIR...` writes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::names;

const HEAD: &str = "\
# Configuration of mcpd. `mcpd check-config FILE` shows what is inferred and every problem.
# Paths may begin with ~ or be relative to this file. Commented lines show the default.

[daemon]
# socket = \"...\"            # $XDG_RUNTIME_DIR/mcpd/control.sock, else in the state directory
# state_dir = \"...\"         # journal, remembered ports, last shutdown
# log_dir = \"...\"           # logs/ in the state directory

[shutdown]
# worker_graceful = \"10s\"   # from the shutdown request until a worker counts as late
# worker_total = \"30s\"      # request and SIGTERM together; then SIGKILL
# clients = \"30s\"           # for all clients to disconnect
# verification = \"15s\"
# force_ports = \"own\"       # which processes may be killed to free a port: own, never, any

[defaults]                  # for all workers
# restart = \"always\"        # always, on-failure, never
# restart_unhealthy = false
";

const WORKER: &str = "\
# port = 8081               # omitted: derived from the path (8100 to 8999), and always the same
# command = [\"uv\", \"run\", \"server.py\", \"--port\", \"{port}\"]  # omitted: the built-in git worker
# env = { LOG_LEVEL = \"info\" }
# env_file = \".env\"
# transport = \"http\"        # http: mcpd listens, {port} is a private port; direct: the worker listens
# ready = \"http:/health\"    # http:PATH, tcp, none
# shutdown_path = \"/shutdown\"  # \"\" if the server has no such route
";

/// A configuration with a built-in worker for each of these repositories. The optional keys are shown,
/// commented out, for the first worker only.
pub fn render(repos: &[PathBuf]) -> String {
    let mut text = HEAD.to_owned();
    let mut taken = BTreeSet::new();
    let mut seen = BTreeSet::new();
    for repo in repos.iter().map(|repo| absolute(repo)).filter(|repo| seen.insert(repo.clone())) {
        let name = names::derive(&repo, &taken);
        let path = toml::Value::String(repo.to_string_lossy().into_owned());
        text.push_str(&format!("\n[workers.{name}]\nrepo = {path}\n"));
        if taken.is_empty() {
            text.push_str(WORKER);
        }
        taken.insert(name);
    }
    text
}

/// The user may save the file in any directory, so its paths must not be relative.
fn absolute(repo: &Path) -> PathBuf {
    std::fs::canonicalize(repo).or_else(|_| std::path::absolute(repo)).unwrap_or_else(|_| repo.to_owned())
}
