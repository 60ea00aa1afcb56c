//! Messages to the service manager that started mcpd (sd_notify(3)): none without `NOTIFY_SOCKET`.
//!
//! Guardian and daemon both send (`NotifyAccess=all`). The guardian is the unit's main process, so `MAINPID=` is
//! never sent: systemd would take the death of the daemon for the end of the service. Sending never waits; a
//! message that the service manager has no room for is lost.

use std::ffi::OsString;
use std::fmt::Write;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use mcpd_common::os::NotifySocket;

/// Added to the limit of the current step, so that mcpd's own limit passes first.
const EXTENSION_MARGIN: Duration = Duration::from_secs(10);

/// The longest status text; systemd cuts longer lines in its log.
const MAX_STATUS: usize = 500;

/// A cheap handle; all clones use one socket.
#[derive(Clone, Debug, Default)]
pub struct ServiceManager {
    socket: Option<Arc<NotifySocket>>,
    watchdog: Option<Duration>,
}

impl ServiceManager {
    /// Reads the environment.
    pub fn from_environment() -> Self {
        Self::of(&|key| std::env::var_os(key))
    }

    fn of(env: &dyn Fn(&str) -> Option<OsString>) -> Self {
        let set = |key| env(key).filter(|value| !value.is_empty());
        // A socket that can't be used is no reason not to start.
        let socket = set("NOTIFY_SOCKET").and_then(|name| NotifySocket::open(&name).ok());
        // WATCHDOG_PID is the guardian's pid, but the daemon feeds the watchdog.
        let watchdog = set("WATCHDOG_USEC").and_then(|usec| usec.to_str()?.parse().ok());
        let watchdog = watchdog.filter(|usec| *usec > 0).map(Duration::from_micros);
        Self { watchdog: watchdog.filter(|_| socket.is_some()), socket: socket.map(Arc::new) }
    }

    /// Whether there is a socket to send to.
    pub fn is_present(&self) -> bool {
        self.socket.is_some()
    }

    /// How often the watchdog is fed: twice in the time after which it expires. `None` without a watchdog.
    pub fn watchdog_interval(&self) -> Option<Duration> {
        self.watchdog.map(|limit| limit / 2)
    }

    /// Only for the supervisor's own loop: a supervisor that hangs stops feeding.
    pub fn feed_watchdog(&self) {
        self.send(&Message::new().watchdog());
    }

    /// Sends the message, or loses it.
    pub fn send(&self, message: &Message) {
        let _ = self.try_send(message);
    }

    /// # Errors
    /// [`io::ErrorKind::WouldBlock`]: the service manager does not read at present.
    pub fn try_send(&self, message: &Message) -> io::Result<()> {
        self.socket.as_ref().map_or(Ok(()), |socket| socket.send(message.0.as_bytes()))
    }
}

/// Fields that are sent together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message(String);

impl Message {
    pub fn new() -> Self {
        Self::default()
    }

    /// The start is complete.
    #[must_use]
    pub fn ready(self) -> Self {
        self.with("READY=1")
    }

    #[must_use]
    pub fn stopping(self) -> Self {
        self.with("STOPPING=1")
    }

    /// Back with [`Self::ready`].
    #[must_use]
    pub fn reloading(self) -> Self {
        self.with("RELOADING=1")
    }

    /// A line for people, as in `systemctl status`.
    #[must_use]
    pub fn status(self, text: &str) -> Self {
        let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        self.with(&format!("STATUS={}", &line[..line.floor_char_boundary(MAX_STATUS)]))
    }

    /// The limit of the current step; without it, the service manager has one limit for a whole start or stop.
    #[must_use]
    pub fn extend_timeout(self, limit: Duration) -> Self {
        let time = (limit + EXTENSION_MARGIN).as_micros();
        self.with(&format!("EXTEND_TIMEOUT_USEC={time}"))
    }

    fn watchdog(self) -> Self {
        self.with("WATCHDOG=1")
    }

    fn with(mut self, field: &str) -> Self {
        let _ = writeln!(self.0, "{field}");
        self
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;

    #[test]
    fn a_text_can_not_add_fields() {
        let message = Message::new().ready().status("one\nMAINPID=1");
        assert_eq!(message.0, "READY=1\nSTATUS=one MAINPID=1\n");
    }

    #[test]
    fn the_watchdog_needs_a_socket_and_ignores_the_pid() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("notify");
        let manager = UnixDatagram::bind(&path).expect("bound");
        let of = |socket: bool| {
            let path = path.clone();
            ServiceManager::of(&move |key| match key {
                "NOTIFY_SOCKET" => socket.then(|| path.clone().into()),
                "WATCHDOG_USEC" => Some("3000000".into()),
                "WATCHDOG_PID" => Some("1".into()),
                _ => None,
            })
        };
        assert_eq!(of(true).watchdog_interval(), Some(Duration::from_millis(1500)));
        assert_eq!(of(false).watchdog_interval(), None);
        of(true).feed_watchdog();
        let mut buffer = [0; 64];
        let length = manager.recv(&mut buffer).expect("received");
        assert_eq!(&buffer[..length], b"WATCHDOG=1\n");
    }
}
