//! `mcpctl service install`.

use std::env;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use mcpd_common::config::{self, Config, Source};
use mcpd_common::exit_code::program;
use mcpd_common::os::{ServiceManagerKind, home_of, login_shell, this_process, user_name};
use mcpd_common::paths::{self, process_environment};
use mcpd_common::phase::OVERRUN_GRACE;
use mcpd_common::time_limits::TimeLimits;
use serde::Serialize;

use super::{
    check_edited, check_manager, check_user, existing, installation, is_active, perform, show_sentences,
};
use crate::args::{ServiceInstall, ServiceScope};
use crate::context::Context;
use crate::daemon_client::{self, Candidate};
use crate::failure::{Failure, SUCCESS};
use crate::service::installation::{Installation, Scope};
use crate::service::login_path::{self, LoginPath};
use crate::service::program as programs;
use crate::service::stamp::FileState;
use crate::service::step::Step;
use crate::service::unit_file::{self, Values};

const ACTION: &str = "install the service";

/// `schema` of the result in JSON.
const SCHEMA: &str = "mcpd.service-install.v1";

/// What a service manager waits beyond the longest shutdown: the guardian's cleanup, and a reserve.
const RESERVE_SECONDS: u64 = 25;

#[derive(Serialize)]
struct Outcome<'a> {
    dry_run: bool,
    file: &'a Path,
    path: &'a str,
    path_source: &'a str,
    steps: &'a [Step],
    notes: &'a [String],
}

pub async fn run(context: &mut Context, args: ServiceInstall) -> Result<u8, Failure> {
    let installation = installation(ACTION, &args.scope)?;
    let is_dry = args.change.dry_run;
    if !is_dry {
        check_user(ACTION, &installation, &args.scope)?;
    }
    let user = user_of(&installation, &args)?;
    let file = config_file(context, &installation)?;
    let config = load(&file, &installation)?;
    let path = path(&args, user.as_deref()).await;
    let values = Values {
        mcpd: beside_this_program("mcpd")?,
        mcpctl: beside_this_program("mcpctl")?,
        config: file,
        path: path.value.clone(),
        user: user.clone(),
        stop_seconds: stop_seconds(&config),
        restart: args.restart,
        log: log_file(&installation, &args.scope),
    };
    let content = match installation.kind {
        ServiceManagerKind::Systemd => unit_file::systemd(&values),
        ServiceManagerKind::Launchd => unit_file::launchd(&values),
    };
    let state = FileState::of(existing(ACTION, &installation)?.as_deref(), &content);
    check_edited(ACTION, &installation, state, args.change.force, "replaces it and keeps a copy")?;
    let is_running = if is_dry { false } else { check_running(&installation, &config).await? };
    let steps = installation.install(state, content, is_running);
    let notes = notes(&installation, state, is_running, &path, user.as_deref()).await;
    if !context.out.is_json() {
        super::show_steps(context, &steps);
    }
    if !is_dry {
        perform(ACTION, &installation, &steps).await?;
    }
    if context.out.is_json() {
        let outcome = Outcome {
            dry_run: is_dry,
            file: &installation.file,
            path: &path.value,
            path_source: &path.source,
            steps: &steps,
            notes: &notes,
        };
        context.out.json_with_schema(SCHEMA, &outcome);
        return Ok(SUCCESS);
    }
    let verdict = if is_dry { "dry run: nothing was changed" } else { "installed, and running" };
    let sentences: Vec<_> = notes.into_iter().chain([verdict.to_owned()]).collect();
    show_sentences(context, &sentences);
    Ok(SUCCESS)
}

/// The user whose rights a service of the system has.
fn user_of(installation: &Installation, args: &ServiceInstall) -> Result<Option<String>, Failure> {
    if installation.scope == Scope::User {
        return Ok(None);
    }
    let invoking = || env::var("SUDO_USER").ok().filter(|user| !user.is_empty());
    let user = args.run_as.clone().or_else(invoking).unwrap_or_else(|| user_name(this_process::user()));
    if home_of(&user).is_none() {
        let happened = format!("there is no user {user}");
        return Err(Failure::new(program::USAGE, ACTION, happened, "name an existing user with --run-as"));
    }
    Ok(Some(user))
}

fn config_file(context: &Context, installation: &Installation) -> Result<PathBuf, Failure> {
    let default = match installation.scope {
        Scope::User => paths::default_config_file(&process_environment),
        Scope::System => Some(PathBuf::from(paths::SYSTEM_CONFIG)),
    };
    let file =
        context.global.config.clone().or(default).unwrap_or_else(|| PathBuf::from(paths::SYSTEM_CONFIG));
    let file = std::path::absolute(&file).unwrap_or(file);
    if file.display().to_string().chars().any(char::is_control) {
        let happened = "the path of the configuration has a control character, which a unit can't contain";
        return Err(Failure::new(program::CONFIG, ACTION, happened, "rename the file"));
    }
    Ok(file)
}

/// With the directories that the unit will have.
fn load(file: &Path, installation: &Installation) -> Result<Config, Failure> {
    let environment: paths::Environment = match (installation.kind, installation.scope) {
        (ServiceManagerKind::Systemd, Scope::System) => &paths::system_unit_environment,
        _ => &process_environment,
    };
    let next = || {
        let shown = file.display();
        format!(
            "write one with `mcpd init --write --config {shown} DIR ...`, and check it with `mcpd check-config {shown}`"
        )
    };
    let loaded = config::peek(Source::File(file.to_owned()), environment);
    loaded
        .map(|loaded| loaded.config)
        .map_err(|error| Failure::new(program::CONFIG, ACTION, error.to_string(), next()))
}

async fn path(args: &ServiceInstall, user: Option<&str>) -> LoginPath {
    if let Some(path) = &args.path {
        return login_path::named(path);
    }
    let own = user_name(this_process::user());
    let other_user = user.filter(|user| *user != own);
    let shell = env::var("SHELL").ok().filter(|shell| !shell.is_empty());
    let in_database = || login_shell(this_process::user()).map(|shell| shell.display().to_string());
    let shell = shell.or_else(in_database).unwrap_or_else(|| "/bin/sh".to_owned());
    login_path::find(&shell, other_user, &env::var("PATH").unwrap_or_default()).await
}

/// A program in the directory of this one. The name that mcpctl was started by counts, not what a symbolic link leads
/// to: the next version is elsewhere.
fn beside_this_program(name: &str) -> Result<PathBuf, Failure> {
    let started_as = env::args_os().next().map(PathBuf::from).unwrap_or_default();
    let by_name = match started_as.components().count() {
        0 | 1 => env::var_os("PATH").and_then(|path| {
            env::split_paths(&path).map(|directory| directory.join(&started_as)).find(|file| is_program(file))
        }),
        _ => std::path::absolute(&started_as).ok().filter(|file| is_program(file)),
    };
    let candidates = [by_name, env::current_exe().ok()].into_iter().flatten();
    let mut beside = candidates.filter_map(|file| Some(file.parent()?.join(name)));
    beside.find(|file| file.is_absolute() && is_program(file)).ok_or_else(|| {
        let happened = format!("there is no program {name} in the directory of mcpctl");
        Failure::new(program::UNAVAILABLE, ACTION, happened, "install both programs into one directory")
    })
}

fn is_program(file: &Path) -> bool {
    file.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

fn stop_seconds(config: &Config) -> u64 {
    let bound = TimeLimits::new(&config.shutdown).total() + OVERRUN_GRACE;
    bound.as_secs() + 1 + RESERVE_SECONDS
}

fn log_file(installation: &Installation, scope: &ServiceScope) -> PathBuf {
    let of_user = || paths::home(&process_environment).map(|home| home.join("Library/Logs/mcpd.log"));
    let of_system = || scope.root.clone().unwrap_or_else(|| PathBuf::from("/")).join("Library/Logs/mcpd.log");
    match installation.scope {
        Scope::User => of_user().unwrap_or_else(of_system),
        Scope::System => of_system(),
    }
}

/// Whether the service runs already. A daemon that runs by itself would make the start fail with 75.
async fn check_running(installation: &Installation, config: &Config) -> Result<bool, Failure> {
    check_manager(ACTION, installation, otherwise(installation)).await?;
    if is_active(installation).await {
        return Ok(true);
    }
    let socket = &config.daemon.socket;
    if daemon_client::connect(ACTION, &[Candidate::any(socket)]).await?.is_some() {
        let happened =
            format!("mcpd runs already, but not as this service: it listens on {}", socket.display());
        let next = "stop it with `mcpctl shutdown --wait`, then install the service";
        return Err(Failure::new(program::TEMPFAIL, ACTION, happened, next));
    }
    Ok(false)
}

/// What helps without the service manager.
fn otherwise(installation: &Installation) -> &'static str {
    match (installation.kind, installation.scope) {
        (ServiceManagerKind::Launchd, Scope::User) => "or install for the system with --system",
        (ServiceManagerKind::Systemd, Scope::User) if super::has_booted_systemd() => {
            "or install for the system with --system. --dry-run shows the unit without a service manager"
        }
        _ => "or let its own service manager run mcpd: --dry-run shows the command line",
    }
}

async fn notes(
    installation: &Installation,
    state: FileState,
    is_running: bool,
    path: &LoginPath,
    user: Option<&str>,
) -> Vec<String> {
    let mut notes = vec![format!("PATH of the workers, from {}: {}", path.source, path.value)];
    match state {
        FileState::Current => notes.push("the file is already there, unchanged".to_owned()),
        FileState::Outdated if is_running && installation.kind == ServiceManagerKind::Systemd => {
            let restart = installation.systemctl(&["restart", "mcpd.service"]).join(" ");
            notes.push(format!("the running mcpd keeps its old settings until: {restart}"));
        }
        FileState::Outdated | FileState::Absent => {}
        FileState::Edited | FileState::Foreign => {
            notes.push(
                "--force: a file that was changed by hand is replaced; a copy is kept beside it".to_owned(),
            );
        }
    }
    if user == Some("root") {
        notes.push("the workers run as root; name another user with --run-as".to_owned());
    }
    if installation.scope == Scope::User && this_process::user() == 0 {
        notes.push("this is a service of the user root: the workers run as root. For another user: --system --run-as USER".to_owned());
    }
    if installation.kind == ServiceManagerKind::Systemd
        && installation.scope == Scope::User
        && !lingers().await
    {
        let user = user_name(this_process::user());
        notes.push(format!(
            "systemd stops this user's services when the user logs out, and starts them at the next login; to keep them \
             from boot to poweroff: loginctl enable-linger {user}"
        ));
    }
    notes.push(format!("look with: mcpctl service status; {}", installation.look()));
    notes
}

async fn lingers() -> bool {
    let user = user_name(this_process::user());
    let words = ["loginctl", "show-user", &user, "--property=Linger", "--value"].map(str::to_owned);
    let answer = programs::run(&words, super::QUESTION_LIMIT).await;
    answer.is_ok_and(|ran| ran.stdout.trim() == "yes")
}
