use super::*;
use proptest::prelude::*;

fn parse(head: &str, method: Method) -> Result<ResponseHead, BadResponse> {
    ResponseHead::parse(head.as_bytes(), method)
}

fn accepted(head: &str) -> ResponseHead {
    parse(head, Method::Get).unwrap_or_else(|error| panic!("{head:?}: {error}"))
}

fn written(head: ResponseHead, length: BodyLength, session: Option<&str>, next: Next) -> String {
    String::from_utf8(head.write(length, session, next)).expect("text")
}

#[test]
fn the_length_of_a_body_depends_on_status_and_method() {
    let body = |head: &str, method| parse(head, method).expect("valid").body;
    assert_eq!(body("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n", Method::Get), BodyLength::Known(3));
    assert_eq!(body("HTTP/1.1 200 OK\r\n\r\n", Method::Get), BodyLength::UntilClose);
    assert_eq!(body("HTTP/1.1 204 No\r\n\r\n", Method::Get), BodyLength::None);
    assert_eq!(body("HTTP/1.1 304 No\r\ncontent-length: 3\r\n\r\n", Method::Get), BodyLength::None);
    assert_eq!(body("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n", Method::Head), BodyLength::None);
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    assert_eq!(body(chunked, Method::Get), BodyLength::Chunked);
    assert_eq!(body(chunked, Method::Head), BodyLength::None);
}

#[test]
fn what_is_ambiguous_is_not_forwarded() {
    for head in [
        "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
        "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nmcp-session-id: a\r\nmcp-session-id: b\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\na : b\r\n\r\n",
        "HTTP/1.1 099 OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "ICY 200 OK\r\n\r\n",
    ] {
        assert!(parse(head, Method::Get).is_err(), "{head:?}");
    }
}

#[test]
fn a_response_is_written_for_the_client() {
    let head = || {
        accepted(
            "HTTP/1.1 201 Made it\r\nServer: x\r\nconnection: X-Hop\r\nx-hop: 1\r\nkeep-alive: timeout=5\r\n\
         mcp-session-id: theirs\r\ncontent-length: 3\r\nX-Last: 2\r\n\r\n",
        )
    };
    assert!(head().keeps_alive);
    assert_eq!(
        written(head(), BodyLength::Known(3), Some("mine"), Next::KeepAlive),
        "HTTP/1.1 201 Made it\r\nServer: x\r\nX-Last: 2\r\nmcp-session-id: mine\r\ncontent-length: 3\r\n\
         keep-alive: timeout=75\r\n\r\n"
    );
    assert_eq!(
        written(head(), BodyLength::Chunked, None, Next::Close),
        "HTTP/1.1 201 Made it\r\nServer: x\r\nX-Last: 2\r\nmcp-session-id: theirs\r\n\
         transfer-encoding: chunked\r\nconnection: close\r\n\r\n"
    );
}

/// RFC 9110, section 9.3.2.
#[test]
fn the_response_to_head_keeps_its_length() {
    let head = parse("HTTP/1.1 200 OK\r\ncontent-length: 30\r\n\r\n", Method::Head).expect("valid");
    let text = written(head, BodyLength::None, None, Next::KeepAlive);
    assert!(text.contains("content-length: 30\r\n"), "{text}");
}

#[test]
fn only_some_connections_are_used_again() {
    assert!(accepted("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").keeps_alive);
    assert!(!accepted("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: Close\r\n\r\n").keeps_alive);
    assert!(!accepted("HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n").keeps_alive);
    assert!(!accepted("HTTP/1.1 200 OK\r\n\r\n").keeps_alive);
}

#[test]
fn event_streams_are_recognized() {
    let kind = |value: &str| accepted(&format!("HTTP/1.1 200 OK\r\ncontent-type: {value}\r\n\r\n")).kind;
    assert_eq!(kind("text/event-stream"), Kind::Events);
    assert_eq!(kind("Text/Event-Stream; charset=utf-8"), Kind::Events);
    assert_eq!(kind("application/json"), Kind::Other);
}

proptest! {
    #[test]
    fn any_bytes_are_a_response_or_refused(bytes: Vec<u8>) {
        let _ = ResponseHead::parse(&bytes, Method::Post);
    }
}
