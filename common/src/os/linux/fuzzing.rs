//! What the fuzz targets in `tests/fuzz` reach: parsers of bytes that others made.

use super::{parse, sock_diag};
use crate::os::{procargs, sockinfo};

/// Every parser of a text of `/proc`, and of macOS's block of arguments.
pub fn proc(bytes: &[u8]) {
    if let Some(process) = parse::stat(bytes) {
        assert!(!process.name.contains(char::is_control), "{process:?}");
    }
    for field in ["Uid", "TracerPid", "Name"] {
        let _ = parse::status_field(bytes, field);
    }
    let _ = parse::file_locks_limit(bytes);
    let _ = parse::variable(bytes, "MCPD_MARK");
    assert!(!parse::printable(bytes).contains(char::is_control));
    if let Some(arguments) = procargs::parse(bytes) {
        let _ = arguments.variable("MCPD_MARK");
    }
}

/// One datagram of the socket table, and what macOS tells of a socket.
pub fn sockets(datagram: &[u8]) {
    let mut found = vec![];
    // An error is the kernel's refusal, whatever its number.
    let _ = sock_diag::take(datagram, &mut found);
    assert!(found.len() <= datagram.len());
    if let Some(bytes) = datagram.first_chunk() {
        let _ = sockinfo::parse(bytes);
    }
}
