//! One connection to a worker.
//!
//! It has no task of its own: the code that waits for its response drives it, in the task that serves the
//! client. So nothing is passed from task to task, a response costs only the wake-up that
//! its bytes cause, and when a client disconnects, the request to the worker ends at once.
//!
//! What hyper's two halves of the connection exchange (the request, the head of the response, pieces
//! of its body) changes only while the connection is driven. They are therefore polled right after that, with a
//! no-op waker.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use hyper::body::{Body as HttpBody, Bytes, Frame, Incoming, SizeHint};
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::coop::unconstrained;

use super::body::Upload;
use super::turn::quietly;
use super::upstream::InFlightGuard;
use crate::worker_listener::WorkerListener;

/// A connection that handles one request at a time.
pub struct Link {
    sender: SendRequest<Upload>,
    /// `None` when it is closed.
    driver: Option<Connection<TokioIo<TcpStream>, Upload>>,
}

impl Link {
    /// Connects to a worker's private port.
    ///
    /// # Errors
    /// Most likely no process listens.
    pub async fn open(listener: &Arc<WorkerListener>) -> io::Result<Box<Self>> {
        let stream = listener.connect().await.map_err(io::Error::other)?;
        let (sender, driver) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        Ok(Box::new(Self { sender, driver: Some(driver) }))
    }

    /// Sends a request and waits for the head of the response.
    ///
    /// # Errors
    /// With the request, if nothing of it was sent.
    pub async fn exchange(
        &mut self,
        request: Request<Upload>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Upload>>> {
        // An exhausted budget of tokio would wake only the no-op waker.
        let mut answered = pin!(unconstrained(self.sender.try_send_request(request)));
        let driver = &mut self.driver;
        poll_fn(|context| {
            drive(driver, context);
            answered.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        })
        .await
    }

    /// Whether it can be reused, now that its response has been read. No task is woken any more by
    /// the connection.
    pub fn rest(&mut self) -> bool {
        drive(&mut self.driver, &mut Context::from_waker(Waker::noop()));
        self.driver.is_some() && self.sender.is_ready()
    }
}

/// Lets the connection read and write. A finished connection is dropped at once, which closes its socket.
fn drive(driver: &mut Option<Connection<TokioIo<TcpStream>, Upload>>, context: &mut Context<'_>) {
    if driver.as_mut().is_some_and(|driver| Pin::new(driver).poll(context).is_ready()) {
        *driver = None;
    }
}

/// The body of a response. It drives its connection and returns it at the end; dropped before,
/// it closes the connection.
pub struct WorkerBody {
    body: Incoming,
    link: Option<Box<Link>>,
    in_flight_guard: InFlightGuard,
}

impl WorkerBody {
    pub fn new(body: Incoming, link: Box<Link>, in_flight_guard: InFlightGuard) -> Self {
        let mut answer = Self { body, link: Some(link), in_flight_guard };
        if answer.body.is_end_stream() {
            answer.give_back();
        }
        answer
    }

    fn give_back(&mut self) {
        if let Some(link) = self.link.take() {
            self.in_flight_guard.land(link);
        }
    }

    fn poll_body(&mut self) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let mut no_wake = Context::from_waker(Waker::noop());
        // The next read drives the connection; no other task has to.
        let polled = quietly(|| Pin::new(&mut self.body).poll_frame(&mut no_wake));
        if matches!(polled, Poll::Ready(None)) || self.body.is_end_stream() {
            self.give_back();
        }
        polled
    }
}

impl HttpBody for WorkerBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = self.poll_body();
        if polled.is_ready() {
            return polled;
        }
        if let Some(link) = &mut self.link {
            drive(&mut link.driver, context);
        }
        self.poll_body()
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
