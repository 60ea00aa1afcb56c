//! The framing of HTTP: requests of clients, responses of workers, chunks.
#![no_main]
#![allow(dead_code, reason = "modules of the daemon, of which the fuzzer uses a part")]

use host_check::Allowed;
use libfuzzer_sys::fuzz_target;
use proxy::budget::Share;
use proxy::http::framing::{BodyLength, Decoder};
use proxy::http::head::HeadSearch;
use proxy::http::request::{Method, Request, RequestHead};
use proxy::http::response::{Next, ResponseHead};

#[path = "../../../daemon/src/host_check.rs"]
mod host_check;
#[path = "../../../daemon/src/random.rs"]
mod random;

#[path = "../../../daemon/src/proxy"]
mod proxy {
    pub mod budget;
    pub mod http {
        pub mod chunked;
        pub mod cors;
        pub mod fields;
        pub mod framing;
        pub mod head;
        pub mod reply;
        pub mod request;
        pub mod response;
    }
    pub mod mcp {
        pub mod message;
        pub mod quick;
        pub mod session;
    }
}

fuzz_target!(|input: (&[u8], Vec<u8>)| {
    let (bytes, cuts) = input;
    let request = |head: &[u8]| request(head).map(|request| (describe(&request), request.head.body));
    assert_eq!(read(bytes, &cuts, request), read(bytes, &[], request));
    let response = |head: &[u8]| {
        let head = ResponseHead::parse(head, Method::Get).ok()?;
        let length = head.body;
        Some((head.write(length, None, Next::KeepAlive), length))
    };
    assert_eq!(read(bytes, &cuts, response), read(bytes, &[], response));
    again(bytes);
});

fn request(head: &[u8]) -> Option<Request> {
    let head = RequestHead::parse(head, &Allowed::default()).ok()?;
    Some(Request { head, body: vec![], messages: None, share: Share::default() })
}

fn describe(request: &Request) -> Vec<u8> {
    request.head_for(None, request.head.body)
}

/// What is forwarded is a valid request, and means the same.
fn again(bytes: &[u8]) {
    let Ok(Some(length)) = HeadSearch::default().find(bytes) else { return };
    if let Some(first) = request(&bytes[..length]) {
        let second = request(&describe(&first)).expect("what is forwarded is valid");
        assert_eq!(describe(&first), describe(&second));
        assert_eq!(first.head.body, second.head.body);
    }
    if let Ok(first) = ResponseHead::parse(&bytes[..length], Method::Post) {
        let length = first.body;
        let written = first.write(length, None, Next::KeepAlive);
        let second = ResponseHead::parse(&written, Method::Post).expect("what is forwarded is valid");
        let length = second.body;
        assert_eq!(written, second.write(length, None, Next::KeepAlive));
    }
}

/// Head and body of a message, as they are forwarded.
type Complete = (Vec<u8>, Vec<u8>);

/// The messages in bytes that arrive in pieces, and whether they were refused then.
fn read(
    bytes: &[u8],
    cuts: &[u8],
    parse: impl Fn(&[u8]) -> Option<(Vec<u8>, BodyLength)>,
) -> (Vec<Complete>, bool) {
    let mut complete = vec![];
    let mut search = HeadSearch::default();
    let mut unread = vec![];
    let mut current: Option<(Vec<u8>, Decoder, Vec<u8>)> = None;
    let mut rest = bytes;
    for cut in cuts.iter().copied().chain([u8::MAX]) {
        let length = if cut == u8::MAX { rest.len() } else { usize::from(cut).min(rest.len()) };
        let (piece, after) = rest.split_at(length);
        rest = after;
        unread.extend_from_slice(piece);
        loop {
            if let Some((head, mut decoder, mut body)) = current.take() {
                let Ok(used) = decoder.decode(&unread, &mut body) else { return (complete, true) };
                unread.drain(..used);
                if !decoder.is_done() {
                    current = Some((head, decoder, body));
                    break;
                }
                complete.push((head, body));
            }
            let head = match search.find(&unread) {
                Ok(None) => break,
                Ok(Some(length)) => unread.drain(..length).collect::<Vec<_>>(),
                Err(_) => return (complete, true),
            };
            let Some((head, length)) = parse(&head) else { return (complete, true) };
            current = Some((head, Decoder::new(length), vec![]));
        }
        if rest.is_empty() {
            break;
        }
    }
    (complete, false)
}
