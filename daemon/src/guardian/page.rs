//! The memory page that guardian and daemon share. The daemon writes, the guardian reads and
//! validates: a crashing process may have written anything.
//!
//! ```text
//!   word 0   the bound of the running shutdown in milliseconds; 0: none
//!   word 1   completion: a magic number and the exit code
//!   word 2   details: a magic number, which of two places holds them, and their length
//!   then     two places for details, as JSON; new details are written to the other place, so that
//!            one place always has complete details
//! ```

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mcpd_common::ids::RunId;
use mcpd_common::os::guardian::SharedWords;
use serde::{Deserialize, Serialize};

use crate::process::containment::cgroups::Layout;

/// Unwritten pages take no memory.
const WORDS: usize = 2048;
const BOUND: usize = 0;
const COMPLETION: usize = 1;
const DETAILS: usize = 2;
const HEADER: usize = 8;
/// Words of one place for details.
const PLACE: usize = (WORDS - HEADER) / 2;

/// The upper bytes of a completion; the exit code is the lowest byte.
const COMPLETED: u64 = 0x6d63_7064_d09e_0000;
/// The upper bytes of the word that says where the details are.
const PUBLISHED: u64 = 0x6d63_0000_0000_0000;
/// A longer bound is invalid.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

/// What the guardian needs for a cleanup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Details {
    pub run: RunId,
    pub socket: PathBuf,
    pub state_dir: PathBuf,
    #[serde(default)]
    pub cgroups: Option<Layout>,
}

pub struct Page(SharedWords);

impl Page {
    ///
    /// # Errors
    /// When no memory is available.
    pub fn new() -> io::Result<Self> {
        SharedWords::new(WORDS).map(Self)
    }

    /// Maps a page that an earlier program in this process created.
    ///
    /// # Errors
    /// When the descriptor is not such a page.
    pub fn adopt(descriptor: OwnedFd) -> io::Result<Self> {
        SharedWords::adopt(descriptor, WORDS).map(Self)
    }

    /// The descriptor, for the next program.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub fn descriptor(&self) -> io::Result<OwnedFd> {
        self.0.descriptor()
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        &self.0.words()[index]
    }

    fn place(&self, second: bool) -> &[AtomicU64] {
        let begin = HEADER + if second { PLACE } else { 0 };
        &self.0.words()[begin..begin + PLACE]
    }

    /// Starts a bound within which the shutdown must be complete; `None` cancels it.
    pub fn set_bound(&self, bound: Option<Duration>) {
        let millis = bound.map_or(0, |bound| u64::try_from(bound.as_millis()).unwrap_or(u64::MAX).max(1));
        self.word(BOUND).store(millis, Ordering::Release);
    }

    /// The bound, counted from the moment when the guardian first reads it.
    pub fn bound(&self) -> Option<Duration> {
        let bound = Duration::from_millis(self.word(BOUND).load(Ordering::Acquire));
        (!bound.is_zero() && bound <= LONGEST).then_some(bound)
    }

    /// Marks the run as completed with this exit code.
    pub fn complete(&self, code: u8) {
        self.word(COMPLETION).store(COMPLETED | u64::from(code), Ordering::Release);
    }

    /// The exit code, if the run is marked as completed.
    pub fn completion(&self) -> Option<u8> {
        let word = self.word(COMPLETION).load(Ordering::Acquire);
        u8::try_from(word ^ COMPLETED).ok()
    }

    /// Publishes the details.
    ///
    /// # Errors
    /// When they do not fit: a path of thousands of bytes.
    pub fn publish(&self, details: &Details) -> io::Result<()> {
        let bytes = serde_json::to_vec(details)?;
        if bytes.len() > PLACE * size_of::<u64>() {
            return Err(io::Error::other("the paths of socket and state directory are too long"));
        }
        let second = self.published().is_none_or(|(second, _)| !second);
        for (word, chunk) in self.place(second).iter().zip(bytes.chunks(size_of::<u64>())) {
            let mut padded = [0; size_of::<u64>()];
            padded[..chunk.len()].copy_from_slice(chunk);
            word.store(u64::from_le_bytes(padded), Ordering::Relaxed);
        }
        let place = u64::from(second) << 32;
        self.word(DETAILS).store(PUBLISHED | place | bytes.len() as u64, Ordering::Release);
        Ok(())
    }

    /// The published details, if they are valid.
    pub fn details(&self) -> Option<Details> {
        let (second, length) = self.published()?;
        let words = self.place(second).iter().map(|word| word.load(Ordering::Relaxed).to_le_bytes());
        let mut bytes: Vec<u8> = words.take(length.div_ceil(size_of::<u64>())).flatten().collect();
        bytes.truncate(length);
        serde_json::from_slice(&bytes).ok()
    }

    fn published(&self) -> Option<(bool, usize)> {
        let word = self.word(DETAILS).load(Ordering::Acquire) ^ PUBLISHED;
        let second = match word >> 32 {
            0 => false,
            1 => true,
            _ => return None,
        };
        let length = usize::try_from(word & 0xffff_ffff).ok()?;
        (length <= PLACE * size_of::<u64>()).then_some((second, length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mcpd_common::ids::RunTag;
    use proptest::prelude::*;

    fn details(socket: &str, tag: u32) -> Details {
        let run = RunId::new(jiff::Timestamp::UNIX_EPOCH, RunTag(tag));
        Details { run, socket: socket.into(), state_dir: "/state".into(), cgroups: None }
    }

    #[test]
    fn an_empty_page_has_no_values() {
        let page = Page::new().expect("memory");
        assert_eq!((page.bound(), page.completion(), page.details()), (None, None, None));
    }

    #[test]
    fn details_that_do_not_fit_change_nothing() {
        let page = Page::new().expect("memory");
        page.publish(&details("/run/a.sock", 1)).expect("fits");
        assert!(page.publish(&details(&"x".repeat(9000), 2)).is_err());
        assert_eq!(page.details(), Some(details("/run/a.sock", 1)));
    }

    /// R-CLIENT-7: a new program reads what the old one published, and publishes more.
    #[test]
    fn an_adopted_page_is_the_same() {
        let page = Page::new().expect("memory");
        page.publish(&details("/run/a.sock", 1)).expect("fits");
        let twin = Page::adopt(page.descriptor().expect("a descriptor")).expect("adopted");
        assert_eq!(twin.details(), page.details());
        twin.publish(&details("/run/b.sock", 2)).expect("fits");
        twin.complete(3);
        assert_eq!((page.details(), page.completion()), (Some(details("/run/b.sock", 2)), Some(3)));
    }

    proptest! {
        #[test]
        fn published_values_are_read(sockets in proptest::collection::vec("[a-z/.]{1,200}", 1..6), code: u8, bound in 1u64..1_000_000) {
            let page = Page::new().expect("memory");
            for (tag, socket) in (0..).zip(&sockets) {
                page.publish(&details(socket, tag)).expect("fits");
                prop_assert_eq!(page.details(), Some(details(socket, tag)));
            }
            page.complete(code);
            page.set_bound(Some(Duration::from_millis(bound)));
            prop_assert_eq!((page.completion(), page.bound()), (Some(code), Some(Duration::from_millis(bound))));
        }

        /// R-CONT-5: a crashing daemon may have written anything.
        #[test]
        fn garbage_is_nothing_and_never_a_panic(words in proptest::collection::vec(any::<u64>(), 0..64), at in 0usize..1000, header: [u64; 3]) {
            let page = Page::new().expect("memory");
            page.publish(&details("/run/a.sock", 1)).expect("fits");
            for (word, value) in page.0.words().iter().skip(at).zip(&words).chain(page.0.words().iter().zip(&header)) {
                word.store(*value, Ordering::Relaxed);
            }
            let _ = (page.details(), page.bound(), page.completion());
            // Garbage that is almost valid.
            page.word(DETAILS).store(PUBLISHED | header[0] & 0x1_0000_2fff, Ordering::Relaxed);
            let _ = page.details();
        }
    }
}
