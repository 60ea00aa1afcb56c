//! The parsers for bytes of clients and workers: JSON-RPC, event streams, ids of events and of requests.
#![no_main]
#![allow(dead_code, reason = "modules of the daemon, of which the fuzzer uses a part")]

use libfuzzer_sys::fuzz_target;
use message::{INTERRUPTED, Messages};
use scan::Scanner;
use serde_json::{Value, json};
use session::{EventId, Session};
use sse::{Event, Splitter};

#[path = "../../../daemon/src/proxy/mcp/message.rs"]
mod message;
#[path = "../../../daemon/src/proxy/mcp/quick.rs"]
mod quick;
#[path = "../../../daemon/src/random.rs"]
mod random;
#[path = "../../../daemon/src/proxy/mcp/scan.rs"]
mod scan;
#[path = "../../../daemon/src/proxy/mcp/session.rs"]
mod session;
#[path = "../../../daemon/src/proxy/mcp/sse.rs"]
mod sse;

fuzz_target!(|input: (&[u8], &str, Vec<u8>)| {
    let (bytes, text, cuts) = input;
    messages(bytes);
    scanned(bytes, &cuts);
    events(bytes, &cuts);
    ids(text);
    worker_requests(bytes);
});

/// Each open request gets an error with its id.
fn messages(bytes: &[u8]) {
    let Some(messages) = Messages::read(bytes) else { return };
    let ids = messages.open_ids();
    let Some(errors) = messages.errors(INTERRUPTED, &serde_json::Value::Null) else {
        assert!(ids.is_empty());
        return;
    };
    let errors: Value = serde_json::from_slice(&errors).expect("JSON");
    let errors = errors.as_array().cloned().unwrap_or_else(|| vec![errors]);
    let answered: Vec<_> = errors.iter().map(|error| error["id"].clone()).collect();
    assert_eq!(answered, ids);
}

/// The parser, the quick parser and the scanner give the same result.
fn scanned(bytes: &[u8], cuts: &[u8]) {
    let mut whole = Scanner::default();
    let mut parts = Scanner::default();
    let mut rest = bytes;
    whole.push(bytes);
    for cut in cuts {
        let (part, after) = rest.split_at(usize::from(*cut).min(rest.len()));
        parts.push(part);
        rest = after;
    }
    parts.push(rest);
    assert_eq!(parts.messages(), whole.messages());
    if let Some(parsed) = Messages::parse(bytes)
        && !parsed.batch
    {
        assert_eq!(Messages::read(bytes), Some(parsed));
    }
}

/// The result does not depend on where the bytes are split, and nothing is lost.
fn events(bytes: &[u8], cuts: &[u8]) {
    let mut whole = Splitter::default();
    let mut at_once = vec![];
    whole.push(bytes, |event| at_once.push(event.to_vec()));
    at_once.push(whole.rest());
    let mut parts = Splitter::default();
    let mut rest = bytes;
    let mut piecemeal = vec![];
    for cut in cuts {
        let (part, after) = rest.split_at(usize::from(*cut).min(rest.len()));
        parts.push(part, |event| piecemeal.push(event.to_vec()));
        rest = after;
    }
    parts.push(rest, |event| piecemeal.push(event.to_vec()));
    piecemeal.push(parts.rest());
    assert_eq!(piecemeal, at_once);
    assert_eq!(at_once.concat(), bytes);
    for event in at_once.iter().filter_map(|event| Event::read(event)) {
        // An event without known fields is empty when it is written.
        let mut written = vec![];
        event.write(&mut written);
        let again = Event::read(&written).unwrap_or_default();
        assert_eq!(again, event);
    }
}

fn ids(text: &str) {
    if let Some(id) = EventId::read(text) {
        assert_eq!(EventId::read(&id.write()), Some(id));
    }
}

/// A response reaches the worker with the id of its request, and only once.
fn worker_requests(bytes: &[u8]) {
    let Ok(message) = serde_json::from_slice::<Value>(bytes) else { return };
    let mut session = Session::begin("s".into(), "/mcp".into(), "w".into(), 7, json!({}));
    session.note(&message);
    let Some(sent) = session.outward(&message) else { return };
    if sent["method"] == "notifications/cancelled" && sent.get("id").is_none() {
        return;
    }
    let response = json!({ "jsonrpc": "2.0", "id": sent["id"], "result": {} });
    let restored = session.inward(&response).expect("a response to a request");
    assert_eq!(restored["id"], message["id"]);
    assert_eq!(session.inward(&response), None);
}
