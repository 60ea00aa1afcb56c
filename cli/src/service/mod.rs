//! mcpd as a service of systemd or launchd (R-SVC).
//!
//! ```text
//! installation.rs  which file, which commands, for which manager and user   (pure)
//! unit_file.rs     renders the templates of scripts/                        (pure)
//! stamp.rs         recognizes a file that was changed by hand               (pure)
//! login_path.rs    asks the login shell for its PATH
//! program.rs       runs systemctl, launchctl and others, with a time limit
//! step.rs          what is shown, and then done
//! ```

pub mod installation;
pub mod login_path;
pub mod program;
pub mod stamp;
pub mod step;
pub mod unit_file;
