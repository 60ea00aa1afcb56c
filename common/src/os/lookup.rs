//! Lookups that can fail because the kernel can't be asked at all.
//!
//! A missing file of `/proc` says that its process is gone. A file that can't be opened because no
//! descriptor or no memory is left (`EMFILE`, `ENFILE`, `ENOMEM`) says nothing about the process. Callers
//! that conclude from absence (gone, nothing left, clean) must not mix up the two, so lookups that are
//! used as such a proof return a [`CannotLook`] error or a [`Listing`].

use std::io;

use rustix::io::Errno;

/// The kernel had no descriptor or no memory left for a lookup: nothing is known about its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the kernel can't be asked: {0}")]
pub struct CannotLook(Errno);

impl From<CannotLook> for io::Error {
    fn from(error: CannotLook) -> Self {
        error.0.into()
    }
}

/// The result of a lookup; `None` if its object does not exist or is not readable by this user.
pub(super) fn found<T>(result: io::Result<T>) -> Result<Option<T>, CannotLook> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) => match Errno::from_io_error(&error) {
            Some(errno @ (Errno::MFILE | Errno::NFILE | Errno::NOMEM)) => Err(CannotLook(errno)),
            _ => Ok(None),
        },
    }
}

/// What a scan found. The scan goes on when a lookup fails, so that what was found can be acted on (for
/// example killed); only a complete listing proves that something is absent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Listing<T> {
    found: Vec<T>,
    failure: Option<CannotLook>,
}

impl<T> Default for Listing<T> {
    fn default() -> Self {
        Self { found: Vec::new(), failure: None }
    }
}

impl<T> Extend<T> for Listing<T> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, items: I) {
        self.found.extend(items);
    }
}

impl<T> From<Result<Vec<T>, CannotLook>> for Listing<T> {
    fn from(result: Result<Vec<T>, CannotLook>) -> Self {
        let mut listing = Self::default();
        listing.found = listing.record(result);
        listing
    }
}

impl<T> Listing<T> {
    /// Everything that exists.
    ///
    /// # Errors
    /// When a lookup failed, so that something may be missing.
    pub fn complete(self) -> Result<Vec<T>, CannotLook> {
        self.failure.map_or(Ok(self.found), Err)
    }

    /// What was found; something may be missing. For reports, labels, and for scans that are repeated.
    pub fn best_effort(self) -> Vec<T> {
        self.found
    }

    /// What was found; something may be missing.
    pub fn found(&self) -> &[T] {
        &self.found
    }

    /// Whether no lookup failed.
    pub fn is_complete(&self) -> bool {
        self.failure.is_none()
    }

    /// Whether it is certain that there is nothing.
    pub fn is_proof_of_absence(&self) -> bool {
        self.found.is_empty() && self.is_complete()
    }

    /// The value of a lookup that belongs to this scan. A failed one makes this listing incomplete, and
    /// its value is the empty one.
    pub fn record<U: Default>(&mut self, lookup: Result<U, CannotLook>) -> U {
        lookup.unwrap_or_else(|error| {
            self.failure = Some(error);
            U::default()
        })
    }

    /// What another scan found, which becomes a part of this one: if it is incomplete, so is this one.
    pub fn take<U>(&mut self, part: Listing<U>) -> Vec<U> {
        self.failure = self.failure.or(part.failure);
        part.found
    }

    /// Appends what another scan found.
    pub fn append(&mut self, part: Self) {
        let found = self.take(part);
        self.found.extend(found);
    }

    /// Drops what does not match; the listing stays as complete as it is.
    pub fn retain(&mut self, is_wanted: impl FnMut(&T) -> bool) {
        self.found.retain(is_wanted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(errno: Errno) -> Result<Option<u8>, CannotLook> {
        found(Err(errno.into()))
    }

    #[test]
    fn a_missing_or_unreadable_file_means_not_there() {
        for errno in [Errno::NOENT, Errno::SRCH, Errno::ACCESS] {
            assert_eq!(lookup(errno), Ok(None));
        }
        assert_eq!(found(Ok(1)), Ok(Some(1)));
    }

    #[test]
    fn exhausted_descriptors_or_memory_are_an_error() {
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOMEM] {
            assert_eq!(lookup(errno), Err(CannotLook(errno)));
        }
    }

    #[test]
    fn a_failed_lookup_makes_a_listing_incomplete_and_keeps_what_was_found() {
        let mut listing = Listing::default();
        assert!(listing.is_proof_of_absence());
        listing.extend([1]);
        assert_eq!(listing.record(lookup(Errno::MFILE)), None);
        assert!(!listing.is_complete());
        assert_eq!(listing.found(), [1]);
        let mut whole = Listing::default();
        whole.append(listing);
        whole.retain(|_| false);
        assert!(!whole.is_proof_of_absence(), "the part was incomplete");
        assert_eq!(whole.complete(), Err(CannotLook(Errno::MFILE)));
    }
}
