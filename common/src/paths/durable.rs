//! Replaces files atomically: after a crash a file has its old content or its new one, complete.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Replaces the content of `path` atomically, and returns when the new content is on disk: writes a temporary
/// file in the same directory, fsync, rename, fsync of the directory. Only the owner can read the file.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = directory_of(path);
    let temporary = temporary_name(path);
    let written = write_new(&temporary, bytes).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // The error of the write is returned; one of the removal would hide it.
        let _ = fs::remove_file(&temporary);
    }
    written?;
    sync_directory(directory)
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

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Contains the process id, so that two processes never write the same temporary file.
fn temporary_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    PathBuf::from(name)
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
    fn a_failed_write_does_not_change_the_target() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let target = dir.path().join("taken");
        fs::create_dir_all(target.join("inside")).expect("made");
        assert!(write(&target, b"x").is_err(), "a directory can't be replaced");
        assert_eq!(fs::read_dir(dir.path()).expect("readable").count(), 1);
    }
}
