//! A process that does little takes little.

#![cfg_attr(
    target_os = "linux",
    expect(unsafe_code, reason = "the allocator and the arguments have no safe interface")
)]

use std::ffi::CStr;

/// Gives a name to this process: the short one (`comm`), and the first word of its command line.
/// Where that can't be done nothing happens: a name is for people.
///
/// Call it when the arguments have been read: they are overwritten.
pub fn rename(name: &CStr) {
    #[cfg(target_os = "linux")]
    {
        // Longer than 15 bytes: cut by the kernel.
        let _only_a_name = rustix::thread::set_name(name);
        overwrite_arguments(name.to_bytes());
    }
    #[cfg(not(target_os = "linux"))]
    let _no_such_thing = name;
}

/// The arguments lie in memory of this process that the kernel shows to others. The first word is
/// replaced, the rest moves with it, as far as the place goes.
#[cfg(target_os = "linux")]
fn overwrite_arguments(name: &[u8]) {
    let Some((begin, length)) = argument_area() else { return };
    // SAFETY: the kernel says that the arguments lie here; nobody else reads or writes them: the
    // process has one thread, and its arguments have been read.
    let area =
        unsafe { std::slice::from_raw_parts_mut(std::ptr::with_exposed_provenance_mut(begin), length) };
    let rest = area.iter().position(|byte| *byte == 0).map_or(length, |end| end);
    let words = [name, &area[rest..]].concat();
    area.fill(0);
    let kept = words.len().min(length.saturating_sub(1));
    area[..kept].copy_from_slice(&words[..kept]);
}

/// Where the arguments begin, and how long they are: fields 48 and 49 of proc_pid_stat(5).
#[cfg(target_os = "linux")]
fn argument_area() -> Option<(usize, usize)> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name in field 2 may hold anything; after its last parenthesis field 3 begins.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split_ascii_whitespace().skip(48 - 3);
    let begin: usize = fields.next()?.parse().ok()?;
    let end: usize = fields.next()?.parse().ok()?;
    let length = end.checked_sub(begin)?;
    (begin != 0 && (1..1 << 20).contains(&length)).then_some((begin, length))
}

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
