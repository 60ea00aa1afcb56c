//! Parsers for the files of `/proc`. Pure, and total: any bytes give a value or `None`.

use crate::ids::Pid;
use crate::os::process_data::{Process, StartTime};

/// `/proc/PID/stat`. The name stands in parentheses and may itself contain any byte, also parentheses and
/// newlines; so the **last** parenthesis closes it.
pub fn stat(text: &[u8]) -> Option<Process> {
    let open = text.iter().position(|byte| *byte == b'(')?;
    let close = text.iter().rposition(|byte| *byte == b')')?;
    let pid = str::from_utf8(&text[..open]).ok()?.trim().parse().ok().and_then(Pid::new)?;
    let name = printable(text.get(open + 1..close)?);

    // Numbered as in proc_pid_stat(5), where the state is the third.
    let rest = str::from_utf8(&text[close + 1..]).ok()?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3).copied();
    Some(Process {
        pid,
        name,
        state: field(3)?.chars().next()?,
        ppid: field(4)?.parse().ok()?,
        pgid: field(5)?.parse().ok()?,
        session: field(6)?.parse().ok()?,
        threads: field(20)?.parse().ok()?,
        start: StartTime(field(22)?.parse().ok()?),
        exit_signal: field(38)?.parse().ok()?,
        birth: None,
    })
}

/// The value of a field of `/proc/PID/status`.
pub fn status_field<'text>(text: &'text [u8], name: &str) -> Option<&'text str> {
    let value = text.split(|byte| *byte == b'\n').find_map(|line| {
        let rest = line.strip_prefix(name.as_bytes())?;
        rest.strip_prefix(b":")
    })?;
    str::from_utf8(value).ok().map(str::trim)
}

/// The soft `RLIMIT_LOCKS` in `/proc/PID/limits`; `None` where it is unlimited.
pub fn file_locks_limit(text: &[u8]) -> Option<u64> {
    let line = text.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"Max file locks"))?;
    str::from_utf8(line).ok()?.split_ascii_whitespace().next()?.parse().ok()
}

/// The value of a variable in a block of `NAME=value` strings that end with NUL.
pub fn variable(block: &[u8], name: &str) -> Option<String> {
    let value = block
        .split(|byte| *byte == 0)
        .find_map(|entry| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"="))?;
    String::from_utf8(value.to_vec()).ok()
}

/// Untrusted bytes as a text that is safe to print: control characters become spaces.
pub fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let shown: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    shown.trim_end().to_owned()
}

#[cfg(test)]
mod tests;
