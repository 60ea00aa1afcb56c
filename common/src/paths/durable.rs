//! Replaces files atomically: after a crash a file has its old content or its new one, complete.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use tempfile::NamedTempFile;

/// How the names of temporary files begin and end.
const PREFIX: &str = ".mcpd-";
const SUFFIX: &str = ".new";

/// Replaces the content of `path` atomically, and returns when the new content is on disk: writes a temporary
/// file in the same directory, fsync, rename, fsync of the directory. Only the owner can read the file.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = temporary(path, bytes)?;
    temporary.as_file().sync_all()?;
    temporary.persist(path)?;
    sync_directory(directory_of(path))
}

/// [`write()`] for a file that must not exist yet.
///
/// # Errors
/// `AlreadyExists` if there is a file, even one that appeared just now.
pub fn create(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = temporary(path, bytes)?;
    temporary.as_file().sync_all()?;
    temporary.persist_noclobber(path)?;
    sync_directory(directory_of(path))
}

/// [`write()`] for a file that is of no use after a crash of the machine: it need not be on disk.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    temporary(path, bytes)?.persist(path)?;
    Ok(())
}

/// Created with `O_EXCL`, a random name and mode 0600; removed on drop if it was not renamed.
fn temporary(path: &Path, bytes: &[u8]) -> io::Result<NamedTempFile> {
    let mut temporary =
        tempfile::Builder::new().prefix(PREFIX).suffix(SUFFIX).tempfile_in(directory_of(path))?;
    temporary.write_all(bytes)?;
    Ok(temporary)
}

/// Removes the temporary files that a process left when it was killed. Only for a directory that no other process
/// writes to now.
pub fn remove_leftovers(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(PREFIX) && name.ends_with(SUFFIX) {
            // A file that can't be removed does no harm.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Removes a file, and returns when the removal is on disk. Does nothing if the file does not exist.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Ok(()) => sync_directory(directory_of(path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Creates a directory and its parents, accessible only to the owner. An existing directory is not changed.
pub fn make_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_and_no_temporary_file_remains() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("run.json");
        write(&file, b"one").expect("first");
        write(&file, b"two").expect("second");
        assert_eq!(fs::read(&file).expect("readable"), b"two");
        assert_eq!(fs::read_dir(dir.path()).expect("readable").count(), 1);
        remove(&file).expect("removed");
        remove(&file).expect("idempotent");
    }

    #[test]
    fn an_existing_file_is_not_created_again() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("config.toml");
        create(&file, b"one").expect("first");
        let error = create(&file, b"two").expect_err("it exists");
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&file).expect("readable"), b"one");
        assert_eq!(fs::read_dir(dir.path()).expect("readable").count(), 1);
    }

    /// What `kill -9` leaves is removed at the next start, and nothing else.
    #[test]
    fn leftovers_are_removed() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        for name in [".mcpd-a1b2c3.new", "run.json", ".mcpd-kept", "kept.new"] {
            fs::write(dir.path().join(name), "").expect("written");
        }
        remove_leftovers(dir.path());
        let mut left: Vec<_> =
            fs::read_dir(dir.path()).expect("readable").flatten().map(|entry| entry.file_name()).collect();
        left.sort();
        assert_eq!(left, [".mcpd-kept", "kept.new", "run.json"]);
    }

    #[test]
    fn a_failed_write_does_not_change_the_target() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let target = dir.path().join("taken");
        fs::create_dir_all(target.join("inside")).expect("made");
        assert!(write(&target, b"x").is_err(), "a directory can't be replaced");
        assert_eq!(fs::read_dir(dir.path()).expect("readable").count(), 1);
    }
}
