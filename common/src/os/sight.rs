//! Whether we could look at all.
//!
//! A file of `/proc` that is not there says that its process is gone, and whoever asked is told "nothing
//! known". One that can't be opened because no descriptor or no memory is left says nothing about anybody,
//! and must not be taken for "nobody is there": whoever concludes from what he did not see asks here whether
//! he could see.

use std::cell::Cell;
use std::io;

use rustix::io::Errno;

/// What there was to see was seen, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Sight {
    /// Whoever was not seen was not there.
    Clear,
    /// At least once the kernel had nothing left to look with.
    Blocked,
}

thread_local! {
    static BLOCKED: Cell<bool> = const { Cell::new(false) };
}

/// Looks, and says whether that could be done. Looks within a look count for both.
pub fn watched<T>(look: impl FnOnce() -> T) -> (T, Sight) {
    let before = BLOCKED.replace(false);
    let seen = look();
    let sight = if BLOCKED.get() { Sight::Blocked } else { Sight::Clear };
    BLOCKED.set(before || sight == Sight::Blocked);
    (seen, sight)
}

/// What a look brought; if it brought nothing, whether the machine was at fault is noted.
pub(super) fn seen<T>(result: io::Result<T>) -> Option<T> {
    let errno = result.as_ref().err().and_then(Errno::from_io_error);
    if matches!(errno, Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM)) {
        BLOCKED.set(true);
    }
    result.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(errno: Errno) -> Option<()> {
        seen(Err(errno.into()))
    }

    #[test]
    fn what_is_gone_is_seen_to_be_gone() {
        assert_eq!(watched(|| look(Errno::NOENT)), (None, Sight::Clear));
        assert_eq!(watched(|| look(Errno::SRCH)), (None, Sight::Clear));
        assert_eq!(watched(|| seen(Ok(1))), (Some(1), Sight::Clear));
    }

    #[test]
    fn whoever_looked_in_vain_knows_it_and_nobody_else() {
        for want in [Errno::MFILE, Errno::NFILE, Errno::NOMEM] {
            let inner = || watched(|| look(want)).1;
            assert_eq!(watched(inner), (Sight::Blocked, Sight::Blocked));
            assert_eq!(watched(|| ()).1, Sight::Clear, "the next look is another one");
        }
    }
}
