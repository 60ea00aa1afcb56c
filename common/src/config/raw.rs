//! The tables as they are written in the file: typed and with their positions, nothing inferred yet.

use std::collections::BTreeSet;
use std::time::Duration;

use toml::de::DeTable;

use super::placeholder;
use super::problem::{Found, Notes};
use super::section::Section;
use super::shutdown::ForcePorts;
use super::worker::{HostPolicy, Probe, RestartPolicy, SessionsPolicy, Transport};
use crate::ids::Port;

/// The whole file.
#[derive(Default)]
pub(super) struct Raw {
    pub repos: Vec<Found<String>>,
    pub daemon: RawDaemon,
    pub shutdown: RawShutdown,
    pub defaults: Shared,
    pub workers: Vec<RawWorker>,
    pub resources: Vec<RawResource>,
}

/// `[daemon]`.
#[derive(Default)]
pub(super) struct RawDaemon {
    pub socket: Option<Found<String>>,
    pub state_dir: Option<Found<String>>,
    pub log_dir: Option<Found<String>>,
}

/// `[shutdown]`.
#[derive(Default)]
pub(super) struct RawShutdown {
    pub worker_graceful: Option<Found<Duration>>,
    pub clients: Option<Found<Duration>>,
    pub worker_total: Option<Found<Duration>>,
    pub verification: Option<Found<Duration>>,
    pub force_ports: Option<ForcePorts>,
}

/// The keys that `[defaults]` and `[workers.NAME]` have in common.
#[derive(Default)]
pub(super) struct Shared {
    pub command: Option<Found<Vec<Found<String>>>>,
    pub env: Vec<(String, Found<String>)>,
    pub env_file: Option<Found<String>>,
    pub transport: Option<Transport>,
    pub ready: Option<Probe>,
    /// `Some(None)`: written as "", which means that the server has no such route.
    pub shutdown_path: Option<Option<String>>,
    pub stop_command: Option<Found<Vec<Found<String>>>>,
    pub restart: Option<RestartPolicy>,
    pub restart_unhealthy: Option<bool>,
    pub ready_within: Option<Duration>,
    pub trust_listener: Option<bool>,
    pub hold: Option<Duration>,
    pub sessions: Option<SessionsPolicy>,
    pub max_processes: Option<u16>,
    pub host: Option<HostPolicy>,
    pub allow_other_users: Option<bool>,
    pub allowed_hosts: Vec<String>,
    pub allowed_origins: Vec<String>,
}

/// `[workers.NAME]`, or an element of `repos`.
pub(super) struct RawWorker {
    pub name: Found<String>,
    pub repo: Option<Found<String>>,
    pub port: Option<Found<Port>>,
    pub shared: Shared,
}

/// `[resources.NAME]`.
pub(super) struct RawResource {
    pub name: String,
    pub close: Option<Found<Vec<Found<String>>>>,
    pub check: Option<Found<Vec<Found<String>>>>,
    pub path: Option<Found<String>>,
    pub timeout: Option<Found<Duration>>,
}

/// Reads the text of `notes`. If it is not valid TOML, only the syntax errors are reported: problems found in
/// the remaining tables would mostly be consequences of them.
pub(super) fn read(notes: &Notes) -> Raw {
    let (table, errors) = DeTable::parse_recoverable(notes.text());
    let mut reported_lines = BTreeSet::new();
    for error in &errors {
        let at = error.span().map(|span| span.start);
        // Only the first error of a line: later ones are mostly consequences of it.
        if reported_lines.insert(notes.locate(at)) {
            notes.error(at, "", format!("this is not valid TOML: {}", error.message()), None);
        }
    }
    if errors.is_empty() { read_top(Section::top(table.get_ref(), notes)) } else { Raw::default() }
}

fn read_top(mut top: Section) -> Raw {
    let raw = Raw {
        repos: top.texts("repos").map(|found| found.value).unwrap_or_default(),
        daemon: top.section("daemon").map(read_daemon).unwrap_or_default(),
        shutdown: top.section("shutdown").map(read_shutdown).unwrap_or_default(),
        defaults: top.section("defaults").map(read_defaults).unwrap_or_default(),
        workers: each(top.section("workers"), read_worker),
        resources: each(top.section("resources"), read_resource),
    };
    top.end();
    raw
}

fn each<T>(parent: Option<Section>, read: fn(Found<String>, Section) -> T) -> Vec<T> {
    let children = parent.map(Section::sections).unwrap_or_default();
    children.into_iter().map(|(name, child)| read(name, child)).collect()
}

fn read_daemon(mut section: Section) -> RawDaemon {
    let daemon = RawDaemon {
        socket: section.filled_text("socket"),
        state_dir: section.filled_text("state_dir"),
        log_dir: section.filled_text("log_dir"),
    };
    section.end();
    daemon
}

pub(super) const FORCE_PORTS: [(&str, ForcePorts); 3] =
    [("own", ForcePorts::Own), ("never", ForcePorts::Never), ("any", ForcePorts::Any)];

pub(super) const RESTART: [(&str, RestartPolicy); 3] = [
    ("always", RestartPolicy::Always),
    ("on-failure", RestartPolicy::OnFailure),
    ("never", RestartPolicy::Never),
];

pub(super) const HOSTS: [(&str, HostPolicy); 2] =
    [("keep", HostPolicy::Keep), ("worker", HostPolicy::Worker)];
pub(super) const SESSIONS: [(&str, SessionsPolicy); 4] = [
    ("keep", SessionsPolicy::Keep),
    ("forget", SessionsPolicy::Forget),
    ("shared", SessionsPolicy::Shared),
    ("own", SessionsPolicy::Own),
];

/// Limit of `max_processes`: the numbers of all processes of a run are bounded.
pub(super) const MOST_PROCESSES: u16 = 256;

pub(super) const TRANSPORT: [(&str, Transport); 3] =
    [("http", Transport::Http), ("stdio", Transport::Stdio), ("direct", Transport::Direct)];

fn read_shutdown(mut section: Section) -> RawShutdown {
    let shutdown = RawShutdown {
        worker_graceful: section.duration("worker_graceful"),
        clients: section.duration("clients"),
        worker_total: section.duration("worker_total"),
        verification: section.duration("verification"),
        force_ports: section.choice("force_ports", &FORCE_PORTS),
    };
    section.end();
    shutdown
}

fn read_defaults(mut section: Section) -> Shared {
    let shared = read_shared(&mut section);
    section.end();
    shared
}

fn read_worker(name: Found<String>, mut section: Section) -> RawWorker {
    let worker = RawWorker {
        name,
        repo: section.filled_text("repo"),
        port: section.port("port"),
        shared: read_shared(&mut section),
    };
    section.end();
    worker
}

fn read_resource(name: Found<String>, mut section: Section) -> RawResource {
    let resource = RawResource {
        name: name.value,
        close: section.command("close"),
        check: section.command("check"),
        path: section.filled_text("path"),
        timeout: section.duration("timeout"),
    };
    if resource.close.is_none() && resource.check.is_none() && resource.path.is_none() {
        section.table_error("closes and checks nothing", "write at least one of close, check and path");
    }
    section.end();
    resource
}

fn read_shared(section: &mut Section) -> Shared {
    let shared = Shared {
        command: section.command("command"),
        env: read_env(section),
        env_file: section.filled_text("env_file"),
        transport: section.choice("transport", &TRANSPORT),
        ready: read_ready(section),
        shutdown_path: read_shutdown_path(section),
        stop_command: section.command("stop_command"),
        restart: section.choice("restart", &RESTART),
        restart_unhealthy: section.boolean("restart_unhealthy"),
        ready_within: section.duration("ready_within").map(|found| found.value),
        trust_listener: section.boolean("trust_listener"),
        hold: section.duration("hold").map(|found| found.value),
        sessions: section.choice("sessions", &SESSIONS),
        max_processes: section.number("max_processes", MOST_PROCESSES),
        host: section.choice("host", &HOSTS),
        allow_other_users: section.boolean("allow_other_users"),
        allowed_hosts: read_texts(section, "allowed_hosts"),
        allowed_origins: read_texts(section, "allowed_origins"),
    };
    for (key, command) in [("command", &shared.command), ("stop_command", &shared.stop_command)] {
        command.iter().flat_map(|found| &found.value).for_each(|text| check_placeholders(section, key, text));
    }
    shared
}

fn read_env(section: &mut Section) -> Vec<(String, Found<String>)> {
    let env = section.text_table("env");
    for (name, text) in &env {
        check_placeholders(section, "env", text);
        if name.is_empty() || name.contains(['=', '\0']) || text.value.contains('\0') {
            let help = "write a name that is not empty and has no '=', and no NUL byte in name or value";
            let message = format!("sets the invalid variable \"{}\"", name.escape_debug());
            section.value_error(text.at, "env", message, Some(help.to_owned()));
        }
    }
    env
}

fn check_placeholders(section: &Section, key: &str, text: &Found<String>) {
    for unknown in placeholder::unknown(&text.value) {
        let help = format!(
            "write {{port}}, {{repo}} or {{name}}; for the text {{{unknown}}} write {{{{{unknown}}}}}"
        );
        let message = format!("has the unknown placeholder {{{unknown}}}");
        section.value_error(text.at, key, message, Some(help));
    }
}

fn read_texts(section: &mut Section, key: &'static str) -> Vec<String> {
    let texts = section.texts(key).map(|found| found.value).unwrap_or_default();
    texts.into_iter().map(|found| found.value).collect()
}

fn read_ready(section: &mut Section) -> Option<Probe> {
    let found = section.text("ready")?;
    match found.value.as_str() {
        "tcp" => return Some(Probe::Tcp),
        "none" => return Some(Probe::None),
        other => {
            if let Some(path) = other.strip_prefix("http:").filter(|path| is_url_path(path)) {
                return Some(Probe::Http(path.to_owned()));
            }
        }
    }
    let help = "write \"http:/PATH\", \"tcp\" or \"none\"".to_owned();
    let message = format!("is \"{}\", which is not a probe", found.value.escape_debug());
    section.value_error(found.at, "ready", message, Some(help));
    None
}

fn read_shutdown_path(section: &mut Section) -> Option<Option<String>> {
    let found = section.text("shutdown_path")?;
    if found.value.is_empty() {
        return Some(None);
    }
    if is_url_path(&found.value) {
        return Some(Some(found.value));
    }
    let help = "write a path such as \"/shutdown\", or \"\" if the server has no such route".to_owned();
    let message = format!("is \"{}\", which is not a path", found.value.escape_debug());
    section.value_error(found.at, "shutdown_path", message, Some(help));
    None
}

/// Whether the text can be the target of an HTTP request line without escaping.
fn is_url_path(text: &str) -> bool {
    text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#')
}
