//! Framing compared with hyper's, in both directions: what hyper refuses is refused, and what both accept means the
//! same. Each input is also cut at every byte.

use std::convert::Infallible;
use std::error::Error;
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{HeaderMap, Method as HyperMethod, Request as HyperRequest, Response as HyperResponse};
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::fields::{Field, MAX_FIELDS};
use super::framing::{BodyLength, Decoder};
use super::head::HeadSearch;
use super::request::{Method, Request, RequestHead};
use super::response::{Next, ResponseHead};
use crate::host_check::Allowed;
use crate::proxy::budget::Share;

/// A message as its recipient understands it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Understood {
    /// The request line or the status.
    first: String,
    /// In lower case, sorted; without those of the framing.
    fields: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

/// The messages before the end of the input, or before one that is refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Outcome {
    complete: Vec<Understood>,
    is_refused: bool,
    /// The input ended in the middle of a message, or the connection ends with the last one.
    ends_early: bool,
}

/// What a head says.
struct Parsed {
    first: String,
    fields: Vec<(String, Vec<u8>)>,
    length: BodyLength,
    /// Whether the connection ends with the message.
    is_last: bool,
}

/// Reads messages from pieces that arrive one after the other.
fn understood(pieces: &[&[u8]], mut parse: impl FnMut(&[u8]) -> Option<Parsed>) -> Outcome {
    let mut outcome = Outcome::default();
    let mut unread = vec![];
    let mut search = HeadSearch::default();
    let mut current: Option<(Understood, Decoder)> = None;
    let mut is_last = false;
    for piece in pieces {
        unread.extend_from_slice(piece);
        loop {
            if let Some((message, decoder)) = &mut current {
                let Ok(used) = decoder.decode(&unread, &mut message.body) else {
                    return Outcome { is_refused: true, ..outcome };
                };
                unread.drain(..used);
                if !decoder.is_done() {
                    break;
                }
                outcome.complete.extend(current.take().map(|(message, _)| message));
                if is_last {
                    outcome.ends_early = true;
                    return outcome;
                }
            }
            let parsed = match search.find(&unread) {
                Ok(None) => break,
                Ok(Some(length)) => parse(&unread.drain(..length).collect::<Vec<_>>()),
                Err(_) => None,
            };
            let Some(parsed) = parsed else {
                return Outcome { is_refused: true, ..outcome };
            };
            let message = Understood { first: parsed.first, fields: parsed.fields, body: vec![] };
            current = Some((message, Decoder::new(parsed.length)));
            is_last = parsed.is_last;
        }
    }
    // The connection ends.
    let is_complete = current.as_mut().is_some_and(|(_, decoder)| decoder.close());
    outcome.ends_early = !is_complete && (current.is_some() || !unread.is_empty());
    outcome.complete.extend(current.filter(|_| is_complete).map(|(message, _)| message));
    outcome
}

/// The fields of a head that was written by mcpd.
fn fields_of(head: &[u8]) -> Vec<(String, Vec<u8>)> {
    let start = head.windows(2).position(|pair| pair == b"\r\n").map_or(0, |at| at + 2);
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let (_, fields) = httparse::parse_headers(&head[start..], &mut fields).expect("valid").unwrap();
    let named =
        fields.iter().map(|field| (field.name.to_ascii_lowercase(), field.value.trim_ascii().to_vec()));
    sorted(named, &[])
}

/// Without what concerns one connection or is written anew.
fn sorted(fields: impl Iterator<Item = (String, Vec<u8>)>, named: &[String]) -> Vec<(String, Vec<u8>)> {
    let is_compared = |name: &str| match Field::of(name) {
        Field::Host | Field::SessionId | Field::LastEventId => true,
        Field::Accept | Field::ContentType | Field::Origin | Field::Other => {
            !named.iter().any(|it| it == name)
        }
        _ => false,
    };
    let mut fields: Vec<_> = fields.filter(|(name, _)| is_compared(name)).collect();
    fields.sort();
    fields
}

fn of_hyper(headers: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    let named = headers.get_all("connection").iter().filter_map(|value| value.to_str().ok());
    let named: Vec<_> =
        named.flat_map(|value| value.split(',')).map(|it| it.trim().to_ascii_lowercase()).collect();
    let all = headers.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()));
    sorted(all, &named)
}

fn our_requests(pieces: &[&[u8]]) -> Outcome {
    understood(pieces, |head| {
        let head = RequestHead::parse(head, &Allowed::default()).ok()?;
        let (length, is_last) = (head.body, !head.keeps_alive);
        let request = Request { head, body: vec![], messages: None, share: Share::default() };
        let written = request.head_for(None, BodyLength::None);
        let first = String::from_utf8_lossy(&written).split(" HTTP/1.1\r\n").next()?.to_owned();
        Some(Parsed { first, fields: fields_of(&written), length, is_last })
    })
}

fn our_response(pieces: &[&[u8]], method: Method) -> Outcome {
    understood(pieces, |head| {
        let head = ResponseHead::parse(head, method).ok()?;
        let length = if head.is_interim() { BodyLength::None } else { head.body };
        let (first, is_last) = (head.status.to_string(), !head.is_interim());
        let written = head.write(BodyLength::None, None, Next::KeepAlive);
        Some(Parsed { first, fields: fields_of(&written), length, is_last })
    })
}

/// What hyper's server understands of the same bytes.
async fn requests_of_hyper(bytes: &[u8]) -> Outcome {
    let (mut near, far) = tokio::io::duplex(1 << 20);
    near.write_all(bytes).await.expect("room");
    near.shutdown().await.expect("open");
    let seen: Arc<Mutex<Outcome>> = Arc::default();
    let service = service_fn(|request: HyperRequest<Incoming>| {
        let seen = seen.clone();
        async move {
            let (head, body) = request.into_parts();
            let target = head.uri.path_and_query().map_or("/", |it| it.as_str());
            let first = format!("{} {target}", head.method);
            let body = body.collect().await;
            let mut seen = seen.lock().expect("not poisoned");
            match body {
                Ok(body) => seen.complete.push(Understood {
                    first,
                    fields: of_hyper(&head.headers),
                    body: body.to_bytes().to_vec(),
                }),
                Err(error) => seen.is_refused |= !is_cut(&error),
            }
            Ok::<_, Infallible>(HyperResponse::new(Empty::<Bytes>::new()))
        }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .half_close(true)
        .serve_connection(TokioIo::new(far), service)
        .await;
    let mut outcome = seen.lock().expect("not poisoned").clone();
    outcome.is_refused |= served.is_err_and(|error| error.is_parse());
    outcome
}

/// What hyper's client understands of the same bytes.
async fn response_of_hyper(bytes: &[u8], method: HyperMethod) -> Outcome {
    let (mut near, far) = tokio::io::duplex(1 << 20);
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(far)).await.expect("it starts");
    let driven = tokio::spawn(connection);
    let request = HyperRequest::builder().method(method).uri("/").body(Empty::<Bytes>::new()).expect("valid");
    let exchange = async {
        let response = sender.send_request(request).await?;
        let (head, body) = response.into_parts();
        let body = body.collect().await?.to_bytes().to_vec();
        Ok::<_, hyper::Error>(Understood {
            first: head.status.as_u16().to_string(),
            fields: of_hyper(&head.headers),
            body,
        })
    };
    let worker = async {
        // The request is read first: hyper takes a response before it for an error.
        let mut request = [0; 1024];
        let _ = near.read(&mut request).await;
        near.write_all(bytes).await.expect("room");
        near.shutdown().await.expect("open");
    };
    let (response, ()) = tokio::join!(exchange, worker);
    driven.abort();
    match response {
        Ok(response) => Outcome { complete: vec![response], ..Outcome::default() },
        Err(error) => Outcome { is_refused: !is_cut(&error), ..Outcome::default() },
    }
}

/// Whether the input ended before the message did.
fn is_cut(error: &hyper::Error) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<std::io::Error>());
    error.is_incomplete_message()
        || cause.is_some_and(|cause| cause.kind() == std::io::ErrorKind::UnexpectedEof)
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
}

/// The outcome is the same wherever the bytes are cut, once.
fn assert_cuts_change_nothing(bytes: &[u8], read: impl Fn(&[&[u8]]) -> Outcome) -> Outcome {
    let whole = read(&[bytes]);
    for at in 0..bytes.len() {
        let (first, second) = bytes.split_at(at);
        assert_eq!(read(&[first, second]), whole, "cut at {at}: {:?}", String::from_utf8_lossy(bytes));
    }
    whole
}

/// Ours accepts no more than hyper, and understands the same.
fn assert_as_strict(ours: &Outcome, hyper: &Outcome, bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let count = ours.complete.len();
    assert!(count <= hyper.complete.len(), "hyper accepts less of {text:?}: {ours:?} {hyper:?}");
    assert_eq!(ours.complete[..], hyper.complete[..count], "{text:?}");
    // The end of what is cut can show that it is wrong: hyper need not wait for it.
    assert!(ours.is_refused || ours.ends_early || !hyper.is_refused, "hyper refuses {text:?}: {ours:?}");
}

const ENDINGS: [&str; 6] = ["\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\n"];
const FIELDS: [&str; 24] = [
    "content-length: 5",
    "Content-Length:0",
    "content-length: 5",
    "content-length: +5",
    "content-length: 5, 5",
    "content-length: 18446744073709551616",
    "transfer-encoding: chunked",
    "transfer-encoding: Chunked",
    "transfer-encoding: gzip, chunked",
    "transfer-encoding: chunked, identity",
    "transfer-encoding:\tchunked",
    "connection: close",
    "connection: keep-alive, x-a",
    "x-a: b",
    "X-A: c ",
    "x-b:",
    "x-b : c",
    " folded",
    "x-c: \u{1}",
    "x-c: \u{e4}",
    "x(d: e",
    "expect: 100-continue",
    "mcp-session-id: s",
    "keep-alive: timeout=5",
];
const BODIES: [&str; 22] = [
    "",
    "",
    "hello",
    "hello",
    "hell",
    "hello, world",
    "5\r\nhello\r\n0\r\n\r\n",
    "5\r\nhello\r\n0\r\n\r\n",
    "5;a=b\r\nhello\r\n0\r\n\r\n",
    "5 ;a\r\nhello\r\n0\r\n\r\n",
    "5 \r\nhello\r\n0\r\n\r\n",
    "5\r\nhello\r\n0\r\nx: y\r\n\r\n",
    "5\r\nhello\r\n0\r\nnothing\r\n\r\n",
    "5\r\nhello\r\n0\r\n: y\r\n\r\n",
    "5\nhello\r\n0\r\n\r\n",
    "5\r\nhello!\r\n0\r\n\r\n",
    "5\r\nhello\n0\r\n\r\n",
    "0x5\r\nhello\r\n0\r\n\r\n",
    "+5\r\nhello\r\n0\r\n\r\n",
    "00000005\r\nhello\r\n0000\r\n\r\n",
    "fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
    "5\r\nhello\r\n0\r\n\n",
];

fn message(
    first: impl Strategy<Value = String>,
    common: &'static [&'static str],
) -> impl Strategy<Value = String> {
    let field = prop_oneof![1 => prop::sample::select(&FIELDS[..]), 1 => prop::sample::select(common)];
    let fields = prop::collection::vec((field, prop::sample::select(&ENDINGS[..])), 0..4);
    let host = prop_oneof![9 => Just("host: localhost\r\n"), 1 => Just("")];
    (first, host, fields, prop::sample::select(&BODIES[..])).prop_map(|(first, host, fields, body)| {
        let fields: String = fields.into_iter().flat_map(|(field, ending)| [field, ending]).collect();
        format!("{first}{host}{fields}\r\n{body}")
    })
}

fn request_line() -> impl Strategy<Value = String> {
    let methods = ["GET", "POST", "POST", "DELETE", "HEAD", "OPTIONS", "get", "G(T", ""];
    let targets = ["/mcp", "/mcp?a=b", "http://localhost/mcp", "http://localhost", "/a b", "/\"", "//", "*"];
    let versions = ["HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/1.2", "http/1.1", "HTTP/2.0"];
    let line = (
        prop::sample::select(methods.to_vec()).prop_map(str::to_owned),
        prop_oneof![3 => Just("/mcp"), 1 => prop::sample::select(targets.to_vec())],
        prop_oneof![3 => Just("HTTP/1.1"), 1 => prop::sample::select(versions.to_vec())],
        prop::sample::select(&ENDINGS[..]),
    );
    line.prop_map(|(method, target, version, ending)| format!("{method} {target} {version}{ending}"))
}

fn status_line() -> impl Strategy<Value = String> {
    let lines = [
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 200\r\n",
        "HTTP/1.1 200 \r\n",
        "HTTP/1.0 200 OK\r\n",
        "HTTP/1.1 204 No Content\r\n",
        "HTTP/1.1 304 Not Modified\r\n",
        "HTTP/1.1 404 Not \u{e4}\r\n",
        "HTTP/1.1 20 OK\r\n",
        "HTTP/1.1 099 OK\r\n",
        "HTTP/2 200 OK\r\n",
        "ICY 200 OK\r\n",
        "HTTP/1.1 200 OK\n",
    ];
    prop_oneof![3 => Just(lines[0]), 1 => prop::sample::select(lines.to_vec())].prop_map(str::to_owned)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn requests_mean_what_they_mean_to_hyper(
        messages in prop::collection::vec(
            message(request_line(), &["content-length: 5", "transfer-encoding: chunked", "x-a: b"]), 1..3)
    ) {
        let bytes = messages.concat().into_bytes();
        let ours = assert_cuts_change_nothing(&bytes, our_requests);
        assert_as_strict(&ours, &block_on(requests_of_hyper(&bytes)), &bytes);
    }

    #[test]
    fn responses_mean_what_they_mean_to_hyper(
        message in message(status_line(), &["content-length: 5", "transfer-encoding: chunked", "x-a: b"]),
        is_head: bool,
    ) {
        let bytes = message.into_bytes();
        let (method, of_hyper) =
            if is_head { (Method::Head, HyperMethod::HEAD) } else { (Method::Get, HyperMethod::GET) };
        let ours = assert_cuts_change_nothing(&bytes, |pieces| our_response(pieces, method));
        assert_as_strict(&ours, &block_on(response_of_hyper(&bytes, of_hyper)), &bytes);
    }
}

/// Both accept what clients and workers send, so that the comparison compares something.
#[test]
fn usual_messages_are_understood() {
    let requests = b"POST /mcp HTTP/1.1\r\nhost: localhost\r\nx-a: b\r\ncontent-length: 5\r\n\r\nhello\
        POST /mcp HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let ours = our_requests(&[requests]);
    assert_eq!((ours.complete.len(), ours.is_refused), (2, false));
    assert_eq!(ours, block_on(requests_of_hyper(requests)));
    let response = b"HTTP/1.1 200 OK\r\nx-a: b\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let ours = our_response(&[response], Method::Get);
    assert_eq!(ours.complete[0].body, b"hello");
    assert_eq!(ours.complete, block_on(response_of_hyper(response, HyperMethod::GET)).complete);
}
