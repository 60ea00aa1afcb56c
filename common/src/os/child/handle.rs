//! A reference to one process, which need not be our child.

use std::os::fd::OwnedFd;
use std::time::Duration;

use super::identity::Identity;
use super::{Delivery, Signal};
use crate::os::lookup::CannotLook;
use crate::os::process_data::Process;

/// A reference to one process, which need not be our child. It never refers to another process, even if the
/// pid is reused.
#[derive(Debug)]
pub struct Handle(Hold);

#[derive(Debug)]
enum Hold {
    #[cfg(target_os = "linux")]
    Descriptor(crate::os::linux::PidDescriptor),
    Identity(Identity),
}

impl Handle {
    /// A handle of exactly the process that was read; `None` if it is gone.
    ///
    /// # Errors
    /// When the kernel can't be asked whether the pid still means that process.
    pub fn open(process: &Process) -> Result<Option<Self>, CannotLook> {
        #[cfg(target_os = "linux")]
        if crate::os::backend() == crate::os::Backend::Linux {
            use crate::os::linux::{Opened, PidDescriptor};
            match PidDescriptor::open(process) {
                Opened::Held(descriptor) => return Ok(Some(Self(Hold::Descriptor(descriptor)))),
                Opened::Gone => return Ok(None),
                Opened::Unknown(error) => return Err(error),
                // Too many open files, or a kernel before 5.3: this does not mean "gone".
                Opened::Refused => {}
            }
        }
        Ok(Identity::open(process)?.map(|identity| Self(Hold::Identity(identity))))
    }

    /// A descriptor that becomes readable when it exits; `None` where the kernel offers none.
    pub fn into_exit_descriptor(self) -> Option<OwnedFd> {
        match self.0 {
            #[cfg(target_os = "linux")]
            Hold::Descriptor(descriptor) => Some(descriptor.into()),
            Hold::Identity(_) => None,
        }
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Delivery {
        match &self.0 {
            #[cfg(target_os = "linux")]
            Hold::Descriptor(descriptor) => Delivery::of(descriptor.signal(signal.native())),
            Hold::Identity(identity) => identity.signal(signal),
        }
    }

    /// Whether it has not exited (a zombie has).
    pub fn is_alive(&self) -> bool {
        !self.wait(Duration::ZERO)
    }

    /// Waits until it has exited, at most this long; returns whether it has.
    pub fn wait(&self, timeout: Duration) -> bool {
        match &self.0 {
            #[cfg(target_os = "linux")]
            Hold::Descriptor(descriptor) => descriptor.wait(timeout),
            Hold::Identity(identity) => identity.wait(timeout),
        }
    }
}
