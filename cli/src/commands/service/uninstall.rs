//! `mcpctl service uninstall`.

use std::path::Path;

use mcpd_common::os::ServiceManagerKind;
use mcpd_common::paths;
use serde::Serialize;

use super::{
    QUESTION_LIMIT, check_edited, check_manager, check_user, existing, installation, is_active, perform,
    show_sentences,
};
use crate::args::ServiceUninstall;
use crate::context::Context;
use crate::failure::{Failure, SUCCESS};
use crate::service::installation::{Installation, Scope, UNIT};
use crate::service::program as programs;
use crate::service::stamp::FileState;
use crate::service::step::Step;

const ACTION: &str = "uninstall the service";

/// `schema` of the result in JSON.
const SCHEMA: &str = "mcpd.service-uninstall.v1";

#[derive(Serialize)]
struct Outcome<'a> {
    dry_run: bool,
    steps: &'a [Step],
    notes: &'a [String],
}

pub async fn run(context: &mut Context, args: ServiceUninstall) -> Result<u8, Failure> {
    let installation = installation(ACTION, &args.scope)?;
    let is_dry = args.change.dry_run;
    if !is_dry {
        check_user(ACTION, &installation, &args.scope)?;
    }
    let existing = existing(ACTION, &installation)?;
    // Compared with nothing, what mcpctl wrote is outdated, and the rest is of a person.
    let state = FileState::of(existing.as_deref(), "");
    check_edited(ACTION, &installation, state, args.change.force, "removes it")?;
    let has_link = installation.link.as_ref().is_some_and(|link| link.symlink_metadata().is_ok());
    let is_loaded = match installation.kind {
        ServiceManagerKind::Launchd => is_active(&installation).await,
        ServiceManagerKind::Systemd => existing.is_none() && runs_without_file(&installation).await,
    };
    let steps = installation.uninstall(existing.is_some(), has_link, is_loaded);
    if !steps.is_empty() && !is_dry {
        let otherwise = format!("or remove {} by hand", installation.file.display());
        check_manager(ACTION, &installation, &otherwise).await?;
    }
    if !context.out.is_json() {
        super::show_steps(context, &steps);
    }
    if !is_dry {
        // `systemctl disable` removes the link; what it left is removed by a step of its own.
        perform(ACTION, &installation, &steps).await?;
        for directory in installation.directories() {
            // Only an empty one can be removed.
            let _ = std::fs::remove_dir(directory);
        }
    }
    let kept = match installation.scope {
        Scope::User => paths::default_state_dir(&paths::process_environment).display().to_string(),
        Scope::System => format!("{}, /var/log/mcpd and /etc/mcpd", paths::SYSTEM_STATE),
    };
    let mut notes = vec![match (steps.is_empty(), is_dry) {
        (true, _) => "the service is not installed: nothing to do".to_owned(),
        (false, true) => "dry run: nothing was changed".to_owned(),
        (false, false) => "uninstalled".to_owned(),
    }];
    if !steps.is_empty() {
        notes.push(format!("the history, the logs and the configuration stay: {kept}"));
    }
    if context.out.is_json() {
        context.out.json_with_schema(SCHEMA, &Outcome { dry_run: is_dry, steps: &steps, notes: &notes });
    } else {
        show_sentences(context, &notes);
    }
    Ok(SUCCESS)
}

/// Whether systemd still runs the unit of a file that was removed by hand. A unit with another file, for instance
/// one of a package, is not ours to stop.
async fn runs_without_file(installation: &Installation) -> bool {
    let words = installation.systemctl(&["show", UNIT, "--property=FragmentPath", "--value"]);
    let Ok(ran) = programs::run(&words, QUESTION_LIMIT).await else { return false };
    let file = ran.stdout.trim();
    let is_ours = file.is_empty() || Path::new(file) == installation.file;
    is_ours && is_active(installation).await
}
