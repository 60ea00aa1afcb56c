//! Scanning a message in pieces gives the same result as parsing it whole.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn scanned(text: &[u8], cuts: &[usize]) -> Scanner {
    let mut scanner = Scanner::default();
    let mut rest = text;
    for cut in cuts.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (now, later) = rest.split_at((*cut).min(rest.len()));
        scanner.push(now);
        rest = later;
    }
    scanner
}

fn scan_whole(text: &str) -> Option<Messages> {
    scanned(text.as_bytes(), &[text.len().max(1)]).messages()
}

/// R-CLIENT-1: the id is found at any position, and only that of the outermost object.
#[test]
fn only_the_members_of_the_message_itself_count() {
    let request = |id: Value| Message::Request { id, method: "tools/call".to_owned() };
    let one = |text: &str| scan_whole(text).expect("a message").all.remove(0);
    assert_eq!(one(r#"{"id":7,"method":"tools/call","params":{}}"#), request(json!(7)));
    let last = r#" {"params":{"id":1,"x":[{"method":"no"},"}]\""]},"method":"tools/call" , "id" : "a" } "#;
    assert_eq!(one(last), request(json!("a")));
    assert_eq!(one(r#"{"\u0069d":1,"method":"tools\/call"}"#), request(json!(1)));
    assert_eq!(one(r#"{"id":3,"result":{"method":"x"}}"#), Message::Answer { id: json!(3) });
    assert_eq!(one(r#"{"method":"a","id":null}"#), Message::Notification { method: "a".into() });
}

#[test]
fn text_that_is_not_one_message_is_rejected() {
    let long = format!(r#"{{"id":"{}","method":"a"}}"#, "x".repeat(LONGEST));
    let rejected = [
        r#"[{"id":1,"method":"a"}]"#,
        r#"{"id":1,"id":2,"method":"a"}"#,
        r#"{"id":1,"method":7}"#,
        r#""id""#,
        "{}",
        "",
        "{]",
        &long,
    ];
    for text in rejected {
        assert_eq!(scan_whole(text), None, "{text}");
    }
}

/// An interrupted body often contains the id and the method.
#[test]
fn id_and_method_are_known_before_the_end() {
    let mut scanner = Scanner::default();
    scanner.push(br#"{"jsonrpc":"2.0","id":1,"method":"ping","params":{"data":"aaaa"#);
    assert!(scanner.is_done());
    assert_eq!(scanner.messages().expect("a message").open_ids(), [json!(1)]);
}

fn any_json() -> impl Strategy<Value = Value> {
    let word = "[a-z\"\\\\{}\\[\\],: \u{e9}]{0,8}";
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        word.prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        let key = prop_oneof![Just("id".to_owned()), Just("method".to_owned()), "[a-z\"\\\\]{0,6}"];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((key, inner), 0..4)
                .prop_map(|all| Value::Object(all.into_iter().collect())),
        ]
    })
}

fn message() -> impl Strategy<Value = Value> {
    let id = prop_oneof![
        any::<i64>().prop_map(Value::from),
        "[ -~]{0,9}".prop_map(Value::from),
        Just(Value::Null)
    ];
    let members = (proptest::option::of(id), proptest::option::of("[ -~]{0,12}"), any_json(), any_json());
    members.prop_map(|(id, method, params, more)| {
        let mut object = serde_json::Map::new();
        object.insert("a".to_owned(), more);
        id.map(|id| object.insert("id".to_owned(), id));
        method.map(|method| object.insert("method".to_owned(), method.into()));
        object.insert("params".to_owned(), params);
        Value::Object(object)
    })
}

proptest! {
    #[test]
    fn scanning_in_pieces_and_parsing_agree(
        message in message(),
        pretty: bool,
        cuts in proptest::collection::vec(1usize..9, 1..20),
    ) {
        let text = if pretty { serde_json::to_vec_pretty(&message) } else { serde_json::to_vec(&message) };
        let text = text.expect("JSON");
        prop_assert_eq!(scanned(&text, &cuts).messages(), Messages::parse(&text));
    }

    #[test]
    fn the_cuts_do_not_change_the_result_for_any_text(
        bytes in "[\\[\\]{}\"\\\\:, idmetho1n]{0,60}",
        cuts in proptest::collection::vec(1usize..9, 1..20),
    ) {
        let whole = scanned(bytes.as_bytes(), &[bytes.len().max(1)]).messages();
        prop_assert_eq!(scanned(bytes.as_bytes(), &cuts).messages(), whole);
    }

    #[test]
    fn no_bytes_cause_a_panic(bytes: Vec<u8>) {
        scanned(&bytes, &[1]);
    }
}
