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

/// The kernel reads the command line from memory of this process. Replaces its first word. If the result is longer than
/// the arguments were, it continues in the environment behind them, as in setproctitle(3): the kernel reads on if the
/// last byte of the arguments is not NUL (`get_mm_cmdline`).
#[cfg(target_os = "linux")]
fn overwrite_arguments(name: &[u8]) {
    let Some(Areas { begin, arguments, environment }) = areas() else { return };
    if environment > 0 {
        move_environment();
    }
    // SAFETY: the kernel reports these areas; nothing else reads or writes them, because the process has one thread,
    // its arguments have been read, and its environment is elsewhere now.
    let area = unsafe {
        let start = std::ptr::with_exposed_provenance_mut(begin);
        std::slice::from_raw_parts_mut(start, arguments + environment)
    };
    let old = &area[..arguments];
    let rest = &old[old.iter().position(|byte| *byte == 0).unwrap_or(arguments)..];
    let title = title(name, rest, arguments, environment);
    area[..arguments].fill(0);
    area[..title.len()].copy_from_slice(&title);
}

/// The new first word with the other words, as far as the areas are large enough. `rest` begins with the NUL behind
/// the old first word.
#[cfg(target_os = "linux")]
fn title(name: &[u8], rest: &[u8], arguments: usize, environment: usize) -> Vec<u8> {
    let words = [name, rest].concat();
    let length = words.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    if length < arguments || environment == 0 {
        return words[..length.min(arguments.saturating_sub(1))].to_vec();
    }
    // The kernel ends a title at the first NUL.
    let spaced = words[..length].iter().map(|byte| if *byte == 0 { b' ' } else { *byte });
    spaced.take(arguments + environment - 1).chain([0]).collect()
}

/// Copies all variables to the heap: setenv(3) does that.
#[cfg(target_os = "linux")]
fn move_environment() {
    for (key, value) in std::env::vars_os() {
        // SAFETY: the process has one thread.
        unsafe { std::env::set_var(key, value) };
    }
}

/// Length of an area that is believed. Linux allows 2 MiB for both with the usual limit of the stack.
#[cfg(target_os = "linux")]
const MAX_AREA: usize = 2 << 20;

/// Where the arguments of this process are, and what follows them.
#[cfg(target_os = "linux")]
struct Areas {
    begin: usize,
    arguments: usize,
    /// Length of the environment; 0 if it is not directly behind the arguments.
    environment: usize,
}

/// Fields 48 to 51 of proc_pid_stat(5).
#[cfg(target_os = "linux")]
fn areas() -> Option<Areas> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // Field 2, the name, may contain any character; field 3 begins after the last parenthesis.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split_ascii_whitespace().skip(48 - 3).map(str::parse::<usize>);
    let mut next = || fields.next()?.ok();
    let (begin, end) = (next()?, next()?);
    let arguments = end.checked_sub(begin)?;
    let environment = match (next(), next()) {
        (Some(start), Some(end)) if start == begin + arguments => end.saturating_sub(start),
        _ => 0,
    };
    let environment = if environment < MAX_AREA { environment } else { 0 };
    (begin != 0 && (1..MAX_AREA).contains(&arguments)).then_some(Areas { begin, arguments, environment })
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::title;

    #[test]
    fn a_short_title_keeps_the_words_apart() {
        assert_eq!(title(b"guard", b"\0--repo\0x\0", 20, 100), b"guard\0--repo\0x");
    }

    #[test]
    fn a_long_title_continues_in_the_environment() {
        assert_eq!(title(b"mcp-guardian", b"\0", 5, 100), b"mcp-guardian\0");
        assert_eq!(title(b"mcp-guardian", b"\0--repo\0x\0", 14, 100), b"mcp-guardian --repo x\0");
    }

    #[test]
    fn a_title_is_cut_where_there_is_no_room() {
        assert_eq!(title(b"mcp-guardian", b"\0", 5, 0), b"mcp-");
        assert_eq!(title(b"mcp-guardian", b"\0", 5, 4), b"mcp-guar\0");
    }
}
