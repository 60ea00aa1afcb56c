//! Directories that belong to one user alone (R-LOG-8).

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::durable;
use crate::os::this_process;

/// Group and others may write.
const WRITABLE: u32 = 0o022;
/// Group and others may read or enter.
const READABLE: u32 = 0o055;

/// Creates the directory, and its parents, for this user only. An existing directory is checked but not changed.
///
/// # Errors
/// If it can't be created, belongs to another user, or may be written by others: the text has the command that
/// fixes it.
pub fn prepare(path: &Path) -> io::Result<()> {
    durable::make_directory(path)?;
    let found = fs::metadata(path)?;
    check(path, found.uid(), found.mode(), this_process::user())
}

/// A sentence if other users may read the directory, with the command that forbids it. `None` as well if it can't
/// be read, or is one that [`prepare`] refuses.
pub fn warning(path: &Path) -> Option<String> {
    let found = fs::metadata(path).ok()?;
    check(path, found.uid(), found.mode(), this_process::user()).ok()?;
    let shown = path.display();
    (found.mode() & READABLE != 0)
        .then(|| format!("other users may read {shown}; run: chmod go-rx '{shown}'"))
}

fn check(path: &Path, owner: u32, mode: u32, user: u32) -> io::Result<()> {
    let refused = |text: String| Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    let shown = path.display();
    if owner != user {
        return refused(format!(
            "it belongs to user {owner}, not to this user ({user}); run: chown {user} '{shown}'"
        ));
    }
    if mode & WRITABLE != 0 {
        return refused(format!("other users may write to it; run: chmod go-w '{shown}'"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_new_directory_is_private_whatever_the_umask() {
        let home = tempfile::tempdir().expect("a temporary directory");
        let path = home.path().join("a/b");
        prepare(&path).expect("created");
        assert_eq!(warning(&path), None);
        assert_eq!(fs::metadata(&path).expect("there").mode() & 0o777, 0o700);
    }

    #[test]
    fn a_directory_that_others_may_write_is_refused_with_the_command() {
        let home = tempfile::tempdir().expect("a temporary directory");
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o770)).expect("changed");
        let error = prepare(home.path()).expect_err("refused");
        assert!(error.to_string().contains("chmod go-w"), "{error}");
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).expect("changed");
        prepare(home.path()).expect("used");
        let warning = warning(home.path()).expect("a warning");
        assert!(warning.contains("chmod go-rx"), "{warning}");
    }

    #[test]
    fn a_directory_of_another_user_is_refused() {
        let error = check(Path::new("/x"), 1000, 0o40700, 1001).expect_err("refused");
        assert!(error.to_string().contains("belongs to user 1000"), "{error}");
    }
}
