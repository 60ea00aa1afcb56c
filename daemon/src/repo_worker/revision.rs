//! Resolves the revisions of clients to object ids before any other command gets them.
//!
//! So git can take no text of a client for an option or a path, and a wrong name gets one clear error.

use tokio_util::sync::CancellationToken;

use super::git::{Git, GitError};

#[derive(Debug, thiserror::Error)]
pub enum RevisionError {
    /// It is not a valid revision.
    #[error("\"{0}\" is not a revision: write a branch, a tag or a commit id")]
    Malformed(String),
    #[error("there is no revision \"{0}\" here: `branches` and `log` show what there is")]
    Unknown(String),
    /// git failed.
    #[error(transparent)]
    Git(GitError),
}

/// What the revision has to refer to.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A commit, or a tag of one.
    Commit,
    /// Anything.
    Object,
}

/// The object id of a revision.
pub async fn resolve(
    git: &Git,
    revision: &str,
    kind: Kind,
    cancel: &CancellationToken,
) -> Result<String, RevisionError> {
    check(revision)?;
    let suffix = match kind {
        Kind::Commit => "^{commit}",
        Kind::Object => "^{object}",
    };
    let named = format!("{revision}{suffix}");
    let found = git.run(["rev-parse", "--verify", "--quiet", "--end-of-options", &named], cancel).await;
    match found {
        Ok(id) => Ok(id.text().trim().to_owned()),
        Err(GitError::Failed { .. }) => Err(RevisionError::Unknown(revision.to_owned())),
        Err(error) => Err(RevisionError::Git(error)),
    }
}

/// The object ids of a revision or of a range (`main..topic`, `v1...v2`), as log takes them.
pub async fn resolve_range(
    git: &Git,
    text: &str,
    cancel: &CancellationToken,
) -> Result<String, RevisionError> {
    let Some((from, dots, to)) = split_range(text) else {
        return resolve(git, text, Kind::Commit, cancel).await;
    };
    let from = resolve(git, or_head(from), Kind::Commit, cancel).await?;
    let to = resolve(git, or_head(to), Kind::Commit, cancel).await?;
    Ok(format!("{from}{dots}{to}"))
}

fn split_range(text: &str) -> Option<(&str, &'static str, &str)> {
    ["...", ".."].into_iter().find_map(|dots| text.split_once(dots).map(|(from, to)| (from, dots, to)))
}

fn or_head(side: &str) -> &str {
    if side.is_empty() { "HEAD" } else { side }
}

fn check(revision: &str) -> Result<(), RevisionError> {
    let is_valid = !revision.is_empty()
        && !revision.starts_with('-')
        && revision.len() <= 500
        && !revision.contains(char::is_control);
    if is_valid { Ok(()) } else { Err(RevisionError::Malformed(revision.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R-WORK: no text of a client is taken for an option.
    #[test]
    fn options_are_no_revisions() {
        for text in ["", "-", "--output=x", "-O/etc/passwd", "a\nb", "a\0b"] {
            assert!(matches!(check(text), Err(RevisionError::Malformed(_))), "{text:?}");
        }
        for text in ["HEAD", "v1.0~3^2", "main@{yesterday}", ":/fix the thing"] {
            assert!(check(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn ranges_are_split() {
        assert_eq!(split_range("a..b"), Some(("a", "..", "b")));
        assert_eq!(split_range("a...b"), Some(("a", "...", "b")));
        assert_eq!(split_range("..b"), Some(("", "..", "b")));
        assert_eq!(split_range("v1.0"), None);
    }
}
