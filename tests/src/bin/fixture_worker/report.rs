//! Reports what this process inherited (R-SUP-1).

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

/// Writes the report as JSON to the file that `FIXTURE_REPORT` names; atomically, because a test waits for the file.
pub fn write() -> Result<(), String> {
    let file = std::env::var("FIXTURE_REPORT").map_err(|_| "FIXTURE_REPORT names no file".to_owned())?;
    let draft = format!("{file}.draft");
    fs::write(&draft, collect().to_string())
        .and_then(|()| fs::rename(&draft, &file))
        .map_err(|error| format!("{file}: {error}"))
}

fn collect() -> Value {
    let env: BTreeMap<String, String> = std::env::vars().collect();
    let args: Vec<String> = std::env::args().collect();
    json!({
        "pid": std::process::id(),
        "ppid": std::os::unix::process::parent_id(),
        "pgid": nix::unistd::getpgrp().as_raw(),
        "session": nix::unistd::getsid(None).map(nix::unistd::Pid::as_raw).ok(),
        "directory": std::env::current_dir().ok(),
        "args": args,
        "env": env,
        "descriptors": descriptors(),
        "limits": lines("/proc/self/limits"),
        "signals": signals(),
    })
}

/// Number and target of each open descriptor, without the one that reads the directory.
fn descriptors() -> BTreeMap<String, String> {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else { return BTreeMap::new() };
    let target = |path: &Path| fs::read_link(path).ok().map(|target| target.display().to_string());
    entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            Some((entry.file_name().into_string().ok()?, target(&entry.path())?))
        })
        .filter(|(_, target)| !(target.starts_with("/proc/") && target.ends_with("/fd")))
        .collect()
}

/// The masks of blocked, ignored and caught signals, in hexadecimal digits.
fn signals() -> BTreeMap<String, String> {
    let masks = ["SigBlk", "SigIgn", "SigCgt"];
    let all = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let pairs = all.lines().filter_map(|line| line.split_once(':'));
    let picked = pairs.filter(|(name, _)| masks.contains(name));
    picked.map(|(name, mask)| (name.to_owned(), mask.trim().to_owned())).collect()
}

/// The lines of a file.
fn lines(path: &str) -> Vec<String> {
    fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}
