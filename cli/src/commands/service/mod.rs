//! `mcpctl service`: mcpd as a service of systemd or launchd (R-SVC).

mod install;
mod status;
mod uninstall;

use std::env;
use std::path::{Path, PathBuf};

use mcpd_common::exit_code::program;
use mcpd_common::os::{ServiceManagerKind, service_manager_kind, this_process, user_name};
use mcpd_common::paths::{self, process_environment};

use crate::args::{Service, ServiceCommand, ServiceManagerChoice, ServiceScope};
use crate::color::Tone;
use crate::context::Context;
use crate::failure::Failure;
use crate::service::installation::{Directories, Installation, Scope, UNIT};
use crate::service::program as programs;
use crate::service::stamp::FileState;
use crate::service::step::Step;

/// Limit of a question to a service manager.
const QUESTION_LIMIT: std::time::Duration = std::time::Duration::from_secs(20);

pub async fn run(context: &mut Context, args: Service) -> Result<u8, Failure> {
    match args.command {
        ServiceCommand::Install(args) => install::run(context, args).await,
        ServiceCommand::Uninstall(args) => uninstall::run(context, args).await,
        ServiceCommand::Status(scope) => status::run(context, &scope).await,
    }
}

fn installation(action: &str, scope: &ServiceScope) -> Result<Installation, Failure> {
    let kind = match scope.manager {
        Some(ServiceManagerChoice::Systemd) => ServiceManagerKind::Systemd,
        Some(ServiceManagerChoice::Launchd) => ServiceManagerKind::Launchd,
        None => service_manager_kind(),
    };
    let Some(home) = paths::home(&process_environment) else {
        let next = "set HOME, or install for the system with --system";
        return Err(Failure::new(program::CONFIG, action, "this user has no home directory", next));
    };
    let config_home = env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let directories = Directories {
        root: scope.root.clone().unwrap_or_else(|| PathBuf::from("/")),
        config_home: config_home.unwrap_or_else(|| home.join(".config")),
        home,
    };
    let scope = if scope.system { Scope::System } else { Scope::User };
    Ok(Installation::new(kind, scope, &directories, this_process::user()))
}

/// The content of the file that describes the service; `None` if there is none.
fn existing(action: &str, installation: &Installation) -> Result<Option<String>, Failure> {
    match std::fs::read(&installation.file) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            let happened = format!("can't read {}: {error}", installation.file.display());
            Err(Failure::new(program::NOPERM, action, happened, "check who may read it"))
        }
    }
}

/// Writing for the system needs root.
fn check_user(action: &str, installation: &Installation, scope: &ServiceScope) -> Result<(), Failure> {
    let uid = this_process::user();
    if installation.scope == Scope::System && uid != 0 && scope.root.is_none() {
        let happened =
            format!("only root may change services of the system; this user is {}", user_name(uid));
        let next = "run it with sudo, or without --system for a service of this user";
        return Err(Failure::new(program::NOPERM, action, happened, next));
    }
    Ok(())
}

/// Before anything is changed: the service manager must answer. `otherwise` is what helps without it.
async fn check_manager(action: &str, installation: &Installation, otherwise: &str) -> Result<(), Failure> {
    let happened = match programs::run(&installation.probe(), QUESTION_LIMIT).await {
        Ok(ran) if ran.is_success() => return Ok(()),
        Ok(ran) => ran.complaint(),
        Err(error) => error.to_string(),
    };
    let next = match (installation.kind, installation.scope) {
        (ServiceManagerKind::Systemd, _) if !has_booted_systemd() => {
            "boot this machine with systemd".to_owned()
        }
        (ServiceManagerKind::Systemd, Scope::User) => reach_user_manager(),
        (ServiceManagerKind::Systemd, Scope::System) => {
            "check it with `systemctl is-system-running`".to_owned()
        }
        (ServiceManagerKind::Launchd, _) => {
            "log in at the screen, so that launchd has a session for this user".to_owned()
        }
    };
    let happened = format!("{} can't be reached: {happened}", installation.manager());
    Err(Failure::new(program::UNAVAILABLE, action, happened, format!("{next}; {otherwise}")))
}

/// As sd_booted(3).
fn has_booted_systemd() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// su and sudo keep the environment of another user, or none: then systemctl does not find the user's systemd.
fn reach_user_manager() -> String {
    let uid = this_process::user();
    let directory = format!("/run/user/{uid}");
    let is_set = env::var("XDG_RUNTIME_DIR").is_ok_and(|set| set == directory);
    if !is_set && Path::new(&directory).join("systemd").is_dir() {
        return format!("run it again with XDG_RUNTIME_DIR={directory}, where this user's systemd runs");
    }
    let user = user_name(uid);
    format!(
        "log in as this user (not with su or sudo), so that systemd runs for it, or let it run without a login: \
         loginctl enable-linger {user}"
    )
}

/// Whether the service manager runs the service, or is about to.
async fn is_active(installation: &Installation) -> bool {
    let Ok(ran) = programs::run(&installation.is_active(), QUESTION_LIMIT).await else { return false };
    ran.is_success() || ["activating", "deactivating", "reloading"].contains(&ran.stdout.trim())
}

/// Shows the steps, with the content of files.
fn show_steps(context: &mut Context, steps: &[Step]) {
    let mut doc = context.out.document();
    for step in steps {
        doc.line(&[(&step.title(), Tone::Plain)]);
        if let Step::Write { content, .. } = step {
            for line in content.lines() {
                doc.line(&[("    ", Tone::Plain), (line, Tone::Dim)]);
            }
        }
    }
    context.out.print(doc);
}

async fn perform(action: &str, installation: &Installation, steps: &[Step]) -> Result<(), Failure> {
    for step in steps {
        if let Err(happened) = step.perform().await {
            let next = match step {
                Step::Run { .. } => format!("look with: {}", installation.look()),
                _ => "correct that, and run the same command again".to_owned(),
            };
            let happened = format!("{}: {happened}", step.title());
            return Err(Failure::new(program::UNAVAILABLE, action, happened, next));
        }
    }
    Ok(())
}

/// A file that a person changed is not overwritten or removed without `--force`.
fn check_edited(
    action: &str,
    installation: &Installation,
    state: FileState,
    force: bool,
    with_force: &str,
) -> Result<(), Failure> {
    let file = installation.file.display();
    if is_masked(installation) {
        let unmask = installation.systemctl(&["unmask", UNIT]).join(" ");
        let next = format!("if that is over: `{unmask}`, then run the same command again");
        return Err(Failure::new(program::CONFIG, action, format!("{file} is masked: it may not run"), next));
    }
    if force || !state.is_of_a_person() {
        return Ok(());
    }
    let happened = match state {
        FileState::Edited => format!("{file} was changed by hand since mcpctl wrote it"),
        _ => format!("{file} was not written by mcpctl"),
    };
    let next = match installation.kind {
        ServiceManagerKind::Systemd => {
            let edit = installation.systemctl(&["edit", UNIT]).join(" ");
            format!("move the changes to a drop-in (`{edit}`); --force {with_force}")
        }
        ServiceManagerKind::Launchd => format!("--force {with_force}"),
    };
    Err(Failure::new(program::CONFIG, action, happened, next))
}

/// `systemctl mask` makes a link to /dev/null.
fn is_masked(installation: &Installation) -> bool {
    std::fs::read_link(&installation.file).is_ok_and(|target| target == Path::new("/dev/null"))
}

fn show_sentences(context: &mut Context, sentences: &[String]) {
    let mut doc = context.out.document();
    for sentence in sentences {
        doc.sentence(sentence, Tone::Plain);
    }
    context.out.print(doc);
}
