//! The name of a process in ps(1).

#![cfg_attr(
    target_os = "linux",
    expect(unsafe_code, reason = "the arguments of a process have no safe interface")
)]

use std::ffi::CStr;

/// Sets the short name (`comm`) of this process and the first word of its command line. Failures are
/// ignored, because the name is only informative.
///
/// Call it after the arguments have been read: they are overwritten.
pub fn set_process_name(name: &CStr) {
    #[cfg(target_os = "linux")]
    {
        // The kernel cuts it after 15 bytes.
        let _ = rustix::thread::set_name(name);
        overwrite_arguments(name.to_bytes());
    }
    #[cfg(not(target_os = "linux"))]
    let _ = name;
}

/// The kernel reads the command line from memory of this process. Replaces its first word and moves the
/// rest, as far as the area is large enough.
#[cfg(target_os = "linux")]
fn overwrite_arguments(name: &[u8]) {
    let Some((begin, length)) = argument_area() else { return };
    // SAFETY: the kernel reports this area of the arguments; nothing else reads or writes it, because the
    // process has one thread and its arguments have been read.
    let area =
        unsafe { std::slice::from_raw_parts_mut(std::ptr::with_exposed_provenance_mut(begin), length) };
    let rest = area.iter().position(|byte| *byte == 0).unwrap_or(length);
    let words = [name, &area[rest..]].concat();
    area.fill(0);
    let kept = words.len().min(length.saturating_sub(1));
    area[..kept].copy_from_slice(&words[..kept]);
}

/// Address and length of the arguments: fields 48 and 49 of proc_pid_stat(5).
#[cfg(target_os = "linux")]
fn argument_area() -> Option<(usize, usize)> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // Field 2, the name, may contain any character; field 3 begins after the last parenthesis.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split_ascii_whitespace().skip(48 - 3);
    let begin: usize = fields.next()?.parse().ok()?;
    let end: usize = fields.next()?.parse().ok()?;
    let length = end.checked_sub(begin)?;
    (begin != 0 && (1..1 << 20).contains(&length)).then_some((begin, length))
}
