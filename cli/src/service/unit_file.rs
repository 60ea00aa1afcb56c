//! Renders the templates of `scripts/`. Pure.

use std::path::{Path, PathBuf};

use mcpd_common::exit_code::{self, ServiceOutcome, service_outcome};

use super::stamp::{Comment, stamp};

const USER_UNIT: &str = include_str!("../../../scripts/mcpd.user.service.in");
const SYSTEM_UNIT: &str = include_str!("../../../scripts/mcpd.system.service.in");
const PROPERTY_LIST: &str = include_str!("../../../scripts/mcpd.plist.in");

/// In front of the configuration in a command line.
const CONFIG_OPTION: &str = " --config ";

/// The name of the job in launchd.
pub const LABEL: &str = "org.mcpd.mcpd";

/// [`exit_code::RestartWhen`] on the command line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum RestartWhen {
    /// After a crash
    #[default]
    OnFailure,
    /// After every exit that the service manager did not request, except that a start can't succeed
    Always,
}

/// What the templates need.
#[derive(Clone, Debug)]
pub struct Values {
    pub mcpd: PathBuf,
    pub mcpctl: PathBuf,
    pub config: PathBuf,
    /// The PATH of the workers.
    pub path: String,
    /// The user of a system-wide service.
    pub user: Option<String>,
    /// Limit of the service manager for a shutdown.
    pub stop_seconds: u64,
    pub restart: RestartWhen,
    /// Standard error of a job of launchd.
    pub log: PathBuf,
}

/// The unit of systemd; a system unit if there is a user.
pub fn systemd(values: &Values) -> String {
    let restart = match values.restart {
        RestartWhen::OnFailure => "on-failure",
        RestartWhen::Always => "always",
    };
    let template = if values.user.is_some() { SYSTEM_UNIT } else { USER_UNIT };
    let text = fill(
        template,
        &[
            ("MCPD", exec_word(&text_of(&values.mcpd))),
            ("MCPCTL", exec_word(&text_of(&values.mcpctl))),
            ("CONFIG", exec_word(&text_of(&values.config))),
            ("USER", values.user.clone().unwrap_or_default()),
            ("STOP_SECONDS", values.stop_seconds.to_string()),
            ("RESTART", restart.to_owned()),
            ("NO_RESTART", no_restart(values.restart)),
            ("PATH", quoted(&format!("PATH={}", values.path))),
        ],
    );
    // Root without capabilities could not do what root is chosen for.
    let is_root = values.user.as_deref() == Some("root");
    let capabilities = if is_root { "" } else { "CapabilityBoundingSet=\n" };
    stamp(&text.replace("@CAPABILITIES@\n", capabilities), Comment::Hash)
}

/// The property list of launchd.
pub fn launchd(values: &Values) -> String {
    let user = values
        .user
        .as_ref()
        .map(|user| format!("    <key>UserName</key>\n    <string>{}</string>\n", xml(user)));
    let mode = match values.restart {
        RestartWhen::OnFailure => "--launchd",
        RestartWhen::Always => "--launchd=always",
    };
    let text = fill(
        PROPERTY_LIST,
        &[
            ("LABEL", LABEL.to_owned()),
            ("MCPD", xml(&text_of(&values.mcpd))),
            ("CONFIG", xml(&text_of(&values.config))),
            ("PATH", xml(&values.path)),
            ("MODE", mode.to_owned()),
            ("STOP_SECONDS", values.stop_seconds.to_string()),
            ("LOG", xml(&text_of(&values.log))),
        ],
    );
    stamp(&text.replace("@USER@\n", &user.unwrap_or_default()), Comment::Xml)
}

/// Whether this unit starts mcpd with a configuration that the unit names.
pub fn names_config(unit: &str) -> bool {
    start_commands(unit).any(|command| command.contains(CONFIG_OPTION))
}

/// Whether this unit starts mcpd with this configuration.
pub fn starts_with_config(unit: &str, config: &Path) -> bool {
    let option = format!("{CONFIG_OPTION}{}", exec_word(&text_of(config)));
    start_commands(unit).any(|command| command.ends_with(&option))
}

fn start_commands(unit: &str) -> impl Iterator<Item = &str> {
    unit.lines().filter_map(|line| line.strip_prefix("ExecStart="))
}

impl From<RestartWhen> for exit_code::RestartWhen {
    fn from(restart: RestartWhen) -> Self {
        match restart {
            RestartWhen::OnFailure => Self::OnFailure,
            RestartWhen::Always => Self::Always,
        }
    }
}

/// Failures after which systemd does not start mcpd again.
fn no_restart(restart: RestartWhen) -> String {
    let is_listed = |code: &u8| {
        service_outcome(*code) == ServiceOutcome::Failed && exit_code::is_final(*code, restart.into())
    };
    let codes: Vec<_> = (0..=u8::MAX).filter(is_listed).map(|code| code.to_string()).collect();
    codes.join(" ")
}

fn text_of(path: &Path) -> String {
    path.display().to_string()
}

/// One pass, so that a value may look like a placeholder.
fn fill(template: &str, values: &[(&str, String)]) -> String {
    let mut text = String::new();
    let mut rest = template;
    while let Some(at) = rest.find('@') {
        let (before, after) = rest.split_at(at);
        text.push_str(before);
        let found = values.iter().find_map(|(name, value)| {
            let rest = after.strip_prefix('@')?.strip_prefix(name)?.strip_prefix('@')?;
            Some((value, rest))
        });
        match found {
            Some((value, left)) => {
                text.push_str(value);
                rest = left;
            }
            None => {
                text.push('@');
                rest = &after[1..];
            }
        }
    }
    text.push_str(rest);
    text
}

/// A word of a command line in a unit (systemd.service(5), "Command lines").
fn exec_word(word: &str) -> String {
    quoted(word).replace('$', "$$")
}

/// A value with quotes, if it needs them; `%` begins a specifier (systemd.unit(5)).
fn quoted(value: &str) -> String {
    let escaped = value.replace('%', "%%");
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:=@%,~$".contains(c);
    if escaped.chars().all(is_plain) {
        return escaped;
    }
    format!("\"{}\"", escaped.replace('\\', "\\\\").replace('"', "\\\""))
}

fn xml(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod property_list_tests;

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn values(user: Option<&str>) -> Values {
        Values {
            mcpd: "/home/kim/.cargo/bin/mcpd".into(),
            mcpctl: "/home/kim/.cargo/bin/mcpctl".into(),
            config: "/home/kim/.config/mcpd/config.toml".into(),
            path: "/home/kim/.nvm/bin:/usr/bin".to_owned(),
            user: user.map(str::to_owned),
            stop_seconds: 111,
            restart: RestartWhen::OnFailure,
            log: "/Users/kim/Library/Logs/mcpd.log".into(),
        }
    }

    fn setting<'a>(unit: &'a str, key: &str) -> Vec<&'a str> {
        unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect()
    }

    #[test]
    fn the_user_unit() {
        insta::assert_snapshot!(systemd(&values(None)));
    }

    #[test]
    fn the_system_unit() {
        insta::assert_snapshot!(systemd(&values(Some("kim"))));
    }

    #[test]
    fn the_property_list() {
        insta::assert_snapshot!(launchd(&values(None)));
    }

    /// R-SVC-2: a requested shutdown is not undone, and a start that can't succeed is not repeated.
    #[test]
    fn the_exit_code_decides_about_a_restart() {
        let unit = systemd(&values(None));
        assert_eq!(setting(&unit, "RestartPreventExitStatus"), ["4 5 6 64 75 78 102"]);
        assert_eq!(setting(&unit, "SuccessExitStatus"), ["1 2 3"]);
        assert_eq!(setting(&unit, "Restart"), ["on-failure"]);
        let unit = systemd(&Values { restart: RestartWhen::Always, ..values(None) });
        assert_eq!(setting(&unit, "RestartPreventExitStatus"), ["64 75 78"]);
        assert_eq!(setting(&unit, "Restart"), ["always"]);
    }

    #[test]
    fn a_unit_is_recognized_by_its_configuration() {
        let config = Path::new("/srv/my config.toml");
        let unit = systemd(&Values { config: config.to_owned(), ..values(Some("kim")) });
        assert!(names_config(&unit) && starts_with_config(&unit, config));
        assert!(!names_config("[Service]\nExecStart=/bin/mcpd\nExecStop=/bin/mcpctl --config /a shutdown\n"));
        for other in ["/srv/my", "config.toml", "/srv/my config.toml.old", ""] {
            assert!(!starts_with_config(&unit, Path::new(other)), "{other}");
        }
    }

    /// What the field notes found with a guardian as main process.
    #[test]
    fn both_units_have_what_a_guardian_needs() {
        for unit in [systemd(&values(None)), systemd(&values(Some("kim")))] {
            for (key, value) in [
                ("Type", "notify"),
                ("NotifyAccess", "all"),
                ("KillMode", "mixed"),
                ("Delegate", "yes"),
                ("TimeoutStopSec", "111"),
            ] {
                assert_eq!(setting(&unit, key), [value], "{key}");
            }
            assert!(setting(&unit, "ExecStop")[0].starts_with("-/"), "its exit code is ignored");
            for breaks_workers in [
                "MemoryDenyWriteExecute",
                "RestrictNamespaces",
                "SystemCallFilter",
                "ProtectHome",
                "ProtectControlGroups",
            ] {
                assert!(setting(&unit, breaks_workers).is_empty(), "{breaks_workers}");
            }
        }
    }

    #[test]
    fn no_placeholder_is_left() {
        let property_list = launchd(&Values { user: Some("kim".to_owned()), ..values(None) });
        for text in [systemd(&values(None)), systemd(&values(Some("kim"))), property_list] {
            assert!(!text.contains('@'), "{text}");
        }
    }

    #[test]
    fn unusual_characters_are_quoted() {
        assert_eq!(exec_word("/a b/100%/$x\"\\"), r#""/a b/100%%/$$x\"\\""#);
        assert_eq!(quoted("PATH=/a b:/c"), "\"PATH=/a b:/c\"");
        assert_eq!(quoted("PATH=/$x"), "PATH=/$x", "Environment= has no variables");
        assert_eq!(xml("/a&b/<c>"), "/a&amp;b/&lt;c&gt;");
        let unit = systemd(&Values { config: "/@MCPD@/c".into(), ..values(None) });
        assert!(unit.contains("--config /@MCPD@/c"), "{unit}");
    }
}
