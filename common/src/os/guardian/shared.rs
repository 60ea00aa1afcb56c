//! Memory that two processes map.

#![expect(unsafe_code, reason = "mmap(2) and shm_open(3) have no safe wrappers")]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::AtomicU64;

use nix::libc;

/// Atomic words that this process shares with its children and with every process that gets the descriptor.
/// A word is read and written as a whole, so no process sees half of a write.
#[derive(Debug)]
pub struct SharedWords {
    address: NonNull<AtomicU64>,
    count: usize,
    descriptor: OwnedFd,
}

// SAFETY: the memory belongs to no thread, and is reached through atomic words only.
unsafe impl Send for SharedWords {}
// SAFETY: see above.
unsafe impl Sync for SharedWords {}

impl SharedWords {
    /// New shared memory of `count` words, all zero.
    ///
    /// # Errors
    /// When the kernel grants no memory.
    pub fn new(count: usize) -> io::Result<Self> {
        let descriptor = nameless()?;
        let length = u64::try_from(count * size_of::<AtomicU64>()).map_err(io::Error::other)?;
        rustix::fs::ftruncate(&descriptor, length)?;
        Self::map(descriptor, count)
    }

    /// Maps the memory behind a descriptor that was inherited through exec(2).
    ///
    /// # Errors
    /// When it is smaller than `count` words.
    pub fn adopt(descriptor: OwnedFd, count: usize) -> io::Result<Self> {
        let length = rustix::fs::fstat(&descriptor)?.st_size;
        if usize::try_from(length).is_ok_and(|length| length >= count * size_of::<AtomicU64>()) {
            Self::map(descriptor, count)
        } else {
            Err(io::Error::other("not the shared page of an mcpd"))
        }
    }

    fn map(descriptor: OwnedFd, count: usize) -> io::Result<Self> {
        let length = count * size_of::<AtomicU64>();
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let file = descriptor.as_raw_fd();
        // SAFETY: a new mapping at an address of the kernel's choice; the file is large enough.
        let address = unsafe { libc::mmap(ptr::null_mut(), length, protection, libc::MAP_SHARED, file, 0) };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let address = NonNull::new(address.cast()).ok_or_else(|| io::Error::other("mapped at zero"))?;
        Ok(Self { address, count, descriptor })
    }

    /// All words, in the order in which the other process sees them.
    pub fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is that long, aligned to pages, lives as long as `self`, and any bytes
        // are a valid word.
        unsafe { std::slice::from_raw_parts(self.address.as_ptr(), self.count) }
    }

    /// A new descriptor of the memory, closed on exec.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub fn descriptor(&self) -> io::Result<OwnedFd> {
        self.descriptor.try_clone()
    }
}

impl Drop for SharedWords {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, that long, and no reference to it can exist any more.
        unsafe { libc::munmap(self.address.as_ptr().cast(), self.count * size_of::<AtomicU64>()) };
    }
}

/// Memory with a descriptor and without a name, closed on exec.
#[cfg(target_os = "linux")]
fn nameless() -> io::Result<OwnedFd> {
    Ok(rustix::fs::memfd_create(c"mcpd", rustix::fs::MemfdFlags::CLOEXEC)?)
}

/// Memory with a descriptor; its name is unlinked at once.
#[cfg(not(target_os = "linux"))]
fn nameless() -> io::Result<OwnedFd> {
    use std::os::fd::FromRawFd;
    let name = std::ffi::CString::new(format!("/mcpd-{}", std::process::id())).map_err(io::Error::other)?;
    let flags = libc::O_RDWR | libc::O_CREAT | libc::O_EXCL;
    let mode: libc::c_uint = 0o600;
    // SAFETY: the name ends with a zero and lives as long as the calls.
    let descriptor = unsafe { libc::shm_open(name.as_ptr(), flags, mode) };
    if descriptor == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: see above.
    unsafe { libc::shm_unlink(name.as_ptr()) };
    // SAFETY: just opened, and owned by nothing else.
    let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
    rustix::io::fcntl_setfd(&descriptor, rustix::io::FdFlags::CLOEXEC)?;
    Ok(descriptor)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn an_adopted_mapping_has_the_same_words() {
        let first = SharedWords::new(2048).expect("memory");
        first.words()[2047].store(7, Ordering::Relaxed);
        let descriptor = first.descriptor().expect("a second descriptor");
        let second = SharedWords::adopt(descriptor, 2048).expect("the same");
        assert_eq!(second.words()[2047].load(Ordering::Relaxed), 7);
        second.words()[0].store(9, Ordering::Relaxed);
        assert_eq!(first.words()[0].load(Ordering::Relaxed), 9);
        let descriptor = second.descriptor().expect("its descriptor");
        assert!(SharedWords::adopt(descriptor, 2049).is_err(), "it is smaller");
    }

    #[test]
    fn a_descriptor_that_is_no_memory_is_refused() {
        let file = std::fs::File::open("/dev/null").expect("/dev/null");
        assert!(SharedWords::adopt(file.into(), 1).is_err());
    }
}
