//! Random bytes, and bytes as text.

use std::io::Read;

/// Random bytes for secrets.
///
/// # Errors
/// When /dev/urandom can't be read.
pub fn bytes<const N: usize>() -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// In hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A token that can't be guessed: 128 random bits as hexadecimal text.
///
/// # Errors
/// When no random bytes are available.
pub fn token() -> std::io::Result<String> {
    Ok(hex(&bytes::<16>()?))
}
