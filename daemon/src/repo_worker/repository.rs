//! Finds the repository to serve, and asks git whether it accepts it: at the start, so that the worker does
//! not run with tools that all fail.

use std::io;
use std::path::Path;

use mcpd_common::config::{FoundRepository, find_repository};
use tokio_util::sync::CancellationToken;

use super::git::{Git, GitError};
use super::paths::Root;

#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    #[error("can't open the repository {path}: {source}")]
    Missing { path: String, source: io::Error },
    #[error("{path} is not inside a git working tree: run `git init` there, or name another directory")]
    NotARepository { path: String },
    #[error(
        "{path} is a bare git repository, and the built-in worker serves working trees{reason}: name a clone that \
         has a working tree (`git clone {path} DIR`), or write the command of another server"
    )]
    Bare {
        path: String,
        /// In parentheses; empty if git accepts it.
        reason: String,
    },
    #[error("git refuses {path}: {reason}")]
    Refused { path: String, reason: String },
    /// git gave no answer.
    #[error("can't ask git about {path}: {source}")]
    NoAnswer { path: String, source: GitError },
}

/// The working tree that `directory` is in, if git accepts it.
pub async fn open(directory: &Path) -> Result<Root, RepositoryError> {
    let path = directory.display().to_string();
    let real = match directory.canonicalize() {
        Ok(real) => real,
        Err(source) => return Err(RepositoryError::Missing { path, source }),
    };
    match find_repository(&real) {
        None => Err(RepositoryError::NotARepository { path }),
        Some(FoundRepository::Bare(bare)) => {
            let reason = reason(&Git::without_tree(bare)).await;
            let reason = reason.map(|reason| format!(" (git says: {reason})")).unwrap_or_default();
            Err(RepositoryError::Bare { path, reason })
        }
        Some(FoundRepository::WorkingTree(root)) => match ask(&Git::new(root.clone())).await {
            Ok(()) => Ok(Root::new(root)),
            Err(GitError::Failed { stderr, .. }) => {
                Err(RepositoryError::Refused { path, reason: one_line(&stderr) })
            }
            Err(source) => Err(RepositoryError::NoAnswer { path, source }),
        },
    }
}

/// The reason of git, or why it can't be asked, if it does not accept the repository of this directory.
pub async fn refusal(directory: &Path) -> Option<String> {
    match find_repository(directory)? {
        FoundRepository::Bare(bare) => reason(&Git::without_tree(bare)).await,
        FoundRepository::WorkingTree(root) => reason(&Git::new(root)).await,
    }
}

async fn reason(git: &Git) -> Option<String> {
    match ask(git).await {
        Ok(()) => None,
        Err(GitError::Failed { stderr, .. }) => Some(one_line(&stderr)),
        Err(error) => Some(error.to_string()),
    }
}

/// A command that needs a repository which git trusts, and a working tree.
async fn ask(git: &Git) -> Result<(), GitError> {
    git.run(["rev-parse", "--show-toplevel"], &CancellationToken::new()).await.map(drop)
}

/// Git writes its advice on further lines.
fn one_line(stderr: &str) -> String {
    stderr.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_directory_without_git_is_no_repository() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let refused = open(dir.path()).await;
        assert!(matches!(refused, Err(RepositoryError::NotARepository { .. })), "{refused:?}");
        let refused = open(&dir.path().join("no")).await;
        assert!(matches!(refused, Err(RepositoryError::Missing { .. })), "{refused:?}");
        assert_eq!(refusal(dir.path()).await, None);
    }

    #[tokio::test]
    async fn a_repository_that_git_does_not_know_is_refused_with_its_reason() {
        let dir = tempfile::tempdir().expect("temporary directory");
        std::fs::create_dir(dir.path().join(".git")).expect("made");
        let refused = open(dir.path()).await.expect_err("an empty .git").to_string();
        assert!(refused.starts_with("git refuses ") && refused.contains("not a git repository"), "{refused}");
        assert!(refusal(dir.path()).await.is_some_and(|reason| reason.contains("not a git repository")));
    }
}
