//! Datagrams of the socket table.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|datagram: &[u8]| mcpd_common::os::fuzzing::sockets(datagram));
