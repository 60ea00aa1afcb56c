//! Where a service is installed, and by which commands. Pure.

use std::path::{Path, PathBuf};

use mcpd_common::os::ServiceManagerKind;

use super::stamp::FileState;
use super::step::Step;
use super::unit_file::LABEL;

pub const UNIT: &str = "mcpd.service";

/// The unit that `service install --system` writes.
pub const SYSTEM_UNIT_FILE: &str = "/etc/systemd/system/mcpd.service";

/// Whose service it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    User,
    System,
}

/// A service manager, and the file that describes the service to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installation {
    pub kind: ServiceManagerKind,
    pub scope: Scope,
    pub file: PathBuf,
    /// Made by `systemctl enable`.
    pub link: Option<PathBuf>,
    uid: u32,
}

/// The directories of a user.
#[derive(Clone, Debug)]
pub struct Directories {
    /// Before all paths of the system; for tests and images.
    pub root: PathBuf,
    pub home: PathBuf,
    /// `XDG_CONFIG_HOME`, or its default.
    pub config_home: PathBuf,
}

impl Installation {
    pub fn new(kind: ServiceManagerKind, scope: Scope, directories: &Directories, uid: u32) -> Self {
        let Directories { root, home, config_home } = directories;
        let (directory, target) = match (kind, scope) {
            (ServiceManagerKind::Systemd, Scope::User) => {
                (config_home.join("systemd/user"), Some("default.target"))
            }
            (ServiceManagerKind::Systemd, Scope::System) => {
                (root.join("etc/systemd/system"), Some("multi-user.target"))
            }
            (ServiceManagerKind::Launchd, Scope::User) => (home.join("Library/LaunchAgents"), None),
            (ServiceManagerKind::Launchd, Scope::System) => (root.join("Library/LaunchDaemons"), None),
        };
        let file = match kind {
            ServiceManagerKind::Systemd => directory.join(UNIT),
            ServiceManagerKind::Launchd => directory.join(format!("{LABEL}.plist")),
        };
        let link = target.map(|target| directory.join(format!("{target}.wants")).join(UNIT));
        Self { kind, scope, file, link, uid }
    }

    /// "the user's systemd"
    pub fn manager(&self) -> &'static str {
        match (self.kind, self.scope) {
            (ServiceManagerKind::Systemd, Scope::User) => "the user's systemd",
            (ServiceManagerKind::Systemd, Scope::System) => "the system's systemd",
            (ServiceManagerKind::Launchd, Scope::User) => "the user's launchd",
            (ServiceManagerKind::Launchd, Scope::System) => "the system's launchd",
        }
    }

    /// A command line of systemctl.
    pub fn systemctl(&self, args: &[&str]) -> Vec<String> {
        let scope = match self.scope {
            Scope::User => Some("--user"),
            Scope::System => None,
        };
        words(["systemctl"].into_iter().chain(scope).chain(args.iter().copied()))
    }

    /// The job in launchd: "gui/501/org.mcpd.mcpd".
    pub fn job(&self) -> String {
        format!("{}/{LABEL}", self.domain())
    }

    fn domain(&self) -> String {
        match self.scope {
            Scope::User => format!("gui/{}", self.uid),
            Scope::System => "system".to_owned(),
        }
    }

    /// Whether the service manager can be reached at all.
    pub fn probe(&self) -> Vec<String> {
        match self.kind {
            ServiceManagerKind::Systemd => self.systemctl(&["show", "--property=Version"]),
            ServiceManagerKind::Launchd => words(["launchctl", "print", &self.domain()]),
        }
    }

    /// Ends with 0 if the service is active; the state is in its output.
    pub fn is_active(&self) -> Vec<String> {
        match self.kind {
            ServiceManagerKind::Systemd => self.systemctl(&["is-active", UNIT]),
            ServiceManagerKind::Launchd => words(["launchctl", "print", &self.job()]),
        }
    }

    /// What a person reads after a failure.
    pub fn look(&self) -> String {
        match (self.kind, self.scope) {
            (ServiceManagerKind::Systemd, Scope::User) => {
                format!("systemctl --user status {UNIT}; journalctl --user -u {UNIT}")
            }
            (ServiceManagerKind::Systemd, Scope::System) => {
                format!("systemctl status {UNIT}; journalctl -u {UNIT}")
            }
            (ServiceManagerKind::Launchd, _) => format!("launchctl print {}", self.job()),
        }
    }

    /// The steps of an installation. `is_loaded`: launchd has the job already.
    pub fn install(&self, state: FileState, content: String, is_loaded: bool) -> Vec<Step> {
        let mut steps = Vec::new();
        if state.is_of_a_person() {
            steps.push(Step::Keep { file: self.file.clone(), copy: copy_of(&self.file) });
        }
        let is_changed = state != FileState::Current;
        if is_changed {
            steps.push(Step::Write { file: self.file.clone(), content });
        }
        match self.kind {
            ServiceManagerKind::Systemd => {
                for args in [&["daemon-reload"][..], &["enable", UNIT], &["start", UNIT]] {
                    steps.push(Step::run(self.systemctl(args)));
                }
            }
            ServiceManagerKind::Launchd => {
                if is_loaded && is_changed {
                    steps.push(Step::run(words(["launchctl", "bootout", &self.job()])));
                }
                steps.push(Step::run(words(["launchctl", "enable", &self.job()])));
                if !is_loaded || is_changed {
                    let file = self.file.display().to_string();
                    steps.push(Step::run(words(["launchctl", "bootstrap", &self.domain(), &file])));
                }
            }
        }
        steps
    }

    /// The steps of a removal. `has_file`, `has_link`: what exists. `is_loaded`: the service manager has the service,
    /// even without its file.
    pub fn uninstall(&self, has_file: bool, has_link: bool, is_loaded: bool) -> Vec<Step> {
        let mut steps = Vec::new();
        match self.kind {
            ServiceManagerKind::Systemd if has_file => {
                steps.push(Step::run(self.systemctl(&["disable", "--now", UNIT])));
            }
            ServiceManagerKind::Systemd if is_loaded => {
                steps.push(Step::run(self.systemctl(&["stop", UNIT])));
            }
            ServiceManagerKind::Launchd if is_loaded => {
                steps.push(Step::run(words(["launchctl", "bootout", &self.job()])));
            }
            _ => {}
        }
        if has_file {
            steps.push(Step::Remove { file: self.file.clone() });
        }
        // Without its unit, systemctl does not find a link.
        steps.extend(self.link.iter().filter(|_| has_link).map(|link| Step::Remove { file: link.clone() }));
        if self.kind == ServiceManagerKind::Systemd && !steps.is_empty() {
            steps.push(Step::run(self.systemctl(&["daemon-reload"])));
            steps.push(Step::RunAnyway { words: self.systemctl(&["reset-failed", UNIT]) });
        }
        steps
    }

    /// Directories that an installation may have made; removed if they are empty.
    pub fn directories(&self) -> Vec<&Path> {
        match (self.kind, self.scope) {
            (ServiceManagerKind::Systemd, Scope::User) => {
                let wants = self.link.as_deref().and_then(Path::parent);
                let units = self.file.parent();
                [wants, units, units.and_then(Path::parent)].into_iter().flatten().collect()
            }
            _ => Vec::new(),
        }
    }
}

/// Where `--force` keeps a file that was changed by hand; systemd and launchd do not read it.
fn copy_of(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".edited");
    name.into()
}

fn words<'a>(words: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    words.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn installation(kind: ServiceManagerKind, scope: Scope) -> Installation {
        let directories = Directories {
            root: "/".into(),
            home: "/home/kim".into(),
            config_home: "/home/kim/.config".into(),
        };
        Installation::new(kind, scope, &directories, 501)
    }

    fn shown(steps: &[Step]) -> String {
        steps.iter().map(|step| format!("{}\n", step.title())).collect()
    }

    #[test]
    fn a_user_unit_is_written_enabled_and_started() {
        let user = installation(ServiceManagerKind::Systemd, Scope::User);
        insta::assert_snapshot!(shown(&user.install(FileState::Absent, String::new(), false)), @r"
        write  /home/kim/.config/systemd/user/mcpd.service
        run    systemctl --user daemon-reload
        run    systemctl --user enable mcpd.service
        run    systemctl --user start mcpd.service
        ");
        insta::assert_snapshot!(shown(&user.uninstall(true, true, false)), @r"
        run    systemctl --user disable --now mcpd.service
        remove /home/kim/.config/systemd/user/mcpd.service
        remove /home/kim/.config/systemd/user/default.target.wants/mcpd.service
        run    systemctl --user daemon-reload
        run    systemctl --user reset-failed mcpd.service
        ");
        assert!(user.uninstall(false, false, false).is_empty(), "nothing is left to do");
        insta::assert_snapshot!(shown(&user.uninstall(false, false, true)), @r"
        run    systemctl --user stop mcpd.service
        run    systemctl --user daemon-reload
        run    systemctl --user reset-failed mcpd.service
        ");
    }

    #[test]
    fn a_second_installation_writes_nothing() {
        let system = installation(ServiceManagerKind::Systemd, Scope::System);
        let steps = system.install(FileState::Current, String::new(), false);
        insta::assert_snapshot!(shown(&steps), @r"
        run    systemctl daemon-reload
        run    systemctl enable mcpd.service
        run    systemctl start mcpd.service
        ");
        let edited = system.install(FileState::Edited, String::new(), false);
        assert!(edited[0].title().ends_with("mcpd.service.edited"), "{}", edited[0].title());
    }

    #[test]
    fn a_job_of_launchd_is_loaded_once() {
        let agent = installation(ServiceManagerKind::Launchd, Scope::User);
        insta::assert_snapshot!(shown(&agent.install(FileState::Outdated, String::new(), true)), @r"
        write  /home/kim/Library/LaunchAgents/org.mcpd.mcpd.plist
        run    launchctl bootout gui/501/org.mcpd.mcpd
        run    launchctl enable gui/501/org.mcpd.mcpd
        run    launchctl bootstrap gui/501 /home/kim/Library/LaunchAgents/org.mcpd.mcpd.plist
        ");
        let again = agent.install(FileState::Current, String::new(), true);
        assert_eq!(shown(&again), "run    launchctl enable gui/501/org.mcpd.mcpd\n");
        insta::assert_snapshot!(shown(&agent.uninstall(true, false, true)), @r"
        run    launchctl bootout gui/501/org.mcpd.mcpd
        remove /home/kim/Library/LaunchAgents/org.mcpd.mcpd.plist
        ");
    }
}
