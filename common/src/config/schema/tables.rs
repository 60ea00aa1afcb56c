//! All keys of the configuration.

use serde_json::{Value, json};
use std::time::Duration;

use super::key::{Choice, Form, Key, KeyDefault, Kind, Table};
use crate::config::build::RESOURCE_TIMEOUT;
use crate::config::build_worker::{HOLD_TIMEOUT, MAX_PROCESSES, READY_TIMEOUT};
use crate::config::raw::{FORCE_PORTS, HOSTS, MOST_PROCESSES, RESTART, SESSIONS, TRANSPORT};
use crate::config::shutdown::{ForcePorts, ShutdownConfig};
use crate::config::worker::{HostPolicy, RestartPolicy, SessionsPolicy, Transport};
use crate::config::{duration, ports};

/// All tables, in the order of the documentation.
pub fn tables() -> Vec<Table> {
    vec![
        Table { key: "", form: Form::Top, meaning: "The keys before the first table.", keys: top() },
        Table {
            key: "workers",
            form: Form::PerName,
            meaning: "An MCP server that mcpd runs. `NAME` has lower-case letters, digits, `-` and `_`, a letter or \
                      digit first.",
            keys: worker(),
        },
        Table {
            key: "defaults",
            form: Form::Once,
            meaning: "Values for all workers, also for those of `repos`. A worker's own key replaces the value; `env`, \
                      `allowed_hosts` and `allowed_origins` are joined.",
            keys: shared(),
        },
        Table {
            key: "shutdown",
            form: Form::Once,
            meaning: "Time limits of a shutdown. A phase ends as soon as its work is done.",
            keys: shutdown(),
        },
        Table {
            key: "resources",
            form: Form::PerName,
            meaning: "Something outside mcpd that the shutdown closes, the last one in the file first, and verifies to be \
                      closed. At least one of `close`, `check` and `path` has to be written.",
            keys: resource(),
        },
        Table { key: "daemon", form: Form::Once, meaning: "The files of the daemon.", keys: daemon() },
    ]
}

fn key(name: &'static str, kind: Kind, default: KeyDefault, meaning: &'static str) -> Key {
    Key { name, kind, default, meaning }
}

fn value(value: impl Into<Value>) -> KeyDefault {
    KeyDefault::Value(value.into())
}

fn duration_key(name: &'static str, default: Duration, meaning: &'static str) -> Key {
    key(name, Kind::Duration, value(duration::show(default)), meaning)
}

fn top() -> Vec<Key> {
    vec![key(
        "repos",
        Kind::Paths,
        value(json!([])),
        "Repositories that the built-in worker serves, read-only, one worker for each. A worker is named after its \
         directory.",
    )]
}

fn worker() -> Vec<Key> {
    let own = [
        key(
            "repo",
            Kind::Path,
            KeyDefault::Derived("for a worker with a `command`, the directory of the configuration file"),
            "The worker's working directory. The built-in worker serves the git repository that it belongs to.",
        ),
        key(
            "port",
            Kind::Port,
            KeyDefault::Derived(derived_port()),
            "The port on the loopback interface that clients connect to.",
        ),
    ];
    own.into_iter().chain(shared()).collect()
}

fn derived_port() -> &'static str {
    const { assert!(*ports::RANGE.start() == 8100 && *ports::RANGE.end() == 8999) };
    "derived from `repo`, or without it from the name, 8100 to 8999, and then always the same"
}

fn shared() -> Vec<Key> {
    vec![
        key(
            "command",
            Kind::Command,
            KeyDefault::Derived("the built-in worker"),
            "The server, which speaks MCP over HTTP on `{port}` of the loopback interface, or on its standard input and \
             output.",
        ),
        key(
            "env",
            Kind::Variables,
            value(json!({})),
            "Variables that are added to mcpd's own environment. `PORT` is set to `{port}`, but not for \
             a server that speaks stdio.",
        ),
        key(
            "env_file",
            Kind::Path,
            KeyDefault::None,
            "A file with lines `NAME=value`, read again at each start. Variables of `env` take precedence; `PORT` in \
             the file is ignored.",
        ),
        key(
            "transport",
            choices(TRANSPORT, |transport| match transport {
                Transport::Http => "mcpd, which forwards requests to a private port of the worker",
                Transport::Stdio => {
                    "mcpd, for a server that speaks MCP on its standard input and output, and which all clients share"
                }
                Transport::Direct => "the worker itself; mcpd only supervises it",
            }),
            KeyDefault::Derived(
                "`\"stdio\"` for a `command` without `{port}` (in it or in `env`), else `\"http\"`",
            ),
            "Which process listens on `port`.",
        ),
        key(
            "ready",
            Kind::Probe,
            KeyDefault::Derived(
                "`\"http:/health\"` for the built-in worker, else `\"tcp\"`; for `stdio`: it has answered `initialize`",
            ),
            "The probe that decides whether the worker is ready. `\"http:/PATH\"`: GET answers with a status below \
             500; `\"tcp\"`: a connection is accepted; `\"none\"`: a running worker is ready.",
        ),
        duration_key(
            "ready_within",
            READY_TIMEOUT,
            "Time from the start of a worker until it has to be ready; after it the start has failed.",
        ),
        key(
            "shutdown_path",
            Kind::UrlPath,
            value("/shutdown"),
            "Path of the POST that asks the worker to exit. `\"\"`: the server has no such route, and is asked with \
             `SIGTERM`.",
        ),
        key(
            "stop_command",
            Kind::Command,
            KeyDefault::None,
            "Run together with the request to exit, for what is not a descendant of mcpd, such as a `systemd-run` \
             unit. Without one, mcpd stops the container of `docker run` and `podman run` itself.",
        ),
        key(
            "restart",
            choices(RESTART, |restart| match restart {
                RestartPolicy::Always => "after any exit status",
                RestartPolicy::OnFailure => "after any exit status but 0",
                RestartPolicy::Never => "only on request",
            }),
            value(text_of(RESTART, RestartPolicy::Always)),
            "When a worker that exited is started again.",
        ),
        key(
            "restart_unhealthy",
            Kind::Boolean,
            value(false),
            "Whether a worker is restarted after three failed probes in a row.",
        ),
        duration_key(
            "hold",
            HOLD_TIMEOUT,
            "How long requests of clients wait while the worker restarts; after it they get an error.",
        ),
        key(
            "sessions",
            choices(SESSIONS, |sessions| match sessions {
                SessionsPolicy::Keep => "they continue with the new process",
                SessionsPolicy::Forget => "they end, as they would without mcpd",
                SessionsPolicy::Shared => "the same as `\"keep\"`, for a worker that speaks stdio",
                SessionsPolicy::Own => {
                    "each session of a worker that speaks stdio has a process of its own, and continues with another one"
                }
            }),
            value(text_of(SESSIONS, SessionsPolicy::Keep)),
            "What happens to MCP sessions when their worker restarts.",
        ),
        key(
            "max_processes",
            Kind::Number(MOST_PROCESSES),
            value(MAX_PROCESSES),
            "With `sessions = \"own\"`: how many sessions can have a process at the same time. For one more, the process \
             that has been idle longest is ended; its session continues with another one when it is used again.",
        ),
        key(
            "host",
            choices(HOSTS, |host| match host {
                HostPolicy::Keep => "the client's",
                HostPolicy::Worker => {
                    "the address of the worker's own port, for a worker that serves only a list of hosts"
                }
            }),
            KeyDefault::Derived(
                "`\"keep\"`, until the worker refuses a request with 421, or with 403 and a text about its host; then \
                 `\"worker\"`",
            ),
            "The value of the header `Host` in requests to the worker.",
        ),
        key(
            "trust_listener",
            Kind::Boolean,
            KeyDefault::Derived("`true` for commands of docker, podman, nerdctl and finch, else `false`"),
            "Whether any process of this user may listen on the worker's port, as the port proxy of a container \
             engine does.",
        ),
        key(
            "allow_other_users",
            Kind::Boolean,
            value(false),
            "Whether programs of other users of this machine may connect. On macOS they always can.",
        ),
        key(
            "allowed_hosts",
            Kind::Texts,
            value(json!([])),
            "Values of the header `Host` that requests may have, besides those of the loopback interface.",
        ),
        key(
            "allowed_origins",
            Kind::Texts,
            value(json!([])),
            "Values of the header `Origin` that requests may have, besides those of the loopback interface; `scheme://*` \
             (`chrome-extension://*`) allows all of a scheme.",
        ),
    ]
}

fn shutdown() -> Vec<Key> {
    let default = ShutdownConfig::default();
    vec![
        duration_key(
            "worker_graceful",
            default.worker_graceful,
            "Time that workers have to exit after they were asked; then they get `SIGTERM`.",
        ),
        duration_key(
            "worker_total",
            default.worker_total,
            "Time for the request and `SIGTERM` together; then workers get `SIGKILL`. It is raised if it is not longer \
             than `worker_graceful`.",
        ),
        duration_key("clients", default.clients, "Time for all clients together to disconnect."),
        duration_key("verification", default.verification, "Time for all checks together."),
        key(
            "force_ports",
            choices(FORCE_PORTS, |force| match force {
                ForcePorts::Own => "only holders that provably belong to a worker",
                ForcePorts::Never => "none",
                ForcePorts::Any => "any holder, also one that has nothing to do with mcpd",
            }),
            value(text_of(FORCE_PORTS, default.force_ports)),
            "Which processes may be killed to free a port.",
        ),
    ]
}

fn resource() -> Vec<Key> {
    vec![
        key("close", Kind::Command, KeyDefault::None, "Closes the resource."),
        key("check", Kind::Command, KeyDefault::None, "Exits with 0 if the resource is closed."),
        key("path", Kind::Path, KeyDefault::None, "A file or socket that must not exist afterwards."),
        duration_key("timeout", RESOURCE_TIMEOUT, "Limit for `close` and `check` together."),
    ]
}

fn daemon() -> Vec<Key> {
    vec![
        key(
            "socket",
            Kind::Path,
            KeyDefault::Derived("`$XDG_RUNTIME_DIR/mcpd/control.sock`, else `control.sock` in `state_dir`"),
            "The control socket. Its absolute path has at most 100 bytes.",
        ),
        key(
            "state_dir",
            Kind::Path,
            KeyDefault::Derived("`~/.local/state/mcpd`; on macOS `~/Library/Application Support/mcpd`"),
            "Directory of the journal, the report of the last shutdown and the derived ports.",
        ),
        key(
            "log_dir",
            Kind::Path,
            KeyDefault::Derived("`logs` in `state_dir`"),
            "Directory of the daemon's log and, in `workers/`, of the workers' logs.",
        ),
    ]
}

fn choices<T, const N: usize>(allowed: [(&'static str, T); N], meaning: fn(T) -> &'static str) -> Kind {
    Kind::Choice(allowed.into_iter().map(|(text, it)| Choice { text, meaning: meaning(it) }).collect())
}

fn text_of<T: PartialEq, const N: usize>(allowed: [(&'static str, T); N], wanted: T) -> Value {
    allowed.into_iter().find(|(_, it)| *it == wanted).map(|(text, _)| text).into()
}
