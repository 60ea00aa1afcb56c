//! The parsers for bytes of clients and workers: JSON-RPC, event streams, ids of events and of questions.
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
    questions(bytes);
});

/// Everything that waits for an answer gets an error of its own id.
fn messages(bytes: &[u8]) {
    let Some(messages) = Messages::read(bytes) else { return };
    let ids = messages.open_ids();
    let Some(errors) = messages.errors(INTERRUPTED) else {
        assert!(ids.is_empty());
        return;
    };
    let errors: Value = serde_json::from_slice(&errors).expect("JSON");
    let errors = errors.as_array().cloned().unwrap_or_else(|| vec![errors]);
    let answered: Vec<_> = errors.iter().map(|error| error["id"].clone()).collect();
    assert_eq!(answered, ids);
}

/// The ways to read a message agree: the parser, the quick one, and the one that keeps nothing.
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
    let mut at_once: Vec<_> = whole.push(bytes);
    at_once.push(whole.rest());
    let mut parts = Splitter::default();
    let mut rest = bytes;
    let mut piecemeal = vec![];
    for cut in cuts {
        let (part, after) = rest.split_at(usize::from(*cut).min(rest.len()));
        piecemeal.extend(parts.push(part));
        rest = after;
    }
    piecemeal.extend(parts.push(rest));
    piecemeal.push(parts.rest());
    assert_eq!(piecemeal, at_once);
    assert_eq!(at_once.concat(), bytes);
    for event in at_once.iter().filter_map(|event| Event::read(event)) {
        // One that holds no field that is known holds nothing once it is written.
        let again = Event::read(&event.write()).unwrap_or_default();
        assert_eq!(again, event);
    }
}

fn ids(text: &str) {
    if let Some(id) = EventId::read(text) {
        assert_eq!(EventId::read(&id.write()), Some(id));
    }
}

/// An answer reaches the worker that asked with the id it asked with, and only once.
fn questions(bytes: &[u8]) {
    let Ok(message) = serde_json::from_slice::<Value>(bytes) else { return };
    let mut session = Session::begin("s".into(), "/mcp".into(), "w".into(), 7, json!({}));
    session.note(&message);
    let Some(asked) = session.outward(&message) else { return };
    if asked["method"] == "notifications/cancelled" && asked.get("id").is_none() {
        return;
    }
    let answer = json!({ "jsonrpc": "2.0", "id": asked["id"], "result": {} });
    let restored = session.inward(&answer).expect("the worker asked");
    assert_eq!(restored["id"], message["id"]);
    assert_eq!(session.inward(&answer), None);
}
