//! A listening socket that goes over a Unix socket to a sibling, which keeps it.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::unistd::setsid;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

use super::{PASSAGE, settle, sleep};
use crate::exiting::exit;
use crate::raw::{Side, split};

const ROOM: usize = rustix::cmsg_space!(ScmRights(1));

/// Starts the sibling. For a process of one thread.
pub fn prepare() -> io::Result<()> {
    let (ours, theirs) = UnixStream::pair()?;
    if let Side::Child = split()? {
        settle();
        let _ = setsid();
        drop(ours);
        // Kept until the end.
        let Some(_listener) = receive(&theirs) else { exit(1) };
        sleep();
    }
    let _ = PASSAGE.set(ours.into());
    Ok(())
}

fn receive(passage: &UnixStream) -> Option<OwnedFd> {
    let mut room = [MaybeUninit::uninit(); ROOM];
    let mut ancillary = RecvAncillaryBuffer::new(&mut room);
    let mut byte = [0];
    recvmsg(passage, &mut [IoSliceMut::new(&mut byte)], &mut ancillary, RecvFlags::empty()).ok()?;
    ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    })
}

/// Sends the sibling the socket.
pub fn send(passage: &OwnedFd, socket: BorrowedFd<'_>) -> io::Result<()> {
    let mut room = [MaybeUninit::uninit(); ROOM];
    let mut ancillary = SendAncillaryBuffer::new(&mut room);
    let sockets = [socket];
    if !ancillary.push(SendAncillaryMessage::ScmRights(&sockets)) {
        return Err(io::Error::other("no room for a descriptor"));
    }
    sendmsg(passage, &[IoSlice::new(b"x")], &mut ancillary, SendFlags::empty())?;
    Ok(())
}
