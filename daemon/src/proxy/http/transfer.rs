//! Bodies that are passed on as they arrive, in both directions at once: neither side is read faster than the other one
//! takes its bytes.

use std::sync::Arc;

use super::chunked::{LAST_CHUNK, Malformed, push_chunk};
use super::client::{AHEAD, After, Client, forced};
use super::fetch::{Fetched, NotLive, is_lost, live_worker, replays, wait_for_another};
use super::framing::BodyLength;
use super::head::HeadSearch;
use super::incoming::Upload;
use super::reply::Reply;
use super::request::Request;
use super::response::Next;
use super::socket::{Outgoing, READ};
use super::worker_connection::{CallError, Progress, Response, Sent, WorkerConnection};
use super::worker_host::replace_host;
use crate::deadline::Deadline;
use crate::proxy::listener::Listener;
use crate::proxy::mcp::errors::{failure, refused};
use crate::proxy::mcp::opening::hold;
use crate::proxy::mcp::sessions::SharedSession;
use crate::proxy::upstream::{Lease, Live};

/// Sends a request with its upload, and waits for the head of the response. What the worker has not taken by then
/// stays in `upload`.
pub async fn fetch(
    listener: &Listener,
    client: &mut Client,
    request: &mut Request,
    session: Option<&SharedSession>,
    upload: &mut Upload,
) -> Fetched {
    let connected = tokio::select! {
        biased;
        connected = connect(listener, request, session) => connected,
        () = client.gone(listener) => return Fetched::Gone,
    };
    let error = match connected {
        Ok((up, connection, lease)) => {
            let head = request.head_for(session.map(|session| session.lock()).as_deref(), upload.length);
            let head = match up.own_host() {
                Some(host) => replace_host(&head, &host),
                None => head,
            };
            *upload.out.buffer() = head;
            let replays = replays(session);
            match send(listener, client, request, upload, (connection, lease)).await {
                Ok(mut response) => {
                    if let Some(session) = session
                        && is_lost(request, session, replays, &mut response).await
                    {
                        request.messages = upload.finish(client, listener).await;
                        return Fetched::Reply(refused(listener, request, FORGOTTEN));
                    }
                    request.messages = upload.messages();
                    return Fetched::Response(up, response);
                }
                Err(error) => error,
            }
        }
        Err(error) => error,
    };
    match error {
        NotSent::Gone => Fetched::Gone,
        NotSent::Malformed => Fetched::Reply(Reply::text(400, "the body has malformed chunks\n")),
        NotSent::Live(NotLive::Denied(response)) => Fetched::Denied(response),
        NotSent::Live(NotLive::Reply(reply)) => Fetched::Reply(reply),
        NotSent::Live(NotLive::Unavailable(why)) => {
            request.messages = upload.finish(client, listener).await;
            Fetched::Reply(refused(listener, request, &why))
        }
        NotSent::Call(error) => {
            request.messages = upload.finish(client, listener).await;
            Fetched::Reply(failure(listener, request, &error))
        }
    }
}

/// A message that is streamed can't be sent a second time.
const FORGOTTEN: &str = "the server had forgotten this session and did not execute the request; mcpd initializes the session \
                         again: repeat the request";

/// Why there is no response to a request that is streamed.
enum NotSent {
    Live(NotLive),
    Call(CallError),
    Malformed,
    Gone,
}

type Connected = (WorkerConnection, Lease);

async fn connect(
    listener: &Listener,
    request: &Request,
    session: Option<&SharedSession>,
) -> Result<(Arc<Live>, WorkerConnection, Lease), NotSent> {
    let deadline = Deadline::after(hold(listener, request));
    loop {
        let up = live_worker(listener, request, session, deadline).await.map_err(NotSent::Live)?;
        match up.connect().await {
            Ok((connection, lease)) => return Ok((up, connection, lease)),
            Err(error) if deadline.remaining().is_zero() => {
                let why = format!("{}: {error}", listener.not_in_time());
                return Err(NotSent::Live(NotLive::Unavailable(why)));
            }
            Err(_) => wait_for_another(&up, deadline).await,
        }
    }
}

async fn send(
    listener: &Listener,
    client: &mut Client,
    request: &Request,
    upload: &mut Upload,
    (mut connection, lease): Connected,
) -> Result<Response, NotSent> {
    let mut search = HeadSearch::default();
    let mut failure = None;
    loop {
        let head = connection.take_head(&mut search, request.head.method).map_err(NotSent::Call)?;
        if let Some(head) = head {
            let sent = if upload.is_done() { Sent::Whole } else { Sent::Part };
            return Ok(Response::new(head, connection, lease, sent));
        }
        upload.advance(client).map_err(|Malformed| NotSent::Malformed)?;
        let reads_client = upload.wants_more() || (upload.is_done() && client.socket.unread.len() < AHEAD);
        let (mut reader, mut writer) = connection.socket.split();
        tokio::select! {
            biased;
            written = writer.write(upload.out.rest()), if !upload.out.is_empty() && failure.is_none() => {
                match written {
                    Ok(written) => upload.out.advance(written),
                    // It may have sent its response before it closed the connection.
                    Err(error) => failure = Some(error),
                }
            }
            read = reader.fill() => match read {
                Ok(1..) => {}
                Ok(0) => {
                    let error = failure.unwrap_or(std::io::ErrorKind::UnexpectedEof.into());
                    return Err(NotSent::Call(error.into()));
                }
                Err(error) => return Err(NotSent::Call(failure.unwrap_or(error).into())),
            },
            read = client.socket.fill(), if reads_client => if !matches!(read, Ok(1..)) {
                return Err(NotSent::Gone);
            },
            () = forced(listener, &client.connection) => return Err(NotSent::Gone),
        }
    }
}

/// Passes a response on, while the rest of the upload is passed on.
pub async fn deliver(
    listener: &Listener,
    client: &mut Client,
    request: &Request,
    mut upload: Option<Upload>,
    mut response: Response,
    id: Option<String>,
    next: Next,
) -> After {
    let length = match response.head.body {
        length @ (BodyLength::None | BodyLength::Known(_)) => length,
        BodyLength::Chunked | BodyLength::UntilClose if request.head.is_http_1_0 => BodyLength::UntilClose,
        BodyLength::Chunked | BodyLength::UntilClose => BodyLength::Chunked,
    };
    let mut out = Outgoing::from(response.head.write(length, id.as_deref(), next));
    push(&mut out, length, &std::mem::take(&mut response.begin));
    if response.body.is_done() && length == BodyLength::Chunked {
        out.buffer().extend_from_slice(LAST_CHUNK);
    }
    let mut bytes = vec![];
    while !response.body.is_done() || !out.is_empty() {
        if let Some(unsent) = &mut upload
            && unsent.advance(client).is_err()
        {
            return After::Close;
        }
        let unsent = upload.as_ref().map(|upload| upload.out.rest()).unwrap_or_default();
        let reads_client = match &upload {
            Some(upload) if !upload.is_done() => upload.wants_more(),
            _ => client.socket.unread.len() < AHEAD,
        };
        let has_room = !response.body.is_done() && out.rest().len() < READ / 2;
        let (mut reader, mut writer) = client.socket.split();
        tokio::select! {
            biased;
            progress = response.body.read_or_write(&mut bytes, unsent), if has_room => match progress {
                Progress::Read(Ok(())) => {
                    push(&mut out, length, &std::mem::take(&mut bytes));
                    if response.body.is_done() && length == BodyLength::Chunked {
                        out.buffer().extend_from_slice(LAST_CHUNK);
                    }
                }
                // The client must not take what it has for the whole.
                Progress::Read(Err(_)) => return After::Close,
                Progress::Written(Ok(written)) => {
                    upload.iter_mut().for_each(|upload| upload.out.advance(written));
                }
                Progress::Written(Err(_)) => upload = None,
            },
            written = writer.write(out.rest()), if !out.is_empty() => match written {
                Ok(written) => out.advance(written),
                Err(_) => return After::Close,
            },
            read = reader.fill(), if reads_client => if !matches!(read, Ok(1..)) {
                return After::Close;
            },
            () = forced(listener, &client.connection) => return After::Close,
        }
    }
    if length == BodyLength::UntilClose { After::Linger } else { After::NextRequest }
}

fn push(out: &mut Outgoing, length: BodyLength, bytes: &[u8]) {
    if length == BodyLength::Chunked {
        push_chunk(out.buffer(), bytes);
    } else {
        out.buffer().extend_from_slice(bytes);
    }
}
