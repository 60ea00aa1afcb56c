//! Lines of this kernel, unusual ones, and garbage.

use proptest::prelude::*;

use super::*;

/// The `stat` line of a process with this name, as this kernel writes it.
fn line(name: &[u8]) -> Vec<u8> {
    let rest = b" S 1 4711 4710 0 -1 4194560 126 0 0 0 1 2 0 0 20 0 3 0 998877 2654208 223 \
        18446744073709551615 1 1 0 0 0 0 0 0 65538 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0\n";
    [b"4712 (", name, b")", rest.as_slice()].concat()
}

#[test]
fn a_stat_line_is_parsed() {
    let process = stat(&line(b"sleep")).expect("an ordinary line");
    assert_eq!(process.pid, Pid::new(4712).expect("positive"));
    assert_eq!((process.ppid, process.pgid, process.session), (1, 4711, 4710));
    assert_eq!((process.state, process.threads, process.exit_signal), ('S', 3, 17));
    assert_eq!((process.start, process.name.as_str()), (StartTime(998_877), "sleep"));
}

#[test]
fn a_name_may_contain_any_characters() {
    for name in [") Z 1 1 (", "a b", "tmux: server", "((", "x)\n1 (y", ""] {
        let process = stat(&line(name.as_bytes())).expect("still a line");
        assert_eq!(process.ppid, 1, "{name:?}");
        assert_eq!(process.state, 'S', "{name:?}");
    }
    assert!(stat(&line(&[0xff, b')', 0xfe])).is_some());
}

#[test]
fn a_truncated_line_is_rejected() {
    let whole = line(b"sleep");
    assert_eq!(stat(b""), None);
    assert_eq!(stat(&whole[..40]), None);
    assert_eq!(stat(b")("), None);
}

#[test]
fn the_limit_of_file_locks_is_parsed() {
    let text = b"Limit                     Soft Limit           Hard Limit           Units     \n\
        Max open files            1024                 524288               files     \n\
        Max file locks            5571234567           unlimited            locks     \n";
    assert_eq!(file_locks_limit(text), Some(5_571_234_567));
    assert_eq!(file_locks_limit(b"Max file locks            unlimited            unlimited"), None);
    assert_eq!(file_locks_limit(b"Max open files 1 2"), None);
}

#[test]
fn status_fields_are_found_by_their_whole_name() {
    let text = b"Name:\tTracerPid\nTracerPidX:\t1\nTracerPid:\t0\nUid:\t1000\t1001\t1000\t1000\n";
    assert_eq!(status_field(text, "TracerPid"), Some("0"));
    assert_eq!(status_field(text, "Uid"), Some("1000\t1001\t1000\t1000"));
    assert_eq!(status_field(text, "Gid"), None);
}

#[test]
fn variables_are_found_by_their_whole_name() {
    let block = b"MCPD_MARKED=1\0MCPD_MARK=4d43\0PATH=/bin\0";
    assert_eq!(variable(block, "MCPD_MARK").as_deref(), Some("4d43"));
    assert_eq!(variable(block, "MCPD"), None);
}

#[test]
fn a_command_line_can_not_move_the_cursor() {
    assert_eq!(printable(b"python3\0server.py\0--x=\x1b[2J\0"), "python3 server.py --x= [2J");
}

proptest! {
    #[test]
    fn garbage_causes_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = stat(&bytes);
        let _ = status_field(&bytes, "Uid");
        let _ = file_locks_limit(&bytes);
        let _ = variable(&bytes, "MCPD_MARK");
        prop_assert!(!printable(&bytes).chars().any(char::is_control));
    }

    #[test]
    fn the_name_does_not_affect_the_other_fields(name in proptest::collection::vec(any::<u8>(), 0..16)) {
        let process = stat(&line(&name)).expect("still a line");
        prop_assert_eq!((process.pid.get(), process.pgid), (4712, 4711));
    }

    #[test]
    fn a_damaged_line_causes_no_panic(at in 0usize..200, byte: u8) {
        let mut text = line(b"sleep");
        let at = at % text.len();
        text[at] = byte;
        let _ = stat(&text);
    }
}
