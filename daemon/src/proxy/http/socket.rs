//! A socket, with the bytes that arrived on it and are not used yet.
//!
//! All reads go through one buffer of the thread, so that an idle connection owns none.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

/// Bytes of one read: how far a sender may be ahead of who takes its bytes.
pub const READ: usize = 16 * 1024;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; READ]);
}

pub struct Socket {
    pub stream: TcpStream,
    pub unread: Vec<u8>,
}

/// The reading half.
pub struct Reader<'a> {
    half: ReadHalf<'a>,
    pub unread: &'a mut Vec<u8>,
}

/// The writing half.
pub struct Writer<'a>(WriteHalf<'a>);

/// Bytes on their way to a socket.
#[derive(Debug, Default)]
pub struct Outgoing {
    bytes: Vec<u8>,
    written: usize,
}

impl Socket {
    pub fn new(stream: TcpStream) -> Self {
        Self { stream, unread: vec![] }
    }

    /// Both halves, for one `select!`.
    pub fn split(&mut self) -> (Reader<'_>, Writer<'_>) {
        let (reader, writer) = self.stream.split();
        (Reader { half: reader, unread: &mut self.unread }, Writer(writer))
    }

    /// Reads more bytes: how many; 0 at the end.
    pub async fn fill(&mut self) -> io::Result<usize> {
        self.split().0.fill().await
    }
}

impl Reader<'_> {
    /// Appends the next bytes to `unread`: how many; 0 at the end.
    pub async fn fill(&mut self) -> io::Result<usize> {
        poll_fn(|context| self.poll_fill(context)).await
    }

    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            ready!(Pin::new(&mut self.half).poll_read(context, &mut buffer))?;
            self.unread.extend_from_slice(buffer.filled());
            Poll::Ready(Ok(buffer.filled().len()))
        })
    }
}

impl Writer<'_> {
    /// Writes as much as the socket takes at once, and waits until it takes something.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        poll_fn(|context| Pin::new(&mut self.0).poll_write(context, bytes)).await
    }

    /// The same, with one call for both.
    pub async fn write_both(&mut self, first: &[u8], second: &[u8]) -> io::Result<usize> {
        if second.is_empty() {
            return self.write(first).await;
        }
        let both = [IoSlice::new(first), IoSlice::new(second)];
        poll_fn(|context| Pin::new(&mut self.0).poll_write_vectored(context, &both)).await
    }
}

impl Outgoing {
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// To append to.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        self.forget_written();
        &mut self.bytes
    }

    /// What is not written yet.
    pub fn rest(&self) -> &[u8] {
        &self.bytes[self.written..]
    }

    /// As many bytes of the rest were written.
    pub fn advance(&mut self, written: usize) {
        self.written += written;
        if self.written == self.bytes.len() {
            *self = Self::default();
        } else if self.written >= READ && self.written >= self.bytes.len() / 2 {
            self.forget_written();
            self.bytes.shrink_to_fit();
        }
    }

    fn forget_written(&mut self) {
        self.bytes.drain(..self.written);
        self.written = 0;
    }
}

impl From<Vec<u8>> for Outgoing {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes, written: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_written_is_read_and_nothing_is_kept() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (mut near, mut far) =
            (Socket::new(near.expect("connected")), Socket::new(far.expect("accepted").0));
        let sent: Vec<u8> = (0..3 * READ).map(|number| (number % 251) as u8).collect();
        let mut out = Outgoing::from(sent.clone());
        while far.unread.len() < sent.len() {
            let (_, mut writer) = near.split();
            tokio::select! {
                written = writer.write(out.rest()), if !out.is_empty() => out.advance(written.expect("open")),
                read = far.fill() => assert!(read.expect("open") > 0),
            }
        }
        assert!(far.unread == sent && out.is_empty() && out.buffer().capacity() == 0);
        drop(near);
        assert_eq!(far.fill().await.expect("a clean end"), 0);
    }
}
