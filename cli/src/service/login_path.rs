//! The PATH of a user's login shell. nvm, mise, pyenv and Homebrew set it in the shell's files, which a service does
//! not read.

use std::time::Duration;

use super::program;

/// Limit for the files of the shell, which may wait for a network or a terminal.
const LIMIT: Duration = Duration::from_secs(5);

const BEGIN: &str = "mcpd-path-begin";
const END: &str = "mcpd-path-end";

/// Present on every system.
const ALWAYS: [&str; 3] = ["/usr/local/bin", "/usr/bin", "/bin"];

/// A PATH, and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginPath {
    pub value: String,
    /// "the login shell /bin/zsh"
    pub source: String,
}

/// Asks the shell; without its answer, `fallback` (the PATH of mcpctl) counts. `other_user` is asked through su(1).
pub async fn find(shell: &str, other_user: Option<&str>, fallback: &str) -> LoginPath {
    // A start file may print anything, before and after.
    let script = format!("printf '%s\\n' {BEGIN}; printenv PATH; printf '%s\\n' {END}");
    let (words, asked) = match other_user {
        None => (vec![shell.to_owned(), "-lc".to_owned(), script], format!("the login shell {shell}")),
        Some(user) => {
            let words = ["su", "-l", user, "-c"].map(str::to_owned).into_iter().chain([script]).collect();
            (words, format!("the login shell of {user}"))
        }
    };
    let answer = program::run(&words, LIMIT).await;
    let why = match answer.map(|ran| between_marks(&ran.stdout)) {
        Ok(Some(path)) => return LoginPath { value: usable(&path), source: asked },
        Ok(None) => format!("{asked} did not report its PATH"),
        Err(error) => error.to_string(),
    };
    LoginPath { value: usable(fallback), source: format!("this mcpctl, because {why}") }
}

fn between_marks(output: &str) -> Option<String> {
    let mut lines = output.lines().skip_while(|line| line.trim() != BEGIN).skip(1);
    let path = lines.next()?.trim();
    (path != END && !path.is_empty() && lines.any(|line| line.trim() == END)).then(|| path.to_owned())
}

/// Absolute directories, each once, and the directories that every system has. Relative ones would depend on the
/// working directory of each worker.
fn usable(path: &str) -> String {
    let mut directories: Vec<&str> = Vec::new();
    for directory in path.split(':').chain(ALWAYS) {
        let is_usable = directory.starts_with('/') && !directory.chars().any(char::is_control);
        if is_usable && !directories.contains(&directory) {
            directories.push(directory);
        }
    }
    directories.join(":")
}

/// A PATH that a person named.
pub fn named(path: &str) -> LoginPath {
    LoginPath { value: usable(path), source: "--path".to_owned() }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn noise_around_the_path_is_ignored() {
        let output = format!("Welcome!\nPATH=/evil\n{BEGIN}\n/a:/b\n{END}\nbye\n");
        assert_eq!(between_marks(&output), Some("/a:/b".to_owned()));
        assert_eq!(between_marks(&format!("{BEGIN}\n{END}\n")), None);
        assert_eq!(between_marks("/a:/b\n"), None);
    }

    #[test]
    fn only_absolute_directories_are_kept() {
        let path = usable("/home/kim/.nvm/bin:.::/a b:/home/kim/.nvm/bin:bin:/usr/bin");
        assert_eq!(path, "/home/kim/.nvm/bin:/a b:/usr/bin:/usr/local/bin:/bin");
    }

    #[tokio::test]
    async fn the_login_shell_is_asked() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let shell = directory.path().join("shell");
        let script = "#!/bin/sh\ntest \"$1\" = -lc || exit 1\necho noise\nPATH=/from/profile:$PATH; export PATH\neval \"$2\"\n";
        std::fs::write(&shell, script).expect("written");
        std::fs::set_permissions(&shell, std::fs::Permissions::from_mode(0o755)).expect("changed");
        let shell = shell.display().to_string();
        let found = find(&shell, None, "/fallback").await;
        assert!(found.value.starts_with("/from/profile:/"), "{found:?}");
        assert_eq!(found.source, format!("the login shell {shell}"));
        let missing = find("/no/such/shell", None, "/fallback").await;
        assert_eq!(missing.value, "/fallback:/usr/local/bin:/usr/bin:/bin");
        assert!(missing.source.contains("no program"), "{missing:?}");
    }
}
