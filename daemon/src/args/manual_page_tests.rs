//! mcpd(8) is generated from the command line.

use clap::CommandFactory;
use mcpd_common::exit_code::{meaning, program};

use super::Args;

#[path = "../../../tests/generated/mod.rs"]
mod generated;

use generated::command_page::{Rest, SECTIONS, render};
use generated::{file, roff};

#[test]
fn the_manual_page_of_mcpd_is_up_to_date() {
    let mut exit_status: Vec<_> = [0, 1, 2, 3, 4, 5, 6, 100, 101, 102]
        .map(|code| (code.to_string(), format!("{}.", meaning(code))))
        .to_vec();
    let start = [
        (program::USAGE, "mcpd did not start: wrong usage."),
        (program::SOFTWARE, "mcpd did not start: internal error."),
        (program::TEMPFAIL, "mcpd did not start: it is already running."),
        (program::CONFIG, "mcpd did not start: the configuration is invalid. Also `mcpd check-config`."),
    ];
    exit_status.extend(start.map(|(code, text)| (code.to_string(), text.to_owned())));
    let rest = Rest {
        description: &[
            "mcpd starts a worker for each repository or server of the configuration, listens on its port, and \
             forwards requests of MCP clients to it. A worker that exits is started again; clients keep their \
             sessions.",
            "`SIGTERM` and `SIGINT` (Ctrl-C) begin a shutdown, a second one sends `SIGKILL` to all workers at once. \
             Workers are asked to exit; then they and all of their descendants get `SIGTERM`, and after a time limit \
             `SIGKILL`. At the end mcpd verifies that no process, zombie, port or socket file is left. The exit \
             status is the most severe finding.",
            "mcpd consists of two processes: the one that was started, named mcp-guardian, and its child, the daemon. \
             If the daemon dies, the guardian kills everything that is left.",
        ],
        examples: &[
            ("mcpd", "Serve the git repository of the current directory:"),
            (
                "mcpd init --write ~/src/alpha ~/src/beta\nmcpd check-config\nmcpd",
                "Write a configuration, check it, and use it:",
            ),
        ],
        exit_status: &exit_status,
        environment: &[
            ("MCPD_CONFIG", "The configuration file, unless `--config` names one."),
            (
                "MCP_SHUTDOWN_CLIENT_TIMEOUT, MCP_SHUTDOWN_WORKER_TIMEOUT, MCP_WORKER_GRACEFUL_TIMEOUT",
                "Seconds that replace `clients`, `worker_total` and `worker_graceful` of the configuration.",
            ),
            (
                "MCPD_CGROUP",
                "A cgroup v2 that is delegated to mcpd, in which each worker gets one of its own; `off` for none.",
            ),
            ("XDG_RUNTIME_DIR", "Directory of the control socket."),
            ("NOTIFY_SOCKET", "Set by systemd: where mcpd reports its state."),
        ],
        files: &[
            ("~/.config/mcpd/config.toml", "Configuration; see mcpd.toml(5)."),
            ("/etc/mcpd/config.toml", "Configuration of a service of the machine."),
            ("~/.local/state/mcpd", "Journal, report of the last shutdown, derived ports, and logs."),
            ("$XDG_RUNTIME_DIR/mcpd/control.sock", "Control socket, for mcpctl(1)."),
        ],
        see_also: "mcpctl(1), mcpd.toml(5), systemd.service(5)",
    };
    let page = render(Args::command(), 8, &rest);
    assert_eq!(roff::sections(&page), SECTIONS);
    file::assert_up_to_date("docs/man/mcpd.8", &page);
}
