//! The block in which macOS gives a process's arguments and environment (`KERN_PROCARGS2`):
//!
//! ```text
//! argc (4 bytes) | path of the program, NUL, more NULs | argc arguments, NUL each | variables, NUL each
//! ```
//!
//! Pure, so that it is tested on every system.

/// A parsed block.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Arguments<'block> {
    /// The arguments, beginning with the program's name.
    pub arguments: Vec<&'block [u8]>,
    /// The environment, `NAME=value` each. Empty if the system hides it.
    pub environment: Vec<&'block [u8]>,
}

/// Parses a block; invalid bytes give fewer strings, never a panic.
pub fn parse(block: &[u8]) -> Option<Arguments<'_>> {
    let (count, rest) = block.split_first_chunk()?;
    let count = usize::try_from(i32::from_ne_bytes(*count)).ok()?;
    let path_end = rest.iter().position(|byte| *byte == 0)?;
    let padding = rest[path_end..].iter().take_while(|byte| **byte == 0).count();
    let mut strings = rest[path_end + padding..].split(|byte| *byte == 0);
    let arguments = strings.by_ref().take(count).collect();
    // An empty string ends the environment; data of the system follows.
    let environment = strings.take_while(|string| !string.is_empty()).collect();
    Some(Arguments { arguments, environment })
}

impl Arguments<'_> {
    /// The value of a variable of the environment.
    pub fn variable(&self, name: &str) -> Option<String> {
        let value = self
            .environment
            .iter()
            .find_map(|entry| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"="))?;
        String::from_utf8(value.to_vec()).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn block() -> Vec<u8> {
        let rest = b"/usr/bin/python3\0\0\0\0python3\0server.py\0A=1\0MCPD_MARK=4d43\0\0stack_guard=0\0";
        [2i32.to_ne_bytes().as_slice(), rest].concat()
    }

    #[test]
    fn arguments_and_environment_are_told_apart() {
        let block = block();
        let parsed = parse(&block).expect("whole");
        assert_eq!(parsed.arguments, [b"python3".as_slice(), b"server.py"]);
        assert_eq!(parsed.variable("MCPD_MARK").as_deref(), Some("4d43"));
        assert_eq!(parsed.variable("MCPD"), None);
        assert_eq!(parsed.variable("stack_guard"), None);
    }

    proptest! {
        #[test]
        fn garbage_is_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80), count in -2i32..9) {
            let _ = parse(&bytes);
            let _ = parse(&[count.to_ne_bytes().as_slice(), &bytes].concat());
        }

        #[test]
        fn a_cut_block_is_never_a_panic(length in 0usize..90) {
            let block = block();
            let _ = parse(&block[..length.min(block.len())]);
        }
    }
}
