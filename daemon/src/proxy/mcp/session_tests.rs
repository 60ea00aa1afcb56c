use super::*;
use proptest::prelude::*;

const VERSION: &str = "2025-11-25";

fn session() -> Session {
    let params = json!({ "protocolVersion": VERSION, "clientInfo": { "name": "c" }, "capabilities": {} });
    let mut session = Session::begin("s".into(), "/mcp".into(), "w1".into(), 1, params);
    session.agree(&result(VERSION));
    session
}

fn result(version: &str) -> Value {
    json!({
        "protocolVersion": version,
        "capabilities": { "tools": { "listChanged": true }, "prompts": {}, "logging": {} },
    })
}

fn initialize_response(version: &str) -> Value {
    json!({ "jsonrpc": "2.0", "id": REPLAY_ID, "result": result(version) })
}

fn methods(messages: &[Value]) -> Vec<&str> {
    messages.iter().map(|message| message["method"].as_str().expect("a method")).collect()
}

#[test]
fn a_new_worker_gets_the_client_s_messages_that_are_still_in_force() {
    let mut session = session();
    for (method, params) in [
        ("notifications/initialized", json!({})),
        ("logging/setLevel", json!({ "level": "info" })),
        ("logging/setLevel", json!({ "level": "debug" })),
        ("resources/subscribe", json!({ "uri": "file:///a" })),
        ("resources/subscribe", json!({ "uri": "file:///b" })),
        ("resources/unsubscribe", json!({ "uri": "file:///a" })),
        ("tools/call", json!({ "name": "x" })),
    ] {
        session.note(&json!({ "method": method, "params": params }));
    }
    let replayed = session.renew(2, "w2".into(), &initialize_response(VERSION)).expect("renewed");
    assert_eq!(methods(&replayed), ["notifications/initialized", "logging/setLevel", "resources/subscribe"]);
    assert_eq!(replayed[1]["params"]["level"], "debug");
    assert_eq!(replayed[2]["params"]["uri"], "file:///b");
    assert_eq!((session.epoch, session.worker_id.as_str()), (2, "w2"));
    assert_eq!(methods(&session.take_list_changed()), ["notifications/tools/list_changed"]);
}

#[test]
fn another_version_or_a_refusal_ends_the_session() {
    let refusal = json!({ "id": REPLAY_ID, "error": { "code": -32602, "message": "no" } });
    for response in [initialize_response("2024-11-05"), refusal] {
        assert!(session().renew(2, "w2".into(), &response).is_err());
    }
}

/// R-CLIENT-3: both workers sent a request with id 0.
#[test]
fn a_late_response_to_an_old_worker_never_reaches_the_new_one() {
    let mut session = session();
    let request = json!({ "id": 0, "method": "elicitation/create", "params": {} });
    let first = session.outward(&request).expect("rewritten");
    assert_eq!(session.cancel_asked().len(), 1);
    session.renew(2, "w2".into(), &initialize_response(VERSION)).expect("renewed");
    let second = session.outward(&request).expect("rewritten");
    assert_ne!(first["id"], second["id"]);
    let late = json!({ "id": first["id"], "result": {} });
    assert_eq!(session.inward(&late), None);
    let right = json!({ "id": second["id"], "result": { "action": "accept" } });
    assert_eq!(session.inward(&right), Some(json!({ "id": 0, "result": { "action": "accept" } })));
    assert_eq!(session.inward(&right), None, "a second response is dropped");
}

#[test]
fn a_worker_may_cancel_its_request() {
    let mut session = session();
    let request =
        session.outward(&json!({ "id": "q", "method": "sampling/createMessage" })).expect("rewritten");
    let cancelled = json!({ "method": "notifications/cancelled", "params": { "requestId": "q" } });
    let notification = session.outward(&cancelled).expect("rewritten");
    assert_eq!(notification["params"]["requestId"], request["id"]);
    assert!(session.cancel_asked().is_empty());
}

#[test]
fn notifications_and_responses_of_workers_are_not_rewritten() {
    let mut session = session();
    assert_eq!(session.outward(&json!({ "method": "notifications/progress", "params": {} })), None);
    assert_eq!(session.outward(&json!({ "id": 3, "result": {} })), None);
}

fn id() -> impl Strategy<Value = Value> {
    prop_oneof![any::<i64>().prop_map(Value::from), ".{0,20}".prop_map(Value::from)]
}

proptest! {
    #[test]
    fn an_id_with_an_epoch_can_be_split_again(epoch: Epoch, id in id()) {
        prop_assert_eq!(without_epoch(&with_epoch(epoch, &id)), Some((epoch, id)));
    }

    #[test]
    fn an_event_id_can_be_read_again(epoch: Epoch, request in proptest::option::of(id()), inner in "[ -~]{0,30}") {
        let id = EventId { epoch, request, inner };
        prop_assert_eq!(EventId::read(&id.write()), Some(id));
    }

    #[test]
    fn unknown_event_ids_and_responses_are_refused_without_a_panic(text in ".{0,40}") {
        let _ = EventId::read(&text);
        prop_assert_eq!(session().inward(&json!({ "id": text, "result": {} })), None);
    }

    /// In any interleaving of restarts, requests and responses, a response reaches only the process that sent
    /// the request, with the request's own id, and at most once.
    #[test]
    fn responses_reach_only_the_worker_that_sent_the_request(steps in proptest::collection::vec((0usize..3, 0u64..4), 0..60)) {
        let mut session = session();
        let mut epoch = 1;
        let mut open = Vec::<(Epoch, Value, Value)>::new();
        for (step, number) in steps {
            match step {
                0 => {
                    let request = json!({ "id": number, "method": "roots/list" });
                    let sent = session.outward(&request).expect("rewritten");
                    open.retain(|(_, _, id)| *id != sent["id"]);
                    open.push((epoch, json!(number), sent["id"].clone()));
                }
                1 => {
                    session.cancel_asked();
                    epoch += 1;
                    session.renew(epoch, format!("w{epoch}"), &initialize_response(VERSION)).expect("renewed");
                }
                _ if open.is_empty() => {}
                _ => {
                    let pick = usize::try_from(number).expect("small") % open.len();
                    let (sent_in, sent_id, id) = open.swap_remove(pick);
                    let reached = session.inward(&json!({ "id": id, "result": {} }));
                    let expected = (sent_in == epoch).then(|| json!({ "id": sent_id, "result": {} }));
                    prop_assert_eq!(reached, expected);
                }
            }
        }
    }
}
