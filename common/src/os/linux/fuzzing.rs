//! Entry points for the fuzz targets in `tests/fuzz`: the parsers of untrusted bytes.

use super::{parse, sock_diag};
use crate::os::{procargs, sockinfo};

/// All parsers of files of `/proc`, and the parser of macOS's block of arguments.
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

/// One datagram of the socket table, and macOS's data of a socket.
pub fn sockets(datagram: &[u8]) {
    let mut found = vec![];
    // Any error number in the datagram is a valid result.
    let _ = sock_diag::take(datagram, &mut found);
    assert!(found.len() <= datagram.len());
    if let Some(bytes) = datagram.first_chunk() {
        let _ = sockinfo::parse(bytes);
    }
}
