//! Releases memory of a process that mostly waits.

#![cfg_attr(
    target_os = "linux",
    expect(unsafe_code, reason = "the allocator and pages have no safe interface")
)]

/// Buffers of at least this many bytes go back to the kernel as soon as they are freed.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const LARGE: nix::libc::c_int = 256 * 1024;

/// From now on a large buffer that is freed goes back to the kernel at once. By default glibc keeps the memory of buffers
/// of up to 32 MiB once one of that size was freed (mallopt(3), `M_MMAP_THRESHOLD`), and a small buffer above it pins it.
pub fn return_large_buffers() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: takes plain numbers, and is thread-safe.
    unsafe {
        nix::libc::mallopt(nix::libc::M_MMAP_THRESHOLD, LARGE);
    }
}

/// Returns freed heap memory to the kernel, and drops clean pages of programs and libraries: the kernel maps
/// them again when they are used, from the shared page cache.
pub fn give_back_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: takes a plain number, and is thread-safe.
    unsafe {
        nix::libc::malloc_trim(0);
    }
    #[cfg(target_os = "linux")]
    for (begin, length) in untouched_files() {
        // SAFETY: these are unmodified pages of a file in a mapping that can't be written: the kernel maps the
        // same content again.
        unsafe {
            nix::libc::madvise(
                std::ptr::with_exposed_provenance_mut(begin),
                length,
                nix::libc::MADV_DONTNEED,
            );
        }
    }
}

/// Address and length of read-only mappings of files without any private page. A private page (relocations)
/// differs from the file and would be lost.
#[cfg(target_os = "linux")]
fn untouched_files() -> Vec<(usize, usize)> {
    // Without this file nothing is released.
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

/// Parses the first line of a mapping (proc_pid_maps(5)): address and length, if it is a read-only private
/// mapping of a file.
#[cfg(target_os = "linux")]
fn read_only_file(line: &str) -> Option<(usize, usize)> {
    let mut fields = line.split_ascii_whitespace();
    let (begin, end) = fields.next()?.split_once('-')?;
    let begin = usize::from_str_radix(begin, 16).ok()?;
    let end = usize::from_str_radix(end, 16).ok()?;
    let permissions = fields.next()?;
    let is_file = fields.nth(2).is_some_and(|inode| inode != "0");
    let fits = is_file && permissions.starts_with("r-") && permissions.ends_with('p');
    fits.then_some((begin, end.checked_sub(begin)?))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn only_read_only_mappings_of_files_are_released() {
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

    /// The test itself runs on the released pages.
    #[test]
    fn released_pages_are_mapped_again() {
        assert!(!untouched_files().is_empty());
        give_back_memory();
        assert!(!untouched_files().is_empty());
    }
}
