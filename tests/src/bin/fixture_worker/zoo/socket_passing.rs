//! Sends the listening socket over a Unix socket to a child, which keeps it open.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::unistd::setsid;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

use super::{CHILD_SOCKET, set_alarm_and_ignore_signals, sleep};
use crate::exiting::exit;
use crate::raw::{ForkSide, fork};

const SPACE: usize = rustix::cmsg_space!(ScmRights(1));

/// Starts the child. Only for a process with a single thread.
pub fn prepare() -> io::Result<()> {
    let (ours, theirs) = UnixStream::pair()?;
    if let ForkSide::Child = fork()? {
        set_alarm_and_ignore_signals();
        let _ = setsid();
        drop(ours);
        // Kept open until the process exits.
        let Some(_listener) = receive(&theirs) else { exit(1) };
        sleep();
    }
    let _ = CHILD_SOCKET.set(ours.into());
    Ok(())
}

fn receive(peer: &UnixStream) -> Option<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); SPACE];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(peer, &mut [IoSliceMut::new(&mut byte)], &mut ancillary, RecvFlags::empty()).ok()?;
    ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    })
}

/// Sends the socket to the child.
pub fn send(peer: &OwnedFd, socket: BorrowedFd<'_>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); SPACE];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let sockets = [socket];
    if !ancillary.push(SendAncillaryMessage::ScmRights(&sockets)) {
        return Err(io::Error::other("no space for a descriptor"));
    }
    sendmsg(peer, &[IoSlice::new(b"x")], &mut ancillary, SendFlags::empty())?;
    Ok(())
}
