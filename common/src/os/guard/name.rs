//! How a process shows itself.

#![cfg_attr(
    target_os = "linux",
    expect(unsafe_code, reason = "the arguments of a process have no safe interface")
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
