//! Can this worker be started at all: is its repository there, can its command be found?

use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use crate::paths::{self, Environment};

/// Where programs are looked for when nobody says.
const USUAL_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Why something can't be used, and what to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Obstacle {
    pub key: &'static str,
    pub message: String,
    pub help: &'static str,
}

/// What is in the way of a directory as a working directory.
pub(super) fn directory(repo: &Path) -> Option<Obstacle> {
    let shown = repo.display();
    let (message, help) = match std::fs::metadata(repo) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            (format!("repository {shown} does not exist"), "create it or correct the path")
        }
        Err(error) => (format!("repository {shown}: {error}"), "correct the path or its permissions"),
        Ok(meta) if !meta.is_dir() => (format!("repository {shown} is not a directory"), "correct the path"),
        Ok(_) if access(repo, Access::EXEC_OK).is_err() => {
            (format!("repository {shown} can't be entered"), "correct its permissions")
        }
        Ok(_) => return None,
    };
    Some(Obstacle { key: "repo", message, help })
}

/// What is in the way of a directory for the built-in worker.
pub(super) fn git_repository(repo: &Path) -> Option<Obstacle> {
    let bare = repo.join("HEAD").is_file() && repo.join("objects").is_dir();
    let inside = repo.ancestors().any(|directory| directory.join(".git").exists());
    (!bare && !inside).then(|| Obstacle {
        key: "repo",
        message: format!("{} is not inside a git repository", repo.display()),
        help: "the built-in worker serves git repositories; name another server with `command`",
    })
}

/// The program as it is to be run: `~` and paths with a '/' become absolute, relative ones from
/// the worker's directory, since that is where it runs.
pub(super) fn program(written: &str, directory: &Path, env: Environment) -> String {
    match written.contains('/') {
        true => paths::absolute(written, directory, env).to_string_lossy().into_owned(),
        false => written.to_owned(),
    }
}

/// What is in the way of running this program with this search path.
pub(super) fn command(key: &'static str, program: &str, search: Option<&str>) -> Option<Obstacle> {
    if program.contains('/') {
        let (message, help) = match std::fs::metadata(program) {
            Err(_) => (format!("{program} does not exist"), "correct the path or install it"),
            Ok(meta) if !meta.is_file() => (format!("{program} is not a file"), "correct the path"),
            Ok(_) if !is_executable(Path::new(program)) => {
                (format!("{program} is not executable"), "chmod +x it, or name its interpreter first")
            }
            Ok(_) => return None,
        };
        return Some(Obstacle { key, message, help });
    }
    let search = search.unwrap_or(USUAL_PATH);
    let found =
        std::env::split_paths(search).map(|dir: PathBuf| dir.join(program)).any(|file| is_executable(&file));
    (!found).then(|| Obstacle {
        key,
        message: format!("program {program} was not found in PATH ({search})"),
        help: "install it, write its whole path, or set PATH in `env`",
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
    fn a_program_is_looked_for_where_it_will_be_run() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("server");
        std::fs::write(&file, "").expect("written");
        let none = |_: &str| None;
        let path = program("./server", dir.path(), &none);
        assert_eq!(Path::new(&path), file);
        let search = dir.path().to_str();
        let says = |obstacle: Option<Obstacle>| obstacle.map(|it| it.message).unwrap_or_default();
        assert!(says(command("command", &path, None)).ends_with("is not executable"));
        assert!(says(command("command", "server", search)).contains("was not found in PATH"));
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).expect("chmod");
        assert_eq!(command("command", &path, None), None);
        assert_eq!(command("command", "server", search), None);
    }

    #[test]
    fn a_directory_must_be_there_and_hold_a_repository() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let inner = dir.path().join("a/b");
        let missing = directory(&inner).expect("missing");
        assert!(missing.message.ends_with("does not exist"));
        std::fs::create_dir_all(&inner).expect("made");
        assert_eq!(directory(&inner), None);
        std::fs::create_dir(dir.path().join(".git")).expect("made");
        assert_eq!(git_repository(&inner), None, "below the top is inside as well");
    }
}
