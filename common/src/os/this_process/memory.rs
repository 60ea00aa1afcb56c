//! A process that does little takes little memory.

#![cfg_attr(
    target_os = "linux",
    expect(unsafe_code, reason = "the allocator and pages have no safe interface")
)]

/// Gives back what has been freed, and the pages of programs and libraries that were touched on the way
/// here: what is used again comes again, from memory that others share.
pub fn give_back_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: plain numbers; the allocator looks after itself.
    unsafe {
        nix::libc::malloc_trim(0);
    }
    #[cfg(target_os = "linux")]
    for (begin, length) in untouched_files() {
        // SAFETY: these pages are those of a file and nobody has written to them, nor can: the kernel
        // brings the same ones again.
        unsafe {
            nix::libc::madvise(
                std::ptr::with_exposed_provenance_mut(begin),
                length,
                nix::libc::MADV_DONTNEED,
            );
        }
    }
}

/// Parts of files in memory of which this process has no page of its own and can make none: with a page
/// of its own (relocations), what is in the file would not be the same.
#[cfg(target_os = "linux")]
fn untouched_files() -> Vec<(usize, usize)> {
    let text = std::fs::read_to_string("/proc/self/smaps").unwrap_or_default();
    let mut found = Vec::new();
    let mut candidate = None;
    for line in text.lines() {
        match line.strip_prefix("Anonymous:") {
            Some(own) if own.trim() == "0 kB" => found.extend(candidate.take()),
            Some(_) => candidate = None,
            None => candidate = read_only_file(line).or(candidate),
        }
    }
    found
}

/// From the first line about a mapping (proc_pid_maps(5)): where it is, if it is a file that can't be
/// written through it.
#[cfg(target_os = "linux")]
fn read_only_file(line: &str) -> Option<(usize, usize)> {
    let mut words = line.split_ascii_whitespace();
    let (begin, end) = words.next()?.split_once('-')?;
    let (begin, end) = (usize::from_str_radix(begin, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
    let permissions = words.next()?;
    let is_file = words.nth(2).is_some_and(|inode| inode != "0");
    let fits = is_file && permissions.starts_with("r-") && permissions.ends_with('p');
    fits.then_some((begin, end.checked_sub(begin)?))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn only_files_that_cannot_be_written_are_given_back() {
        let file = "55e0c0400000-55e0c0945000 r-xp 00100000 fe:00 4242       /usr/bin/mcpd";
        assert_eq!(read_only_file(file), Some((0x55e0_c040_0000, 0x54_5000)));
        for other in [
            "55e0c0400000-55e0c0945000 rw-p 00100000 fe:00 4242       /usr/bin/mcpd",
            "7ffd00000000-7ffd00002000 r-xp 00000000 00:00 0          [vdso]",
            "7ffd00000000-7ffd00002000 r--s 00000000 00:01 77         /memfd:mcpd (deleted)",
            "Rss:                 812 kB",
            "",
        ] {
            assert_eq!(read_only_file(other), None, "{other}");
        }
    }

    /// This program goes on.
    #[test]
    fn what_was_given_back_comes_again() {
        assert!(!untouched_files().is_empty());
        give_back_memory();
        assert!(!untouched_files().is_empty());
    }
}
