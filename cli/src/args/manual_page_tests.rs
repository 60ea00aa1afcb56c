//! mcpctl(1) is generated from the command line.

use clap::CommandFactory;
use mcpd_common::exit_code::{meaning, program};

use super::Cli;

#[path = "../../../tests/generated/mod.rs"]
mod generated;

use generated::command_page::{Rest, SECTIONS, render};
use generated::{file, roff};

#[test]
fn the_manual_page_of_mcpctl_is_up_to_date() {
    let mut exit_status: Vec<_> = [0, 1, 2, 3, 4, 5, 6, 100, 101, 102]
        .map(|code| {
            let commands = match code {
                0 => "Success. Of `shutdown --wait`",
                1..=3 => "Of `shutdown --wait`",
                _ => "Of `shutdown --wait` and `restart --daemon`",
            };
            (code.to_string(), format!("{commands}: {}.", meaning(code)))
        })
        .to_vec();
    exit_status[1].1.push_str(" Of `health`: degraded or shutting down.");
    exit_status[3].1.push_str(" Of `status` and `health`: mcpd is not running.");
    exit_status[4].1.push_str(" Of `verify-ports`: a port is in use.");
    exit_status[5]
        .1
        .push_str(" Of `list-zombies`: a zombie was found. Of `shutdown`: an earlier run left something.");
    let own = [
        (program::USAGE, "Wrong usage."),
        (
            program::WORKER_FAILED,
            "A worker failed or did not become ready. Of `restart --daemon`: if the stop would have exited with 0 to 3.",
        ),
        (program::UNAVAILABLE, "The daemon can't be reached."),
        (program::SOFTWARE, "Internal error."),
        (program::TEMPFAIL, "Timeout."),
        (program::NOPERM, "Not permitted."),
        (program::CONFIG, "The configuration is invalid, or a file of the service was changed by hand."),
    ];
    exit_status.extend(own.map(|(code, text)| (code.to_string(), text.to_owned())));
    let rest = Rest {
        description: &[
            "mcpctl speaks with mcpd(8) over its control socket. Several commands also work without a \
             daemon: they read its state directory, or the machine.",
        ],
        examples: &[
            ("mcpctl shutdown --wait", "Stop everything, and see each phase:"),
            ("mcpctl restart docs", "Restart a worker; its clients notice nothing:"),
            ("mcpctl status --json", "Status for a program:"),
        ],
        exit_status: &exit_status,
        environment: &[
            ("MCPD_SOCKET", "The control socket, unless `--socket` names one."),
            ("MCPD_CONFIG", "The configuration file, unless `--config` names one."),
            ("NO_COLOR", "If set, no colours unless `--color always` is given."),
        ],
        files: &[
            ("~/.config/mcpd/config.toml", "Configuration; see mcpd.toml(5)."),
            ("$XDG_RUNTIME_DIR/mcpd/control.sock, /run/mcpd/control.sock", "Control socket."),
            ("~/.local/state/mcpd", "Journal, reports and logs."),
        ],
        see_also: "mcpd(8), mcpd.toml(5)",
    };
    let page = render(Cli::command(), 1, &rest);
    assert_eq!(roff::sections(&page), SECTIONS);
    file::assert_up_to_date("docs/man/mcpctl.1", &page);
}
