//! The cgroup that is delegated to mcpd, so that it may create cgroups below it.
//!
//! Write access proves nothing: root may write everywhere, and a user in the cgroups of the whole login
//! session. Delegation is explicit: systemd sets an extended attribute on the cgroup of a unit with
//! `Delegate=yes` (systemd.resource-control(5), `docs/CGROUP_DELEGATION` of systemd), and a person names a
//! cgroup in [`CGROUP_VARIABLE`]. The user manager of systemd 252 sets no attribute, and the attribute that its
//! system manager sets can be read by root only: the unit that `mcpctl service install` writes therefore vouches for
//! its own cgroup, by its name in the same variable.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{Cgroup, parse};

/// The environment variable with a [`CgroupSetting`]: `auto` (the default), `off`, an absolute path,
/// or `unit:NAME`.
pub const CGROUP_VARIABLE: &str = "MCPD_CGROUP";

const UNIT: &str = "unit:";

/// The extended attributes by which systemd marks a delegated cgroup; only root can read the first one.
const DELEGATED: [&str; 2] = ["trusted.delegate", "user.delegate"];

/// Which cgroup to use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CgroupSetting {
    /// The cgroup of this process, if it is delegated.
    Auto,
    /// No cgroup.
    Off,
    /// This one; delegation is not checked, because a person named it.
    At(PathBuf),
    /// The cgroup of this process, if it is that of this systemd unit, which has `Delegate=yes`. A process
    /// elsewhere that inherited the variable is in another cgroup.
    Unit(String),
}

/// Why no cgroup can be used.
#[derive(Debug, thiserror::Error)]
pub enum CgroupUnavailable {
    /// Cgroups are switched off.
    #[error("{CGROUP_VARIABLE}=off")]
    Off,
    /// The setting is invalid.
    #[error("{CGROUP_VARIABLE}=\"{0}\" is neither auto, off, an absolute path, nor unit:NAME")]
    Setting(String),
    /// No cgroup v2, or no mount that shows the cgroup of this process.
    #[error("no cgroup v2 is mounted that shows this process")]
    NotMounted,
    /// The path is not a cgroup of v2.
    #[error("{} is no cgroup v2", .0.display())]
    NoCgroup(PathBuf),
    /// The root cgroup is never delegated.
    #[error("mcpd runs in the root cgroup, which is never delegated")]
    Root,
    /// The cgroup has no sign of delegation.
    #[error("the cgroup {} is not delegated to mcpd", .0.display())]
    NotDelegated(PathBuf),
    /// Cgroups of this type can't have child cgroups with whole processes (cgroups(7), thread mode).
    #[error("the cgroup {} is of type \"{kind}\"", path.display())]
    Threaded {
        /// The directory of the cgroup.
        path: PathBuf,
        /// The content of `cgroup.type`.
        kind: String,
    },
    /// A kernel before 5.14 can't kill a cgroup as a whole.
    #[error("this kernel has no cgroup.kill")]
    NoKill,
    /// Another daemon has locked it.
    #[error("another mcpd uses the cgroup {}", .0.display())]
    InUse(PathBuf),
    /// The kernel refused an operation on the cgroup.
    #[error("can't {what}: {source}")]
    Refused {
        /// The operation and the path, as in "can't ...".
        what: String,
        /// The error of the kernel.
        source: io::Error,
    },
}

impl CgroupUnavailable {
    /// Converts an I/O error; `what` is the operation and the path.
    pub fn refused(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Refused { what: what.into(), source }
    }

    /// Whether this is expected at an ordinary start from a terminal, so that no warning is needed.
    pub fn is_ordinary(&self) -> bool {
        matches!(self, Self::Off | Self::NotMounted | Self::Root | Self::NotDelegated(_))
    }
}

impl CgroupSetting {
    /// Reads [`CGROUP_VARIABLE`].
    pub fn from_environment() -> Result<Self, CgroupUnavailable> {
        std::env::var_os(CGROUP_VARIABLE).map_or(Ok(Self::Auto), |value| Self::parse(&value))
    }

    fn parse(value: &std::ffi::OsStr) -> Result<Self, CgroupUnavailable> {
        match (value.to_str(), Path::new(value)) {
            (Some("auto" | ""), _) => Ok(Self::Auto),
            (Some("off"), _) => Ok(Self::Off),
            (Some(text), _) if text.starts_with(UNIT) && text.len() > UNIT.len() => {
                Ok(Self::Unit(text[UNIT.len()..].to_owned()))
            }
            (_, path) if path.is_absolute() => Ok(Self::At(path.to_owned())),
            _ => Err(CgroupUnavailable::Setting(value.to_string_lossy().into_owned())),
        }
    }
}

/// Facts about a cgroup, gathered without changing anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Facts {
    /// The content of `cgroup.type`; the root cgroup has no such file.
    kind: Option<String>,
    /// It has systemd's attribute for delegated cgroups.
    delegated: bool,
    /// It has `cgroup.kill`.
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

/// Whether a cgroup with these facts can be used. Pure.
fn check(directory: &Path, facts: &Facts, is_named: bool) -> Result<(), CgroupUnavailable> {
    match &facts.kind {
        None => Err(CgroupUnavailable::Root),
        Some(_) if !facts.delegated && !is_named => {
            Err(CgroupUnavailable::NotDelegated(directory.to_owned()))
        }
        Some(kind) if kind != "domain" => {
            Err(CgroupUnavailable::Threaded { path: directory.to_owned(), kind: kind.clone() })
        }
        Some(_) if !facts.kill => Err(CgroupUnavailable::NoKill),
        Some(_) => Ok(()),
    }
}

/// The cgroup that this process is in.
///
/// # Errors
/// [`CgroupUnavailable::NotMounted`].
pub fn current() -> Result<Cgroup, CgroupUnavailable> {
    let read = |file| fs::read(file).map_err(|_| CgroupUnavailable::NotMounted);
    let mounts = parse::mounts(&read("/proc/self/mountinfo")?);
    let own = String::from_utf8_lossy(&read("/proc/self/cgroup")?).into_owned();
    let own = parse::own_path(&own).ok_or(CgroupUnavailable::NotMounted)?;
    let mut candidates = parse::directories(&mounts, own).into_iter().map(Cgroup::at);
    candidates.find(Cgroup::exists).ok_or(CgroupUnavailable::NotMounted)
}

/// The delegated cgroup. Nothing is changed yet.
///
/// # Errors
/// Why there is none.
pub fn find(setting: &CgroupSetting) -> Result<Cgroup, CgroupUnavailable> {
    let (found, is_named) = match setting {
        CgroupSetting::Off => return Err(CgroupUnavailable::Off),
        CgroupSetting::Auto => (current()?, false),
        CgroupSetting::At(path) => (Cgroup::at(path.clone()), true),
        CgroupSetting::Unit(unit) => {
            let current = current()?;
            let is_vouched_for = current.path().ends_with(unit);
            (current, is_vouched_for)
        }
    };
    if !found.exists() {
        return Err(CgroupUnavailable::NoCgroup(found.path().to_owned()));
    }
    check(found.path(), &Facts::of(found.path()), is_named)?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(kind: Option<&str>, delegated: bool, kill: bool) -> Facts {
        Facts { kind: kind.map(str::to_owned), delegated, kill }
    }

    /// R-CONT-4: only a delegated cgroup is used, and only if it has all that is needed.
    #[test]
    fn only_a_delegated_cgroup_is_used() {
        let checked =
            |facts: Facts, is_named| check(Path::new("/c"), &facts, is_named).map_err(|no| no.to_string());
        assert_eq!(checked(facts(Some("domain"), true, true), false), Ok(()));
        assert_eq!(checked(facts(Some("domain"), false, true), true), Ok(()));
        let refused = checked(facts(Some("domain"), false, true), false);
        assert_eq!(refused, Err("the cgroup /c is not delegated to mcpd".to_owned()));
        let threaded = checked(facts(Some("threaded"), true, true), false);
        assert_eq!(threaded, Err("the cgroup /c is of type \"threaded\"".to_owned()));
        assert!(checked(facts(None, true, true), true).is_err(), "the root cgroup");
        assert!(checked(facts(Some("domain"), true, false), false).is_err(), "an old kernel");
    }

    #[test]
    fn settings_are_parsed() {
        let parse = |text: &str| CgroupSetting::parse(text.as_ref());
        assert!(matches!(parse("auto"), Ok(CgroupSetting::Auto)));
        assert!(matches!(parse("off"), Ok(CgroupSetting::Off)));
        assert!(matches!(parse("/a/b"), Ok(CgroupSetting::At(path)) if path == Path::new("/a/b")));
        assert_eq!(parse("unit:mcpd.service").ok(), Some(CgroupSetting::Unit("mcpd.service".to_owned())));
        assert!(matches!(parse("unit:"), Err(CgroupUnavailable::Setting(_))));
        assert!(matches!(parse("relative"), Err(CgroupUnavailable::Setting(_))));
    }

    /// A process that inherited the variable of a unit, but is elsewhere, uses no cgroup.
    #[test]
    fn a_unit_vouches_for_its_own_cgroup_only() {
        let found = find(&CgroupSetting::Unit("no-such-unit.service".to_owned()));
        assert!(found.is_err_and(|why| why.is_ordinary()));
    }

    #[test]
    fn an_ordinary_directory_is_no_cgroup() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let found = find(&CgroupSetting::At(directory.path().to_owned()));
        assert!(matches!(found, Err(CgroupUnavailable::NoCgroup(_))), "{found:?}");
    }
}
