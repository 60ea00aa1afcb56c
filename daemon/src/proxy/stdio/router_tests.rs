use super::*;
use proptest::prelude::*;

fn parts(message: &str) -> Parts<'_> {
    Parts::read(message.as_bytes()).expect("a message")
}

fn json(bytes: &[u8]) -> Value {
    assert!(!bytes.contains(&b'\n'));
    serde_json::from_slice(bytes).expect("JSON")
}

/// Two clients with a session each.
fn two_clients() -> Router {
    let mut router = Router::default();
    ["a", "b"].into_iter().for_each(|id| router.open_session(id.to_owned()));
    router
}

fn request(router: &mut Router, session: Option<&str>, message: &Value) -> Routed {
    router.request(session, &parts(&message.to_string())).expect("a request")
}

fn forwarded(router: &mut Router, session: Option<&str>, message: &Value) -> (CallId, Value) {
    match request(router, session, message) {
        Routed::Forward(call, line) => (call, json(&line)),
        Routed::Answer(answer) => panic!("{message} is answered by mcpd: {}", json(&answer)),
    }
}

fn from_server(router: &mut Router, message: &Value) -> Vec<Delivery> {
    router.on_line(message.to_string().as_bytes()).expect("a message")
}

/// The sessions that a message goes to; they have no order.
fn sessions_of(deliveries: &[Delivery]) -> BTreeSet<&str> {
    let mut sessions = BTreeSet::new();
    for delivery in deliveries {
        let Delivery::Stream(session, _) = delivery else { panic!("not for a session: {delivery:?}") };
        sessions.insert(session.as_str());
    }
    sessions
}

fn answered(router: &mut Router, call: CallId, result: Value) -> Vec<Delivery> {
    from_server(router, &json!({ "jsonrpc": "2.0", "id": call, "result": result }))
}

#[test]
fn a_session_gets_only_log_messages_of_its_level() {
    let mut router = two_clients();
    let log =
        |level: &str| json!({ "method": "notifications/message", "params": { "level": level, "data": 1 } });
    assert_eq!(sessions_of(&from_server(&mut router, &log("debug"))).len(), 2, "the server decides");
    let set = |level: &str| json!({ "id": 1, "method": "logging/setLevel", "params": { "level": level } });
    assert_eq!(forwarded(&mut router, Some("a"), &set("error")).1["params"]["level"], "error");
    assert_eq!(forwarded(&mut router, Some("b"), &set("debug")).1["params"]["level"], "debug");
    assert_eq!(
        forwarded(&mut router, Some("a"), &set("warning")).1["params"]["level"],
        "debug",
        "the lowest applies"
    );
    assert_eq!(sessions_of(&from_server(&mut router, &log("info"))), ["b"].into());
    assert_eq!(sessions_of(&from_server(&mut router, &log("error"))), ["a", "b"].into());
    router.open_session("c".to_owned());
    assert_eq!(
        sessions_of(&from_server(&mut router, &log("info"))),
        ["b", "c"].into(),
        "c has not said what it wants"
    );
    let told = router.close_session("b");
    assert_eq!(json(&told[0])["params"]["level"], "warning");
}

#[test]
fn subscriptions_are_counted() {
    let mut router = two_clients();
    let of = |method: &str| json!({ "id": 5, "method": format!("resources/{method}"), "params": { "uri": "x:1" } });
    let updated = json!({ "method": "notifications/resources/updated", "params": { "uri": "x:1" } });
    let (refused, _) = forwarded(&mut router, Some("a"), &of("subscribe"));
    let error = json!({ "id": refused, "error": { "code": 1, "message": "no" } });
    assert!(matches!(&from_server(&mut router, &error)[..], [Delivery::Answer(..)]));
    assert!(from_server(&mut router, &updated).is_empty(), "what was refused is no subscription");
    let (call, _) = forwarded(&mut router, Some("a"), &of("subscribe"));
    let _ = answered(&mut router, call, json!({}));
    let Routed::Answer(second) = request(&mut router, Some("b"), &of("subscribe")) else {
        panic!("mcpd answers")
    };
    assert_eq!(json(&second), json!({ "jsonrpc": "2.0", "id": 5, "result": {} }));
    assert_eq!(sessions_of(&from_server(&mut router, &updated)), ["a", "b"].into());
    assert!(
        matches!(request(&mut router, Some("a"), &of("unsubscribe")), Routed::Answer(_)),
        "b still needs it"
    );
    assert_eq!(sessions_of(&from_server(&mut router, &updated)), ["b"].into());
    let told = router.close_session("b");
    assert_eq!(json(&told[0])["method"], "resources/unsubscribe");
}

/// Clients use the same ids: what one cancels is its own.
#[test]
fn a_client_cancels_its_own_request() {
    let mut router = two_clients();
    let call = json!({ "id": 1, "method": "tools/call", "params": {} });
    let (of_a, _) = forwarded(&mut router, Some("a"), &call);
    let (of_b, _) = forwarded(&mut router, Some("b"), &call);
    let cancel = json!({ "method": "notifications/cancelled", "params": { "requestId": 1, "reason": "r" } });
    let deliveries = router.notification(Some("b"), &parts(&cancel.to_string()));
    let [Delivery::Server(told), Delivery::Answer(ended, answer)] = &deliveries[..] else {
        panic!("{deliveries:?}")
    };
    assert_eq!(json(told)["params"], json!({ "requestId": of_b, "reason": "r" }));
    assert_eq!((*ended, &json(answer)["id"]), (of_b, &json!(1)));
    assert!(answered(&mut router, of_b, json!({})).is_empty(), "a late answer is dropped");
    assert!(
        matches!(&answered(&mut router, of_a, json!({}))[..], [Delivery::Answer(call, _)] if *call == of_a)
    );
    let (of_a, _) = forwarded(&mut router, Some("a"), &call);
    let told = router.abandon(of_a).expect("it is open");
    assert_eq!(json(&told)["params"]["requestId"], of_a);
    assert_eq!(router.abandon(of_a), None);
}

/// 2026-07-28: what belongs to a subscription names the request that opened it.
#[test]
fn messages_of_a_subscription_go_to_its_stream() {
    let mut router = Router::default();
    let listen = json!({ "id": "L", "method": "subscriptions/listen", "params": {} });
    let (call, _) = forwarded(&mut router, None, &listen);
    let meta = |id: Value| json!({ "io.modelcontextprotocol/subscriptionId": id });
    let event =
        json!({ "method": "notifications/tools/list_changed", "params": { "_meta": meta(call.into()) } });
    let deliveries = from_server(&mut router, &event);
    let [Delivery::Event(to, event)] = &deliveries[..] else { panic!("{deliveries:?}") };
    assert_eq!((*to, &json(event)["params"]["_meta"]), (call, &meta("L".into())));
    let deliveries =
        answered(&mut router, call, json!({ "resultType": "complete", "_meta": meta(call.into()) }));
    let [Delivery::Answer(_, last)] = &deliveries[..] else { panic!("{deliveries:?}") };
    assert_eq!((&json(last)["id"], &json(last)["result"]["_meta"]), (&json!("L"), &meta("L".into())));
    assert!(
        from_server(&mut router, &json!({ "method": "x", "params": { "_meta": meta(call.into()) } }))
            .is_empty()
    );
}

#[test]
fn a_shared_server_asks_no_client() {
    let mut router = two_clients();
    let deliveries =
        from_server(&mut router, &json!({ "id": 0, "method": "sampling/createMessage", "params": {} }));
    let [Delivery::Server(refusal)] = &deliveries[..] else { panic!("{deliveries:?}") };
    assert_eq!(
        (&json(refusal)["id"], &json(refusal)["error"]["code"]),
        (&json!(0), &json!(METHOD_NOT_FOUND))
    );
    let deliveries = from_server(&mut router, &json!({ "id": "p", "method": "ping" }));
    assert!(matches!(&deliveries[..], [Delivery::Server(pong)] if json(pong)["result"] == json!({})));
    let batch = json!([{ "method": "notifications/tools/list_changed" }, { "id": 1, "method": "ping" }]);
    assert_eq!(from_server(&mut router, &batch).len(), 3);
    for stray in ["Listening on stdin", "{", "[1]", "{\"level\":\"info\"}", "7"] {
        assert_eq!(router.on_line(stray.as_bytes()), None, "{stray}");
    }
}

#[test]
fn sessions_are_bounded() {
    let mut router = Router::default();
    (0..=MOST_SESSIONS).for_each(|number| router.open_session(number.to_string()));
    assert!(!router.knows_session("0") && router.knows_session("1"));
    assert_eq!(router.sessions.len(), MOST_SESSIONS);
}

/// A client's request: which client, which id and token, and when it is answered.
#[derive(Clone, Debug)]
struct Asked {
    client: usize,
    id: u8,
    token: u8,
    is_text: bool,
    at: prop::sample::Index,
}

fn asked() -> impl Strategy<Value = Asked> {
    (0usize..4, 0u8..3, 0u8..3, any::<bool>(), any::<prop::sample::Index>())
        .prop_map(|(client, id, token, is_text, at)| Asked { client, id, token, is_text, at })
}

fn shown(number: u8, is_text: bool) -> Value {
    if is_text { number.to_string().into() } else { number.into() }
}

proptest! {
    /// However ids and tokens of clients collide, and in whichever order a server answers, each client gets what is its
    /// own, with the id and the token that it wrote.
    #[test]
    fn no_client_gets_what_is_anothers(all in proptest::collection::vec(asked(), 1..30)) {
        let mut router = Router::default();
        (0..4).for_each(|client| router.open_session(client.to_string()));
        let mut open: Vec<(CallId, Value, Asked)> = vec![];
        for asked in all {
            let session = asked.client.to_string();
            let (id, token) = (shown(asked.id, asked.is_text), shown(asked.token, !asked.is_text));
            let params = json!({ "_meta": { "progressToken": token }, "arguments": { "secret": asked.client } });
            let message = json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params });
            let (call, line) = forwarded(&mut router, Some(&session), &message);
            prop_assert_eq!(&line["params"]["arguments"]["secret"], asked.client);
            let at = asked.at.index(open.len() + 1);
            open.insert(at, (call, line, asked));
            if open.len() > 5 {
                let (call, line, asked) = open.remove(0);
                check(&mut router, call, &line, &asked)?;
            }
        }
        for (call, line, asked) in open {
            check(&mut router, call, &line, &asked)?;
        }
        prop_assert!(router.calls.is_empty());
    }

    #[test]
    fn any_line_of_a_server_passes(line in "[\\[\\]{}\"\\\\:, idmetho1nresulparms]{0,60}") {
        let _ = two_clients().on_line(line.as_bytes());
    }
}

/// The server reports progress and answers, with what it was sent.
fn check(router: &mut Router, call: CallId, line: &Value, asked: &Asked) -> Result<(), TestCaseError> {
    let progress =
        json!({ "progressToken": line["params"]["_meta"]["progressToken"], "secret": asked.client });
    let deliveries = from_server(router, &json!({ "method": "notifications/progress", "params": progress }));
    let [Delivery::Event(to, event)] = &deliveries[..] else { panic!("{deliveries:?}") };
    prop_assert_eq!(*to, call);
    prop_assert_eq!(&json(event)["params"]["progressToken"], &shown(asked.token, !asked.is_text));
    let deliveries = answered(router, call, line["params"]["arguments"].clone());
    let [Delivery::Answer(to, answer)] = &deliveries[..] else { panic!("{deliveries:?}") };
    prop_assert_eq!(*to, call);
    prop_assert_eq!(&json(answer)["id"], &shown(asked.id, asked.is_text));
    prop_assert_eq!(&json(answer)["result"]["secret"], asked.client);
    Ok(())
}

/// A server that is not shared, with its session.
fn own() -> Router {
    let mut router = Router::new(Sharing::Own);
    router.open_session("a".to_owned());
    router
}

/// R-STDIO-2: sampling, elicitation and roots are between the server and its one client.
#[test]
fn a_server_that_is_not_shared_may_ask_its_client() {
    let mut router = own();
    let asked = json!({ "jsonrpc": "2.0", "id": 0, "method": "roots/list" });
    let deliveries = from_server(&mut router, &asked);
    let [Delivery::Asked(id, message)] = &deliveries[..] else { panic!("{deliveries:?}") };
    assert_eq!((id, json(message)), (&json!(0), asked));
    for told in ["notifications/cancelled", "notifications/message", "notifications/resources/updated"] {
        let told =
            json!({ "jsonrpc": "2.0", "method": told, "params": { "requestId": 0, "level": "debug" } });
        let deliveries = from_server(&mut router, &told);
        let [Delivery::Client(message)] = &deliveries[..] else { panic!("{deliveries:?}") };
        assert_eq!(json(message), told);
    }
    let ping = from_server(&mut router, &json!({ "jsonrpc": "2.0", "id": 1, "method": "ping" }));
    assert!(matches!(&ping[..], [Delivery::Server(_)]), "mcpd answers: {ping:?}");
    for told in ["notifications/initialized", "notifications/roots/list_changed", "notifications/progress"] {
        let told = json!({ "jsonrpc": "2.0", "method": told });
        let deliveries = router.notification(Some("a"), &parts(&told.to_string()));
        let [Delivery::Server(message)] = &deliveries[..] else { panic!("{deliveries:?}") };
        assert_eq!(json(message), told);
    }
}

/// The client of a server that is not shared sets the level and subscribes at the server itself.
#[test]
fn nothing_is_counted_for_one_client() {
    let mut router = own();
    for method in ["logging/setLevel", "resources/subscribe", "resources/subscribe"] {
        let params = json!({ "level": "error", "uri": "x:1" });
        let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let (call, line) = forwarded(&mut router, Some("a"), &request);
        assert_eq!((&line["method"], &line["params"]), (&json!(method), &params));
        assert_eq!(answered(&mut router, call, json!({})).len(), 1);
    }
    assert!(router.close_session("a").is_empty(), "the process ends with its session");
}

#[test]
fn progress_goes_to_its_call_whether_or_not_the_server_is_shared() {
    let mut router = own();
    let meta = json!({ "_meta": { "progressToken": "t" } });
    let request = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": meta });
    let (call, line) = forwarded(&mut router, Some("a"), &request);
    let token = line["params"]["_meta"]["progressToken"].clone();
    let progress =
        json!({ "method": "notifications/progress", "params": { "progressToken": token, "progress": 1 } });
    let deliveries = from_server(&mut router, &progress);
    let [Delivery::Event(of, message)] = &deliveries[..] else { panic!("{deliveries:?}") };
    assert_eq!((*of, &json(message)["params"]["progressToken"]), (call, &json!("t")));
}
