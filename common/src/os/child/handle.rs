//! A hold on a process that need not be our child.

use std::time::Duration;

use super::{Delivery, Signal};
use crate::os::CannotLook;
use crate::os::portable::Identity;
use crate::os::process::Process;

/// A hold on one process, which need not be a child: it never comes to mean another one.
#[derive(Debug)]
pub struct Handle(Hold);

#[derive(Debug)]
enum Hold {
    #[cfg(target_os = "linux")]
    Descriptor(crate::os::linux::PidDescriptor),
    Identity(Identity),
}

impl Handle {
    /// A hold on exactly the process that was read; `None` if it is gone.
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
                // No descriptor to be had (too many files open, a kernel before 5.3): that must
                // not read as "gone".
                Opened::Refused => {}
            }
        }
        Ok(Identity::open(process)?.map(|identity| Self(Hold::Identity(identity))))
    }

    /// Signals it.
    pub fn signal(&self, signal: Signal) -> Delivery {
        match &self.0 {
            #[cfg(target_os = "linux")]
            Hold::Descriptor(descriptor) => Delivery::of(descriptor.signal(signal.native())),
            Hold::Identity(identity) => identity.signal(signal),
        }
    }

    /// Whether it runs still (a zombie does not).
    pub fn is_alive(&self) -> bool {
        !self.wait(Duration::ZERO)
    }

    /// Waits until it has ended, at most this long; whether it has.
    pub fn wait(&self, timeout: Duration) -> bool {
        match &self.0 {
            #[cfg(target_os = "linux")]
            Hold::Descriptor(descriptor) => descriptor.wait(timeout),
            Hold::Identity(identity) => identity.wait(timeout),
        }
    }
}
