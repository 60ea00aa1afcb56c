//! `mcpctl` without a daemon: exit codes, messages, and no control sequences (R-CLI-1 to 3, R-EXIT-2).

use std::io::Write;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output};
use std::thread;

use tempfile::TempDir;

fn mcpctl(home: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mcpctl"));
    command.env_clear().env("HOME", home).args(args);
    command.output().expect("mcpctl starts")
}

fn home() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn code(home: &Path, args: &str) -> i32 {
    let socket = home.join("no.sock");
    let mut args: Vec<_> = args.split(' ').collect();
    args.extend(["--socket", socket.to_str().expect("plain text")]);
    mcpctl(home, &args).status.code().expect("an exit code")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

#[test]
fn every_command_has_its_exit_code_without_a_daemon() {
    let home = home();
    let expected = [
        ("shutdown", 0),
        ("shutdown --wait --now", 0),
        ("status", 3),
        ("health", 3),
        ("list-zombies", 0),
        ("history", 0),
        ("report", 69),
        ("logs", 69),
        ("logs docs", 64),
        ("restart docs", 69),
        ("verify-ports", 64),
        ("completions bash", 0),
        ("man", 0),
        ("man mcpd", 0),
        ("man no-such-page", 64),
        ("man --dir /dev/null/man", 64),
        ("no-such-command", 64),
        ("verify-ports --port 0", 64),
        ("start", 64),
        ("--help", 0),
        ("--version", 0),
    ];
    for (args, expected) in expected {
        assert_eq!(code(home.path(), args), expected, "mcpctl {args}");
    }
}

/// R-CLI-3.
#[test]
fn a_shutdown_without_a_daemon_succeeds() {
    let home = home();
    let output = mcpctl(home.path(), &["shutdown", "--wait"]);
    assert_eq!(text(&output.stdout), "mcpd is not running, and nothing of it is left\n");
    assert_eq!(output.status.code(), Some(0));
    let json = text(&mcpctl(home.path(), &["shutdown", "--json"]).stdout);
    assert!(
        json.starts_with(r#"{"schema":"mcpd.shutdown-result.v1","state":"not_running","exit_code":0,"#),
        "{json}"
    );
}

/// R-VER-5.
#[test]
fn the_holder_of_a_port_is_found_without_a_daemon() {
    let home = home();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port().to_string();
    let output = mcpctl(home.path(), &["ports", "--port", &port, "--json"]);
    let json = text(&output.stdout);
    assert_eq!(output.status.code(), Some(4), "{json}");
    assert!(json.starts_with(&format!(r#"{{"schema":"mcpd.port.v1","port":{port},"#)), "{json}");
    assert!(json.contains(&format!(r#""pid":{}"#, std::process::id())), "{json}");
}

/// With an invalid `--config`, the default sockets must not be tried: another daemon could be shut down.
#[test]
fn an_invalid_configuration_is_an_error_with_file_and_line() {
    let home = home();
    let file = home.path().join("config.toml");
    std::fs::write(&file, "[workers.a]\nrepo = 7\n").expect("written");
    let output = mcpctl(home.path(), &["shutdown", "--config", file.to_str().expect("plain text")]);
    assert_eq!(output.status.code(), Some(78));
    assert!(text(&output.stderr).contains("config.toml:2"), "{}", text(&output.stderr));
}

/// R-CLI-2: the error names the socket.
#[test]
fn a_socket_of_another_program_is_an_error() {
    let home = home();
    let socket = home.path().join("other.sock");
    let listener = UnixListener::bind(&socket).expect("bound");
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\nthis is not a daemon\r\n");
    });
    let output = mcpctl(home.path(), &["status", "--socket", socket.to_str().expect("plain text")]);
    server.join().expect("no panic");
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(69), "{error}");
    assert!(error.starts_with("mcpctl: can't show the status\n") && error.contains("other.sock"), "{error}");
    assert_eq!(error.lines().count(), 3, "{error}");
}

/// A crashed daemon leaves its socket file.
#[test]
fn a_socket_without_a_listener_means_not_running() {
    let home = home();
    let socket = home.path().join("no.sock");
    drop(UnixListener::bind(&socket).expect("bound"));
    assert!(socket.exists());
    assert_eq!(code(home.path(), "health"), 3);
}

/// R-CLI-1.
#[test]
fn without_a_terminal_there_are_colours_only_on_request() {
    let home = home();
    let plain = mcpctl(home.path(), &["status"]).stdout;
    assert!(!plain.contains(&0x1b));
    let painted = mcpctl(home.path(), &["status", "--color", "always"]).stdout;
    assert!(painted.contains(&0x1b));
}

#[test]
fn manual_pages_are_printed_or_written() {
    let home = home();
    for (page, title) in [("mcpctl", "MCPCTL"), ("mcpd", "MCPD"), ("mcpd.toml", "MCPD.TOML")] {
        let printed = text(&mcpctl(home.path(), &["man", page]).stdout);
        assert!(printed.starts_with(&format!(".TH \"{title}\" ")), "{printed}");
    }
    let dir = home.path().join("share/man");
    let args = ["man", "--dir", dir.to_str().expect("plain text"), "--json"];
    let json = text(&mcpctl(home.path(), &args).stdout);
    assert!(json.starts_with(r#"{"schema":"mcpd.man.v1","files":["#), "{json}");
    for file in ["man1/mcpctl.1", "man5/mcpd.toml.5", "man8/mcpd.8"] {
        assert!(json.contains(file), "{json}");
        assert!(dir.join(file).is_file(), "{file}");
    }
    assert_eq!(mcpctl(home.path(), &args).status.code(), Some(0), "a second time");
}
