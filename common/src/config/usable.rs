//! Checks whether a worker can be started: its repository exists, and its command is found.

use std::borrow::Cow;
use std::path::Path;

use rustix::fs::{Access, access};

use super::context::GitReason;
use super::mistakes;
use super::repository::{FoundRepository, find_repository};
use crate::paths::{self, Environment};

/// The search path if `PATH` is not set.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// A reason why a worker can't be started, and what to do about it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Obstacle {
    pub key: &'static str,
    pub message: String,
    pub help: Cow<'static, str>,
}

/// Checks that the directory can be a working directory.
pub(super) fn directory(repo: &Path) -> Option<Obstacle> {
    let shown = repo.display();
    let (message, help) = match std::fs::metadata(repo) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            (format!("repository {shown} does not exist"), "create it or correct the path")
        }
        Err(error) => {
            (format!("can't access repository {shown}: {error}"), "correct the path or its permissions")
        }
        Ok(meta) if !meta.is_dir() => (format!("repository {shown} is not a directory"), "correct the path"),
        Ok(_) if access(repo, Access::EXEC_OK).is_err() => {
            (format!("no permission to enter repository {shown}"), "correct its permissions")
        }
        Ok(_) => return None,
    };
    Some(Obstacle { key: "repo", message, help: help.into() })
}

/// Checks that the built-in worker can serve the directory.
pub(super) fn git_repository(repo: &Path, git: Option<GitReason>) -> Option<Obstacle> {
    let shown = repo.display();
    let reason = || git.and_then(|git| git(repo));
    let (message, help) = match find_repository(repo) {
        None => (
            format!("{shown} is not inside a git repository"),
            "correct the path, or write the command of another server: the built-in worker serves git repositories",
        ),
        Some(FoundRepository::Bare(bare)) => {
            let reason = reason().map(|reason| format!(" (git says: {reason})")).unwrap_or_default();
            let bare = bare.display();
            (
                format!(
                    "{bare} is a bare git repository, and the built-in worker serves working trees{reason}"
                ),
                "name a clone that has a working tree, or write the command of another server",
            )
        }
        Some(FoundRepository::WorkingTree(_)) => {
            let reason = reason()?;
            (format!("git refuses {shown}: {reason}"), "correct that, or name another repository")
        }
    };
    Some(Obstacle { key: "repo", message, help: help.into() })
}

/// The program to execute. A path (with a '/') is made absolute: `~` is expanded, and a relative path starts
/// at the worker's directory, since the program runs there. A plain name stays as it is.
pub(super) fn program(written: &str, directory: &Path, env: Environment) -> String {
    if written.contains('/') {
        paths::absolute(written, directory, env).to_string_lossy().into_owned()
    } else {
        written.to_owned()
    }
}

/// Checks that the program exists and is executable; a plain name is searched in `search`.
pub(super) fn command(key: &'static str, program: &str, search: Option<&str>) -> Option<Obstacle> {
    if program.contains('/') {
        let (message, help) = match std::fs::metadata(program) {
            Err(_) => (format!("{program} does not exist"), "correct the path or install it"),
            Ok(meta) if !meta.is_file() => (format!("{program} is not a file"), "correct the path"),
            Ok(_) if !is_executable(Path::new(program)) => (
                format!("{program} is not executable"),
                "make it executable with chmod +x, or write its interpreter first",
            ),
            Ok(_) => return None,
        };
        return Some(Obstacle { key, message, help: help.into() });
    }
    let search = search.unwrap_or(DEFAULT_PATH);
    let found = std::env::split_paths(search).any(|directory| is_executable(&directory.join(program)));
    let help = || {
        if program.contains(char::is_whitespace) {
            return mistakes::as_list(key, program).into();
        }
        "install it, write its full path, or set PATH in env".into()
    };
    (!found).then(|| Obstacle {
        key,
        message: format!("program {program} was not found in PATH ({search})"),
        help: help(),
    })
}

fn is_executable(file: &Path) -> bool {
    file.is_file() && access(file, Access::EXEC_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_relative_program_is_searched_in_the_directory_it_runs_in() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("server");
        std::fs::write(&file, "").expect("written");
        let none = |_: &str| None;
        let path = program("./server", dir.path(), &none);
        assert_eq!(Path::new(&path), file);
        let search = dir.path().to_str();
        let message = |obstacle: Option<Obstacle>| obstacle.map(|it| it.message).unwrap_or_default();
        assert!(message(command("command", &path, None)).ends_with("is not executable"));
        assert!(message(command("command", "server", search)).contains("was not found in PATH"));
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).expect("chmod");
        assert_eq!(command("command", &path, None), None);
        assert_eq!(command("command", "server", search), None);
    }

    #[test]
    fn a_directory_must_exist_and_be_inside_a_repository() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let inner = dir.path().join("a/b");
        let missing = directory(&inner).expect("missing");
        assert!(missing.message.ends_with("does not exist"));
        std::fs::create_dir_all(&inner).expect("made");
        assert_eq!(directory(&inner), None);
        std::fs::create_dir(dir.path().join(".git")).expect("made");
        assert_eq!(git_repository(&inner, None), None, "a subdirectory of a repository is inside it");
        let refused =
            git_repository(&inner, Some(&|_| Some("fatal: not yours".to_owned()))).expect("refused");
        assert!(
            refused.message.starts_with("git refuses ") && refused.message.ends_with(": fatal: not yours")
        );
    }

    #[test]
    fn a_bare_repository_has_no_working_tree_to_serve() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        for made in ["objects", "refs"] {
            std::fs::create_dir(dir.path().join(made)).expect("made");
        }
        std::fs::write(dir.path().join("HEAD"), "ref: refs/heads/main\n").expect("written");
        let found = git_repository(dir.path(), None).expect("bare");
        assert!(found.message.contains("is a bare git repository"), "{}", found.message);
        assert!(found.help.starts_with("name a clone"), "{}", found.help);
    }
}
