//! Facts about the machine: its boot, its users.

use std::path::PathBuf;

use super::system;

/// An id that is different after each boot; `None` if it can't be read.
pub fn boot_id() -> Option<String> {
    system::boot_id()
}

/// The name of this user, or the user id if it has no name.
pub fn user_name(uid: u32) -> String {
    let user = nix::unistd::User::from_uid(uid.into()).ok().flatten();
    user.map_or_else(|| uid.to_string(), |user| user.name)
}

/// The login shell of this user in the user database.
pub fn login_shell(uid: u32) -> Option<PathBuf> {
    nix::unistd::User::from_uid(uid.into()).ok().flatten().map(|user| user.shell)
}

/// The home directory of the user of this name; `None` if there is no such user.
pub fn home_of(name: &str) -> Option<PathBuf> {
    nix::unistd::User::from_name(name).ok().flatten().map(|user| user.dir)
}

/// The service manager of a system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceManagerKind {
    /// systemd(1).
    Systemd,
    /// launchd(8) of macOS.
    Launchd,
}

/// The usual service manager of this system.
pub fn service_manager_kind() -> ServiceManagerKind {
    if cfg!(target_os = "macos") { ServiceManagerKind::Launchd } else { ServiceManagerKind::Systemd }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_has_a_name_and_an_unknown_user_a_number() {
        assert_eq!(user_name(0), "root");
        assert_eq!(user_name(3_999_999_999), "3999999999");
    }

    #[test]
    fn the_boot_has_an_id() {
        assert!(boot_id().is_some_and(|id| id.len() > 8 && id == id.trim()));
    }
}
