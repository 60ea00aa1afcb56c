//! Stand-ins for systemctl, launchctl and loginctl: they record their arguments, and fail if the test requests it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use mcpd_tests::{BOUND, Output, binaries, command};
use tempfile::TempDir;

/// Answers like systemd: `fail` holds a word of the commands that fail, `state` that of the unit, `enable` makes the
/// link and `disable` removes it.
const SYSTEMCTL: &str = r#"#!/bin/sh
echo "systemctl $*" >> "$STANDIN/log"
fail=$(cat "$STANDIN/fail" 2>/dev/null)
if test -n "$fail"; then case "$*" in *$fail*) echo "Failed to connect to bus: $fail" >&2; exit 1;; esac; fi
scope=system; if test "$1" = --user; then scope=user; shift; fi
if test $scope = user; then units=$HOME/.config/systemd/user; target=default.target
else units=$STANDIN/root/etc/systemd/system; target=multi-user.target; fi
case "$1" in
  is-active) state=$(cat "$STANDIN/state" 2>/dev/null || echo inactive); echo "$state"; test "$state" = active ;;
  show) printf 'ActiveState=%s\nSubState=running\nResult=success\nUnitFileState=enabled\nMainPID=7\nNRestarts=0\nStatusText=1 of 1 worker ready\nExecMainStatus=0\nNeedDaemonReload=no\n' "$(cat "$STANDIN/state" 2>/dev/null || echo inactive)" ;;
  enable) mkdir -p "$units/$target.wants"; ln -sf "$units/$2" "$units/$target.wants/$2" ;;
  disable) rm -f "$units/$target.wants/mcpd.service"; echo inactive > "$STANDIN/state" ;;
  start) echo active > "$STANDIN/state" ;;
esac
"#;

const LAUNCHCTL: &str = r#"#!/bin/sh
echo "launchctl $*" >> "$STANDIN/log"
case "$1 $2" in
  "print gui/"*/org.mcpd.mcpd) test -e "$STANDIN/loaded" || exit 113; printf '\tstate = running\n\tpid = 7\n' ;;
  bootstrap*) touch "$STANDIN/loaded" ;;
  bootout*) rm "$STANDIN/loaded" ;;
esac
"#;

const LOGINCTL: &str = "#!/bin/sh\ncat \"$STANDIN/linger\" 2>/dev/null || echo no\n";

/// A login shell that finds programs in a directory of its own.
const SHELL: &str = "#!/bin/sh\necho welcome\nPATH=/from/the/profile:$PATH; export PATH\neval \"$2\"\n";

/// A home, the stand-ins, and what they recorded.
pub struct Standin {
    pub home: TempDir,
    directory: TempDir,
}

impl Standin {
    pub fn new() -> Self {
        let standin = Self {
            home: tempfile::tempdir().expect("a temporary directory"),
            directory: tempfile::tempdir().expect("a temporary directory"),
        };
        let programs = [
            ("bin/systemctl", SYSTEMCTL),
            ("bin/launchctl", LAUNCHCTL),
            ("bin/loginctl", LOGINCTL),
            ("shell", SHELL),
        ];
        fs::create_dir(standin.directory.path().join("bin")).expect("made");
        for (name, script) in programs {
            let file = standin.directory.path().join(name);
            fs::write(&file, script).expect("written");
            fs::set_permissions(&file, Permissions::from_mode(0o755)).expect("changed");
        }
        let config = standin.home.path().join(".config/mcpd/config.toml");
        fs::create_dir_all(config.parent().expect("a parent")).expect("made");
        fs::write(config, "[shutdown]\nclients = \"7s\"\n").expect("written");
        standin
    }

    /// `mcpctl service` with these arguments.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(binaries::mcpctl());
        let bin = self.directory.path().join("bin").display().to_string();
        command.arg("service").args(args).env_clear().env("HOME", self.home.path());
        command.env("SHELL", self.directory.path().join("shell"));
        command.env("PATH", format!("{bin}:/usr/bin:/bin")).env("STANDIN", self.directory.path());
        command
    }

    #[track_caller]
    pub fn service(&self, args: &[&str]) -> Output {
        command::start(&mut self.command(args)).finish(BOUND)
    }

    /// Sets what the stand-ins answer.
    pub fn set(&self, name: &str, value: &str) {
        fs::write(self.directory.path().join(name), value).expect("written");
    }

    pub fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    /// The commands that were run since the last call.
    pub fn ran(&self) -> Vec<String> {
        let log = self.directory.path().join("log");
        let text = fs::read_to_string(&log).unwrap_or_default();
        let _ = fs::remove_file(log);
        text.lines().map(str::to_owned).collect()
    }

    pub fn unit(&self) -> PathBuf {
        self.home.path().join(".config/systemd/user/mcpd.service")
    }

    pub fn read(&self, file: &Path) -> String {
        fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
    }

    /// All files and directories of the home, sorted.
    pub fn tree(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut waiting = vec![self.home.path().to_path_buf()];
        while let Some(directory) = waiting.pop() {
            for entry in fs::read_dir(directory).expect("readable").flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    waiting.push(entry.path());
                }
                found.push(entry.path());
            }
        }
        found.sort();
        found
    }
}
