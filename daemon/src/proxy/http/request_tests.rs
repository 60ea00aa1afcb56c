use super::*;
use proptest::prelude::*;

fn worker() -> WorkerName {
    "docs".parse().expect("a name")
}

fn parse(head: &str) -> Result<RequestHead, Refusal> {
    RequestHead::parse(head.as_bytes(), &Allowed::default())
}

fn accepted(head: &str) -> RequestHead {
    parse(head).unwrap_or_else(|refusal| panic!("{head:?}: {refusal}"))
}

fn status(head: &str) -> u16 {
    parse(head).map_or_else(|refusal| refusal.reply(&worker()).status(), |head| panic!("accepted: {head:?}"))
}

fn request(head: &str) -> Request {
    Request { head: accepted(head), body: vec![], messages: None, share: Share::default() }
}

fn forwarded(head: &str) -> String {
    String::from_utf8(request(head).head_for(None, BodyLength::None)).expect("text")
}

/// A request with these lines of fields, beside `Host`.
fn with(fields: &str) -> String {
    format!("POST /mcp HTTP/1.1\r\nhost: localhost\r\n{fields}\r\n")
}

#[test]
fn what_is_ambiguous_is_refused() {
    let cases = [
        ("content-length: 5\r\ncontent-length: 6\r\n", 400),
        ("content-length: 5\r\ncontent-length: 5\r\n", 400),
        ("content-length: 5, 5\r\n", 400),
        ("content-length: +5\r\n", 400),
        ("content-length: 5\r\ntransfer-encoding: chunked\r\n", 400),
        ("transfer-encoding: chunked, identity\r\n", 400),
        ("transfer-encoding: gzip, chunked\r\n", 501),
        ("host: localhost\r\n", 403),
        ("mcp-session-id: a\r\nmcp-session-id: a\r\n", 400),
        ("mcp-session-id: \u{e4}\r\n", 400),
        ("a : b\r\n", 400),
        (" a: b\r\n", 400),
        ("a: b\r\n c\r\n", 400),
        ("a: \0\r\n", 400),
        ("origin: https://evil.example\r\n", 403),
    ];
    for (fields, expected) in cases {
        assert_eq!(status(&with(fields)), expected, "{fields:?}");
    }
    assert_eq!(status(&with(&"a: b\r\n".repeat(MAX_FIELDS))), 431);
    assert_eq!(status("POST / HTTP/1.0\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"), 400);
    assert_eq!(status("CONNECT localhost:1 HTTP/1.1\r\nhost: localhost\r\n\r\n"), 501);
    assert_eq!(status("GET / HTTP/1.1\r\n\r\n"), 403);
}

/// RFC 9112, section 3.2.
#[test]
fn a_target_is_forwarded_in_origin_form() {
    let target = |target: &str| {
        parse(&format!("GET {target} HTTP/1.1\r\nhost: localhost\r\n\r\n"))
            .map(|head| head.target().to_owned())
    };
    for (given, expected) in [
        ("/a?b#", None),
        ("/a?b", Some("/a?b")),
        ("//evil.example/", Some("//evil.example/")),
        ("http://LOCALHOST:80/a?b", Some("/a?b")),
        ("HTTP://127.0.0.1?b", Some("/?b")),
        ("http://evil.example/", None),
        ("http://user@localhost/", None),
        ("ftp://localhost/", None),
        ("localhost", None),
        ("*", None),
        ("/\u{e4}", None),
    ] {
        assert_eq!(target(given).ok().as_deref(), expected, "{given}");
    }
    assert_eq!(accepted("OPTIONS * HTTP/1.1\r\nhost: localhost\r\n\r\n").target(), "*");
}

/// RFC 9110, section 7.6.1; `Host` belongs to the request whatever `Connection` says.
#[test]
fn fields_of_the_connection_are_not_forwarded() {
    let fields = "connection: close, X-Hop, host\r\nx-hop: 1\r\nX-Kept: 2\r\nkeep-alive: 1\r\nupgrade: h2c\r\n\
                  te: trailers\r\naccept-encoding: gzip\r\nexpect: 100-continue\r\ncontent-length: 0\r\n";
    let head = with(fields);
    assert_eq!(forwarded(&head), "POST /mcp HTTP/1.1\r\nhost: localhost\r\nX-Kept: 2\r\n\r\n");
    let head = accepted(&head);
    assert!(!head.keeps_alive && head.expects_continue && head.body == BodyLength::Known(0));
}

#[test]
fn the_length_and_session_are_those_for_the_worker() {
    let mut session =
        Session::begin("mine".to_owned(), "/mcp".to_owned(), "theirs".to_owned(), 7, Value::Null);
    session.epoch = 7;
    let request = request(&with("mcp-session-id: mine\r\nlast-event-id: 7..5\r\ncontent-length: 3\r\n"));
    let text = String::from_utf8(request.head_for(Some(&session), BodyLength::Chunked)).expect("text");
    assert_eq!(
        text,
        "POST /mcp HTTP/1.1\r\nhost: localhost\r\nmcp-session-id: theirs\r\nlast-event-id: 5\r\n\
         transfer-encoding: chunked\r\n\r\n"
    );
    session.epoch = 8;
    let text = String::from_utf8(request.head_for(Some(&session), BodyLength::Known(3))).expect("text");
    assert!(!text.contains("last-event-id") && text.ends_with("content-length: 3\r\n\r\n"), "{text}");
}

#[test]
fn a_client_of_http_1_0_keeps_no_connection() {
    let head = accepted("GET / HTTP/1.0\r\nhost: localhost\r\nconnection: keep-alive\r\n\r\n");
    assert!(head.is_http_1_0 && !head.keeps_alive);
}

#[test]
fn secrets_are_not_shown() {
    let head = accepted(&with("authorization: Bearer secret\r\nmcp-session-id: secret\r\n"));
    assert!(!format!("{head:?}").contains("secret"));
}

proptest! {
    #[test]
    fn any_bytes_are_a_request_or_refused(bytes: Vec<u8>) {
        let _ = RequestHead::parse(&bytes, &Allowed::default());
    }
}

/// R-CLIENT-13.
#[test]
fn a_refusal_names_the_line_to_write() {
    let text = |head: &str| {
        let refusal = parse(head).expect_err("it is foreign");
        let reply = refusal.reply(&worker());
        let body: Value = serde_json::from_slice(reply.body()).expect("JSON-RPC");
        assert_eq!((reply.status(), &body["jsonrpc"], &body["id"]), (403, &"2.0".into(), &Value::Null));
        body["error"]["message"].as_str().expect("a message").to_owned()
    };
    let origin = text(&with("origin: https://app.example\r\n"));
    assert!(origin.contains(r#"allowed_origins = ["https://app.example"] under [workers.docs]"#), "{origin}");
    let host = text("GET /mcp HTTP/1.1\r\nhost: dev.box:8081\r\n\r\n");
    assert!(host.contains(r#"allowed_hosts = ["dev.box"] under [workers.docs]"#), "{host}");
    let none = text("GET /mcp HTTP/1.1\r\n\r\n");
    assert!(!none.contains("allowed_hosts") && none.contains("must name localhost"), "{none}");
}
