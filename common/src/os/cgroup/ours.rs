//! Which cgroup is ours to make others below it.
//!
//! Being writable proves nothing: root may write everywhere, and a user may write in the cgroups of
//! his whole session. The one who gives a cgroup away says so: systemd sets an extended attribute on
//! the cgroup of a unit with `Delegate=yes` (systemd.exec(5), `docs/CGROUP_DELEGATION` of systemd),
//! and a person names one in [`CGROUP_VARIABLE`].

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{Cgroup, parse};

/// `auto` (the default): a cgroup that was delegated to us. `off`: none. An absolute path: this one.
pub const CGROUP_VARIABLE: &str = "MCPD_CGROUP";

/// How systemd tells that a cgroup was delegated; the first can be read only by root.
const DELEGATED: [&str; 2] = ["trusted.delegate", "user.delegate"];

/// Which cgroup is wished for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// One that was delegated to us.
    Auto,
    /// None.
    Off,
    /// This one: whoever says so vouches for it.
    At(PathBuf),
}

/// Why there is no cgroup of ours.
#[derive(Debug, thiserror::Error)]
pub enum NotOurs {
    /// It is not wished for.
    #[error("{CGROUP_VARIABLE}=off")]
    Off,
    /// The wish can't be understood.
    #[error("{CGROUP_VARIABLE}=\"{0}\" is neither auto, off, nor an absolute path")]
    Wish(String),
    /// No cgroup v2, or it is mounted where we can't see our part.
    #[error("no cgroup v2 is mounted that shows this process")]
    NotMounted,
    /// The path is not a cgroup of v2.
    #[error("{} is no cgroup v2", .0.display())]
    NoCgroup(PathBuf),
    /// The root of all cgroups is nobody's.
    #[error("mcpd runs in the root cgroup, which nobody delegates")]
    Root,
    /// Nobody gave it away.
    #[error("the cgroup {} is not delegated to mcpd", .0.display())]
    NotDelegated(PathBuf),
    /// Whole processes can't be put into cgroups below it.
    #[error("the cgroup {} is of type \"{kind}\"", path.display())]
    Threaded {
        /// Which.
        path: PathBuf,
        /// The kernel's name for its type.
        kind: String,
    },
    /// A kernel before 5.14.
    #[error("this kernel has no cgroup.kill")]
    NoKill,
    /// Another daemon has it.
    #[error("another mcpd uses the cgroup {}", .0.display())]
    InUse(PathBuf),
    /// It is not ours after all, or only half.
    #[error("can't {what}: {source}")]
    Refused {
        /// What was tried, with the path.
        what: String,
        /// What the kernel said.
        source: io::Error,
    },
}

impl NotOurs {
    /// What was tried, and what the kernel said.
    pub fn refused(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Refused { what: what.into(), source }
    }

    /// Whether nobody would expect anything else: an ordinary start from a terminal.
    pub fn is_ordinary(&self) -> bool {
        matches!(self, Self::Off | Self::NotMounted | Self::Root | Self::NotDelegated(_))
    }
}

impl Wish {
    /// As said in this process's environment.
    pub fn from_environment() -> Result<Self, NotOurs> {
        std::env::var_os(CGROUP_VARIABLE).map_or(Ok(Self::Auto), |wish| Self::read(&wish))
    }

    fn read(wish: &std::ffi::OsStr) -> Result<Self, NotOurs> {
        match (wish.to_str(), Path::new(wish)) {
            (Some("auto" | ""), _) => Ok(Self::Auto),
            (Some("off"), _) => Ok(Self::Off),
            (_, path) if path.is_absolute() => Ok(Self::At(path.to_owned())),
            _ => Err(NotOurs::Wish(wish.to_string_lossy().into_owned())),
        }
    }
}

/// What is known of a cgroup before anything is tried.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Facts {
    /// The kernel's name for its type; the root of all has none.
    kind: Option<String>,
    /// Whoever manages cgroups gave it away.
    delegated: bool,
    /// It can be killed as a whole.
    kill: bool,
}

impl Facts {
    fn of(directory: &Path) -> Self {
        let kind = fs::read_to_string(directory.join("cgroup.type")).ok();
        Self {
            kind: kind.map(|kind| kind.trim().to_owned()),
            delegated: DELEGATED.iter().any(|name| is_set(directory, name)),
            kill: directory.join("cgroup.kill").exists(),
        }
    }
}

fn is_set(directory: &Path, attribute: &str) -> bool {
    let mut value = [0u8; 8];
    let length = rustix::fs::getxattr(directory, attribute, &mut value[..]);
    length.is_ok_and(|length| value.get(..length) == Some(b"1".as_slice()))
}

/// Whether these facts make it ours. Pure.
fn judge(directory: &Path, facts: &Facts, vouched: bool) -> Result<(), NotOurs> {
    match &facts.kind {
        None => Err(NotOurs::Root),
        Some(_) if !facts.delegated && !vouched => Err(NotOurs::NotDelegated(directory.to_owned())),
        Some(kind) if kind != "domain" => {
            Err(NotOurs::Threaded { path: directory.to_owned(), kind: kind.clone() })
        }
        Some(_) if !facts.kill => Err(NotOurs::NoKill),
        Some(_) => Ok(()),
    }
}

/// The cgroup that this process is in.
///
/// # Errors
/// [`NotOurs::NotMounted`].
pub fn current() -> Result<Cgroup, NotOurs> {
    let read = |file| fs::read(file).map_err(|_| NotOurs::NotMounted);
    let mounts = parse::mounts(&read("/proc/self/mountinfo")?);
    let own = String::from_utf8_lossy(&read("/proc/self/cgroup")?).into_owned();
    let own = parse::own_path(&own).ok_or(NotOurs::NotMounted)?;
    let seen = parse::directories(&mounts, own).into_iter().map(Cgroup::at).find(Cgroup::exists);
    seen.ok_or(NotOurs::NotMounted)
}

/// The cgroup that is ours to make others below it. Nothing is tried yet.
///
/// # Errors
/// Why there is none.
pub fn find(wish: &Wish) -> Result<Cgroup, NotOurs> {
    let (found, vouched) = match wish {
        Wish::Off => return Err(NotOurs::Off),
        Wish::Auto => (current()?, false),
        Wish::At(path) => (Cgroup::at(path.clone()), true),
    };
    if !found.exists() {
        return Err(NotOurs::NoCgroup(found.path().to_owned()));
    }
    judge(found.path(), &Facts::of(found.path()), vouched)?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(kind: Option<&str>, delegated: bool, kill: bool) -> Facts {
        Facts { kind: kind.map(str::to_owned), delegated, kill }
    }

    /// R-CONT-4: only what was given away is ours, and only what can be used whole.
    #[test]
    fn only_what_was_delegated_is_ours() {
        let judged =
            |facts: Facts, vouched| judge(Path::new("/c"), &facts, vouched).map_err(|no| no.to_string());
        assert_eq!(judged(facts(Some("domain"), true, true), false), Ok(()));
        assert_eq!(judged(facts(Some("domain"), false, true), true), Ok(()));
        let refused = judged(facts(Some("domain"), false, true), false);
        assert_eq!(refused, Err("the cgroup /c is not delegated to mcpd".to_owned()));
        let threaded = judged(facts(Some("threaded"), true, true), false);
        assert_eq!(threaded, Err("the cgroup /c is of type \"threaded\"".to_owned()));
        assert!(judged(facts(None, true, true), true).is_err(), "the root cgroup is nobody's");
        assert!(judged(facts(Some("domain"), true, false), false).is_err(), "an old kernel");
    }

    #[test]
    fn wishes_are_read() {
        let read = |text: &str| Wish::read(text.as_ref());
        assert!(matches!(read("auto"), Ok(Wish::Auto)));
        assert!(matches!(read("off"), Ok(Wish::Off)));
        assert!(matches!(read("/a/b"), Ok(Wish::At(path)) if path == Path::new("/a/b")));
        assert!(matches!(read("relative"), Err(NotOurs::Wish(_))));
    }

    #[test]
    fn a_directory_is_no_cgroup() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let found = find(&Wish::At(directory.path().to_owned()));
        assert!(matches!(found, Err(NotOurs::NoCgroup(_))), "{found:?}");
    }
}
