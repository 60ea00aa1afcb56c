//! `mcpd check-config [FILE]`: what was inferred, and every problem with its line.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use mcpd_common::config::{
    self, Config, ForcePorts, LoadError, Loaded, PortSource, PortText, Probe, Program, RestartPolicy, Source,
    Transport, WorkerConfig,
};
use mcpd_common::exit_code::program;
use mcpd_common::paths;

use crate::repo_worker;

/// Checks this file, or the one that a start would use. Returns 0 if there is no problem.
pub fn run(file: Option<PathBuf>) -> u8 {
    let Some(file) = paths::config_file(file, &paths::process_environment) else {
        super::complain(&no_file());
        return program::CONFIG;
    };
    let runtime = match super::worker::runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            super::complain(&format!("can't ask git about the repositories: {error}\n"));
            return program::SOFTWARE;
        }
    };
    let git = |repo: &Path| runtime.block_on(repo_worker::refusal(repo));
    // The shown ports are stored, because users copy them into clients' configurations.
    match config::check(Source::File(file), &paths::process_environment, &git) {
        Ok(loaded) => {
            super::print(&describe(&loaded.config));
            super::complain(&remarks(&loaded));
            if loaded.problems.is_empty() { 0 } else { program::CONFIG }
        }
        Err(error) => {
            super::complain(&refusal(&error));
            program::CONFIG
        }
    }
}

fn no_file() -> String {
    let usual = paths::default_config_file(&paths::process_environment)
        .map(|file| format!(" at {}", file.display()))
        .unwrap_or_default();
    format!("there is no configuration file{usual}; `mcpd init --write DIR ...` writes one\n")
}

fn refusal(error: &LoadError) -> String {
    match error {
        LoadError::Problems(problems) => format!("{error}\n{}\n", count(problems.len(), "problem")),
        LoadError::Read { .. } => format!("{error}; name another file: `mcpd check-config FILE`\n"),
    }
}

fn remarks(loaded: &Loaded) -> String {
    let mut text = String::new();
    for warning in &loaded.warnings {
        let _ = writeln!(text, "warning: {warning}");
    }
    for problem in &loaded.problems {
        let _ = writeln!(text, "{problem}");
    }
    if !loaded.problems.is_empty() {
        let _ = writeln!(text, "{}", count(loaded.problems.len(), "problem"));
    }
    text
}

/// The effective values, inferred ones included.
fn describe(config: &Config) -> String {
    let mut text = String::new();
    for worker in config.workers.values() {
        block(&mut text, worker.name.as_str(), &describe_worker(worker));
    }
    for resource in &config.resources {
        let mut rows = vec![("timeout", config::show_duration(resource.timeout))];
        rows.extend(resource.close.as_ref().map(|command| ("close", shell(command))));
        rows.extend(resource.check.as_ref().map(|command| ("check", shell(command))));
        rows.extend(resource.path.as_ref().map(|path| ("must be gone", path.display().to_string())));
        block(&mut text, &format!("resource {}", resource.name), &rows);
    }
    let shutdown = &config.shutdown;
    let rows = [
        ("graceful", config::show_duration(shutdown.worker_graceful)),
        ("clients", config::show_duration(shutdown.clients)),
        ("worker total", config::show_duration(shutdown.worker_total)),
        ("verification", config::show_duration(shutdown.verification)),
        ("force ports", force_ports(shutdown.force_ports).to_owned()),
    ];
    block(&mut text, "[shutdown]", &rows);
    let daemon = &config.daemon;
    let rows = [
        ("socket", daemon.socket.display().to_string()),
        ("state", daemon.state_dir.display().to_string()),
        ("logs", daemon.log_dir.display().to_string()),
    ];
    block(&mut text, "[daemon]", &rows);
    let _ = writeln!(text, "{}", count(config.workers.len(), "worker"));
    text
}

fn describe_worker(worker: &WorkerConfig) -> Vec<(&'static str, String)> {
    let source = match worker.port_source {
        PortSource::Written => "written",
        PortSource::Derived => "derived",
    };
    let command = match &worker.program {
        Program::BuiltIn => "the built-in repository worker".to_owned(),
        Program::Command(command) => shell(&texts(command)),
    };
    let mut rows = vec![
        ("repository", worker.repo.display().to_string()),
        ("port", format!("{} ({source})", worker.port)),
        ("url", worker.url()),
        ("transport", transport(worker.transport).to_owned()),
        ("command", command),
        // Values are often secrets.
        ("variables", worker.env.read().variables.keys().cloned().collect::<Vec<_>>().join(" ")),
        ("ready", probe(&worker.ready)),
        (
            "asked by",
            match (worker.transport, &worker.shutdown_path) {
                (Transport::Stdio, _) => "end of input".to_owned(),
                (_, Some(path)) => format!("POST {path}"),
                (_, None) => "SIGTERM".to_owned(),
            },
        ),
    ];
    rows.extend(worker.stop_command.as_ref().map(|command| ("stop command", shell(&texts(command)))));
    rows.push(("restart", restart(worker)));
    rows.extend(worker.unusable.as_ref().map(|why| ("unusable", why.clone())));
    rows
}

fn probe(probe: &Probe) -> String {
    match probe {
        Probe::Http(path) => format!("http:{path}"),
        Probe::Tcp => "tcp".to_owned(),
        Probe::None => "none".to_owned(),
        Probe::Initialize => "it has answered initialize".to_owned(),
    }
}

fn restart(worker: &WorkerConfig) -> String {
    let policy = match worker.restart {
        RestartPolicy::Always => "always",
        RestartPolicy::OnFailure => "on-failure",
        RestartPolicy::Never => "never",
    };
    let unhealthy = if worker.restart_unhealthy { ", also when unhealthy" } else { "" };
    format!("{policy}{unhealthy}")
}

fn force_ports(policy: ForcePorts) -> &'static str {
    match policy {
        ForcePorts::Own => "own",
        ForcePorts::Never => "never",
        ForcePorts::Any => "any",
    }
}

fn block(text: &mut String, title: &str, rows: &[(&str, String)]) {
    let _ = writeln!(text, "{title}");
    for (key, value) in rows {
        let _ = writeln!(text, "  {key:<13} {value}");
    }
    text.push('\n');
}

fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

/// Quoted for a shell.
fn shell(command: &[String]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    let quote = |word: &String| {
        if !word.is_empty() && word.chars().all(plain) {
            word.clone()
        } else {
            format!("'{}'", word.replace('\'', "'\\''"))
        }
    };
    command.iter().map(quote).collect::<Vec<_>>().join(" ")
}

fn transport(transport: Transport) -> &'static str {
    match transport {
        Transport::Http => "http (mcpd listens on the port and forwards to a private one)",
        Transport::Stdio => "stdio (mcpd listens on the port; all clients share the server)",
        Transport::Direct => "direct (the worker binds the port)",
    }
}

/// With `{port}` for a private port, which is chosen at every start.
fn texts(command: &[PortText]) -> Vec<String> {
    command.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loaded(text: &str, base: &std::path::Path) -> Result<Loaded, LoadError> {
        let source =
            Source::Text { name: "config.toml".to_owned(), text: text.to_owned(), base: base.to_owned() };
        config::peek(source, &|key| (key == "PATH").then(|| "/usr/bin:/bin".to_owned()))
    }

    /// R-CONF-1, R-CONF-2: what is inferred is shown.
    #[test]
    fn what_was_inferred_is_shown() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::create_dir(dir.path().join(".git")).expect("made");
        let text = "[daemon]\nstate_dir = \"s\"\nsocket = \"c\"\n[workers.a]\nrepo = \".\"\n\
                    [workers.b]\nrepo = \".\"\nport = 8082\ncommand = [\"sh\", \"-c\", \"echo it's {port}\"]\n\
                    env = { TOKEN = \"secret\" }\nshutdown_path = \"\"\nrestart_unhealthy = true\n";
        let shown = describe(&loaded(text, dir.path()).expect("good").config);
        for part in [
            " (derived)\n",
            "  command       the built-in repository worker\n",
            "  ready         http:/health\n",
            "  asked by      POST /shutdown\n",
            "  port          8082 (written)\n",
            "  url           http://127.0.0.1:8082/mcp\n",
            "  command       sh -c 'echo it'\\''s {port}'\n",
            "  variables     PORT TOKEN\n",
            "  asked by      SIGTERM\n",
            "  restart       always, also when unhealthy\n",
            "  worker total  30s\n",
            "2 workers\n",
        ] {
            assert!(shown.contains(part), "{part}\nis not in\n{shown}");
        }
        assert!(!shown.contains("secret"));
    }

    /// R-CONF-4: a problem of a single worker is an error here.
    #[test]
    fn a_missing_repository_is_an_error() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("config.toml");
        std::fs::write(&file, "[daemon]\nstate_dir = \"s\"\nsocket = \"c\"\n").expect("written");
        assert_eq!(run(Some(file.clone())), 0);
        std::fs::write(&file, "repos = [\"gone\"]\n[daemon]\nstate_dir = \"s\"\nsocket = \"c\"\n")
            .expect("written");
        assert_eq!(run(Some(file.clone())), program::CONFIG);
        std::fs::write(&file, "x = [").expect("written");
        assert_eq!(run(Some(file)), program::CONFIG);
        assert_eq!(run(Some(dir.path().join("none.toml"))), program::CONFIG);
    }

    #[test]
    fn problems_are_counted() {
        let error = loaded("a = 1\nb = 2\n", std::path::Path::new("/")).expect_err("unknown keys");
        let text = refusal(&error);
        assert!(text.contains("config.toml:1: ") && text.ends_with("\n2 problems\n"), "{text}");
    }
}
