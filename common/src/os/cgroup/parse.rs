//! Parsers for files about cgroups. Pure, and total: any bytes give a value or `None`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use crate::ids::Pid;

/// A mount of the cgroup v2 hierarchy, or of a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The cgroup at the mount point: "/" unless only a part is mounted.
    pub root: PathBuf,
    /// The directory on which it is mounted.
    pub point: PathBuf,
}

/// The cgroup v2 mounts in `/proc/PID/mountinfo` (see proc_pid_mountinfo(5)):
/// `41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw`. Between the options and
/// the lone `-` there may be any number of tags.
pub fn mounts(text: &[u8]) -> Vec<Mount> {
    text.split(|byte| *byte == b'\n').filter_map(mount).collect()
}

fn mount(line: &[u8]) -> Option<Mount> {
    let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let root = fields.get(3)?;
    let point = fields.get(4)?;
    let tags = fields.get(6..)?;
    let dash = tags.iter().position(|field| *field == b"-")?;
    let is_cgroup2 = tags.get(dash + 1) == Some(&b"cgroup2".as_slice());
    is_cgroup2.then(|| Mount { root: path(root), point: path(point) })
}

/// A path of mountinfo: blanks and backslashes are written as three octal digits.
fn path(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        match (first, octal(after)) {
            (b'\\', Some(byte)) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    OsString::from_vec(bytes).into()
}

fn octal(text: &[u8]) -> Option<u8> {
    let digits = str::from_utf8(text.get(..3)?).ok()?;
    u8::from_str_radix(digits, 8).ok()
}

/// The v2 cgroup in `/proc/PID/cgroup`: the line of hierarchy 0, `0::/user.slice/x.scope`. The
/// others are of v1.
pub fn own_path(text: &str) -> Option<&Path> {
    text.lines().find_map(|line| line.strip_prefix("0::")).filter(|path| path.starts_with('/')).map(Path::new)
}

/// The directories of this cgroup in all mounts; none if no mount shows it, as in a container with a part of
/// the hierarchy. A later mount may hide an earlier one, so the later ones come first.
pub fn directories(mounts: &[Mount], own: &Path) -> Vec<PathBuf> {
    let below = |mount: &Mount| match own.strip_prefix(&mount.root) {
        Ok(rest) if rest.as_os_str().is_empty() => Some(mount.point.clone()),
        Ok(rest) => Some(mount.point.join(rest)),
        Err(_) => None,
    };
    // In a cgroup namespace a path outside of it begins with `..`.
    let is_inside = !own.components().any(|part| part.as_os_str() == "..");
    mounts.iter().rev().filter(|_| is_inside).filter_map(below).collect()
}

/// The field `populated` of `cgroup.events`: whether a living process is in the cgroup or its subtree.
pub fn is_populated(text: &str) -> Option<bool> {
    match text.lines().find_map(|line| line.strip_prefix("populated "))?.trim() {
        "0" => Some(false),
        "1" => Some(true),
        _ => None,
    }
}

/// The pids in `cgroup.procs`. A process of another pid namespace is shown as 0, and left out.
pub fn procs(text: &str) -> Vec<Pid> {
    text.lines().filter_map(|line| line.trim().parse().ok().and_then(Pid::new)).collect()
}

/// The number in `pids.max`; `None` for `max`.
pub fn limit(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use proptest::prelude::*;

    use super::*;

    /// A machine with systemd: v2 alone.
    const UNIFIED: &str = "\
25 30 0:23 / /sys rw,nosuid,nodev,noexec,relatime shared:7 - sysfs sysfs rw
29 25 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot
30 1 8:1 / / rw,relatime shared:1 master:2 propagate_from:3 - ext4 /dev/sda1 rw,errors=remount-ro
";
    /// Both, side by side.
    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";
    /// A container to which only a part is mounted, read-only.
    const PART: &str =
        "900 890 0:26 /system.slice/docker-1.scope /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw\n";

    fn found(text: &str, own: &str) -> Vec<PathBuf> {
        directories(&mounts(text.as_bytes()), Path::new(own))
    }

    /// R-CONT-4: the hierarchy is found wherever it is mounted.
    #[test]
    fn our_cgroup_is_found_through_the_mounts() {
        assert_eq!(found(UNIFIED, "/a.slice/b.service"), [Path::new("/sys/fs/cgroup/a.slice/b.service")]);
        assert_eq!(found(HYBRID, "/x"), [Path::new("/sys/fs/cgroup/unified/x")]);
        assert_eq!(found(HYBRID, "/"), [Path::new("/sys/fs/cgroup/unified")]);
        assert_eq!(found(PART, "/system.slice/docker-1.scope/w"), [Path::new("/sys/fs/cgroup/w")]);
        assert_eq!(found(PART, "/user.slice"), [] as [&Path; 0], "not shown by any mount");
        assert_eq!(found(UNIFIED, "/../outside"), [] as [&Path; 0], "outside of our namespace");
        assert_eq!(found("", "/"), [] as [&Path; 0]);
    }

    #[test]
    fn the_later_mount_comes_first() {
        let both = format!("{UNIFIED}{HYBRID}");
        let expected = [Path::new("/sys/fs/cgroup/unified/x"), Path::new("/sys/fs/cgroup/x")];
        assert_eq!(found(&both, "/x"), expected);
    }

    #[test]
    fn octal_digits_stand_for_blanks_and_backslashes() {
        let line = b"41 31 0:38 /a\\134b /mnt/my\\040cgroups\\9 rw - cgroup2 none rw";
        let expected = Mount { root: "/a\\b".into(), point: "/mnt/my cgroups\\9".into() };
        assert_eq!(mounts(line), [expected]);
    }

    #[test]
    fn our_path_is_the_one_of_hierarchy_0() {
        assert_eq!(own_path("9:name=systemd:/old\n4:memory:/m\n0::/a/b\n"), Some(Path::new("/a/b")));
        assert_eq!(own_path("0::/\n"), Some(Path::new("/")));
        assert_eq!(own_path("8:pids:/\n"), None, "v1 only");
        assert_eq!(own_path("0::relative\n"), None);
    }

    #[test]
    fn small_files_are_parsed() {
        assert_eq!(is_populated("populated 1\nfrozen 0\n"), Some(true));
        assert_eq!(is_populated("frozen 0\npopulated 0\n"), Some(false));
        assert_eq!(is_populated("frozen 0\n"), None);
        assert_eq!(procs("12\n0\n7\n"), [12, 7].map(|pid| Pid::new(pid).expect("positive")));
        assert_eq!((limit("max\n"), limit("4915\n")), (None, Some(4915)));
    }

    fn escaped(path: &[u8]) -> Vec<u8> {
        let escape = |byte: &u8| match byte {
            b' ' | b'\t' | b'\n' | b'\\' => format!("\\{byte:03o}").into_bytes(),
            other => vec![*other],
        };
        path.iter().flat_map(escape).collect()
    }

    proptest! {
        #[test]
        fn any_mount_point_survives(name in proptest::collection::vec(1u8..=255, 0..40)) {
            let point = [b"/".as_slice(), &name].concat();
            let line = [b"1 2 0:3 / ", escaped(&point).as_slice(), b" rw a:1 b:2 - cgroup2 x rw"].concat();
            let found = mounts(&line);
            prop_assert_eq!(found.len(), 1);
            prop_assert_eq!(found[0].point.as_os_str().as_bytes(), &point[..]);
        }

        #[test]
        fn no_bytes_cause_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in ".{0,80}") {
            let _ = mounts(&bytes);
            let _ = own_path(&text).map(|own| directories(&mounts(&bytes), own));
            let _ = (is_populated(&text), procs(&text), limit(&text));
        }

        #[test]
        fn a_directory_is_always_below_its_mount(own in "/[a-c./]{0,12}") {
            for found in found(UNIFIED, &own) {
                prop_assert!(found.starts_with("/sys/fs/cgroup"));
                prop_assert!(!found.components().any(|part| part.as_os_str() == ".."));
            }
        }
    }
}
