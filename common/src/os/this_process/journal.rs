//! Whether standard error is connected to the journal of systemd.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

/// Whether `journal_stream`, the value of `JOURNAL_STREAM` (systemd.exec(5)), is standard error. Children
/// inherit the variable, also when their standard error is another file.
pub fn stderr_is_journal(journal_stream: &str) -> bool {
    is_stream(journal_stream, io::stderr())
}

fn is_stream(journal_stream: &str, descriptor: impl AsFd) -> bool {
    let number = |text: Option<&str>| text.and_then(|text| text.parse::<u64>().ok());
    let mut parts = journal_stream.splitn(2, ':');
    let named = (number(parts.next()), number(parts.next()));
    let duplicate = descriptor.as_fd().try_clone_to_owned().map(File::from);
    let Ok(found) = duplicate.and_then(|file| file.metadata()) else { return false };
    named == (Some(found.dev()), Some(found.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_and_inode_have_to_match() {
        let (read, _write) = io::pipe().expect("a pipe");
        let found = File::from(std::os::fd::OwnedFd::from(read.try_clone().expect("a descriptor")));
        let found = found.metadata().expect("readable");
        let (device, inode) = (found.dev(), found.ino());
        assert!(is_stream(&format!("{device}:{inode}"), &read));
        for other in [format!("{device}:{}", inode + 1), format!("{device}"), String::new(), "a:b".to_owned()]
        {
            assert!(!is_stream(&other, &read), "{other}");
        }
    }
}
