//! Tests with real children. None of them waits for "any child", so that they can share one process.

#![expect(unsafe_code, reason = "state that a child must not inherit has to be set up first")]

use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::libc;

use super::*;
use crate::ids::{Mark, RunTag, Slot};
use crate::os::process;
use crate::os::this_process::OpenFileLimit;
use crate::outcome::ExitStatus;

const MARK: Mark = Mark { run: RunTag(0x3f9a_2c77), slot: Slot(5) };
const TIMEOUT: Duration = Duration::from_secs(10);

fn plan(script: &str) -> SpawnPlan {
    SpawnPlan {
        program: "sh".into(),
        args: vec!["-c".into(), script.into()],
        directory: "/".into(),
        env: vec![("PATH".into(), std::env::var_os("PATH").unwrap_or_default())],
        input: None,
        output: None,
        errors: None,
        mark: MARK,
        open_files: OpenFileLimit { soft: 256, hard: 512 },
        cgroup: None,
    }
}

fn until<T>(what: &str, mut poll: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        if let Some(value) = poll() {
            return value;
        }
        assert!(Instant::now() < deadline, "{what}: not within {TIMEOUT:?}");
        std::thread::yield_now();
    }
}

/// The pid of a child whose program runs.
fn start(plan: SpawnPlan) -> Pid {
    let mut spawned = spawn(plan).expect("a child");
    assert_eq!(spawned.poll_exec(TIMEOUT), ExecState::Done);
    spawned.pid()
}

fn exit_of(pid: Pid) -> ExitStatus {
    until("exit of the child", || reap(pid))
}

/// Output and exit status of a plan.
fn output_of(mut plan: SpawnPlan) -> (String, ExitStatus) {
    let (mut reader, writer) = io::pipe().expect("a pipe");
    plan.output = Some(writer.into());
    let pid = start(plan);
    let mut text = String::new();
    reader.read_to_string(&mut text).expect("text");
    (text, exit_of(pid))
}

/// R-SUP-1: and its own group and directory.
#[test]
fn a_child_leads_its_own_session_and_has_only_its_own_environment() {
    let mut plan = plan("exec sleep 60");
    plan.directory = "/proc".into();
    let pid = start(plan);
    let child = process::best_effort::read(pid).expect("it runs");
    assert_eq!((child.session, child.pgid, child.ppid), (pid.get(), pid.get(), Pid::current().get()));
    assert_eq!(signal_group(Pgid::led_by(pid), Signal::Kill), Delivery::Sent);
    assert_eq!(exit_of(pid), ExitStatus::Signal(9));

    let mut plan = self::plan("pwd; env | grep -v '^PATH=\\|^PWD=\\|^SHLVL=\\|^_=\\|^OLDPWD='");
    plan.directory = "/proc".into();
    plan.env.push(("ONLY".into(), "this".into()));
    let (text, _) = output_of(plan);
    let lines: Vec<_> = text.lines().collect();
    assert!(lines.starts_with(&["/proc"]) && lines.contains(&"ONLY=this"), "{text}");
    assert!(lines.contains(&format!("{MARK_VARIABLE}={:x}", MARK.to_limit()).as_str()), "{text}");
    assert_eq!(lines.len(), 3, "{text}");
}

/// R-SUP-1: ignored and blocked signals, descriptors and a raised limit are not inherited.
#[cfg(target_os = "linux")]
#[test]
fn signals_descriptors_and_limits_are_not_inherited() {
    // SAFETY: this process does not use SIGUSR1; a descriptor of this process is duplicated.
    let stray = unsafe {
        libc::signal(libc::SIGUSR1, libc::SIG_IGN);
        let mut blocked = std::mem::zeroed::<libc::sigset_t>();
        libc::sigaddset(&mut blocked, libc::SIGUSR2);
        libc::sigaddset(&mut blocked, 40);
        libc::pthread_sigmask(libc::SIG_BLOCK, &blocked, std::ptr::null_mut());
        // Unlike descriptors of std, the one of dup(2) is inherited by children.
        OwnedFd::from_raw_fd(libc::dup(2))
    };
    let (text, _) = output_of(plan("grep '^Sig[BI]' /proc/self/status; ulimit -n; ulimit -Hn"));
    let none = "0000000000000000";
    assert_eq!(text, format!("SigBlk:\t{none}\nSigIgn:\t{none}\n256\n512\n"));

    let mut plan = plan("");
    plan.program = "sleep".into();
    plan.args = vec!["60".into()];
    let pid = start(plan);
    let listing = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("a child of this test");
    let mut open: Vec<_> = listing.map(|entry| entry.expect("listed").file_name()).collect();
    open.sort();
    assert_eq!(open, ["0", "1", "2"], "not {}", stray.as_raw_fd());
    assert_eq!(signal_child(pid, Signal::Kill), Delivery::Sent);
    assert_eq!(exit_of(pid), ExitStatus::Signal(9));
}

/// R-CONT-3: the mark is in the limits and survives a new session and an emptied environment.
#[cfg(target_os = "linux")]
#[test]
fn the_mark_survives_setsid_and_an_empty_environment() {
    if crate::os::backend() == crate::os::Backend::Portable {
        return; // Its mark is in the environment, which is emptied here.
    }
    let mark = Mark { run: RunTag(std::process::id()), slot: Slot(6) };
    let pid = start(SpawnPlan { mark, ..plan("exec env -i setsid --fork sleep 60") });
    assert_eq!(exit_of(pid), ExitStatus::Code(0));
    let detached = until("a detached process with the mark", || {
        let marked =
            |p: &process::Process| process::best_effort::mark(p.pid) == Some(mark) && p.name == "sleep";
        process::best_effort::all().into_iter().find(|p| marked(p) && p.session == p.pid.get())
    });
    let handle = Handle::open(&detached).expect("readable").expect("it runs");
    assert!(handle.is_alive());
    assert!(!handle.wait(Duration::from_millis(1)));
    assert_eq!(handle.signal(Signal::Kill), Delivery::Sent);
    assert!(handle.wait(TIMEOUT));
    assert!(!handle.is_alive());
}

#[test]
fn an_exit_status_can_be_read_before_reaping() {
    let pid = start(plan("exit 7"));
    assert_eq!(until("exit", || peek_exit(pid)), ExitStatus::Code(7));
    assert_eq!(peek_exit(pid), Some(ExitStatus::Code(7)), "still unreaped");
    assert!(has_any_ended());
    assert!(process::best_effort::read(pid).is_some_and(|p| process::is_zombie(&p)));
    assert_eq!(reap(pid), Some(ExitStatus::Code(7)));
    assert_eq!((reap(pid), peek_exit(pid)), (None, None));
    assert_eq!(signal_group(Pgid::led_by(pid), Signal::Term), Delivery::Gone);
}

/// R-CONT-2: also children with another exit signal than `SIGCHLD`, or with none, are waited for.
#[cfg(target_os = "linux")]
#[test]
fn a_child_without_an_exit_signal_is_waited_for() {
    let nothing = 0usize;
    // SAFETY: without flags this is fork(2) with no exit signal; the child only exits.
    let pid = unsafe {
        match libc::syscall(libc::SYS_clone, nothing, nothing, nothing, nothing, nothing) {
            0 => libc::_exit(3),
            pid => pid,
        }
    };
    let pid = i32::try_from(pid).ok().and_then(Pid::new).expect("a child");
    assert_eq!(process::best_effort::read(pid).map(|child| child.exit_signal), Some(0));
    assert_eq!(until("exit", || peek_exit(pid)), ExitStatus::Code(3));
    assert_eq!(exit_of(pid), ExitStatus::Code(3));
}

/// Also a real-time signal, which has no name.
#[cfg(target_os = "linux")]
#[test]
fn a_killing_signal_is_in_the_exit_status() {
    for number in [2, 15, 9, 40] {
        let pid = start(plan(&format!("kill -{number} $$; exec sleep 60")));
        assert_eq!(exit_of(pid), ExitStatus::Signal(number));
    }
}

#[test]
fn an_error_names_the_program_or_directory() {
    let error = |change: fn(&mut SpawnPlan)| {
        let mut plan = plan("true");
        change(&mut plan);
        let mut spawned = spawn(plan).expect("a child");
        let state = spawned.poll_exec(TIMEOUT);
        assert_eq!(exit_of(spawned.pid()), ExitStatus::Code(127), "it is left to be reaped");
        let ExecState::Failed(error) = state else { panic!("{state:?}") };
        error
    };
    assert_eq!(error(|p| p.directory = "/no/such".into()), "directory /no/such: does not exist");
    assert_eq!(error(|p| p.directory = "/dev/null".into()), "directory /dev/null: is not a directory");
    assert_eq!(
        error(|p| p.program = "no-such-1".into()),
        "no-such-1: no such program (or no interpreter for it)"
    );
    assert!(error(|p| p.program = "/dev/null".into()).starts_with("/dev/null: Permission denied"));
}

/// Also if the descriptor of its cgroup has a number that the child uses for something else.
#[test]
fn a_child_enters_its_cgroup() {
    let (reader, writer) = io::pipe().expect("a pipe");
    // In a process of its own, as nextest starts it, the pipe has 3 and 4: its end to write moves to 3.
    let reader = rustix::io::fcntl_dupfd_cloexec(&reader, 10).expect("a descriptor");
    let entrance = OwnedFd::from(writer).try_clone().expect("a descriptor");
    let pid = start(SpawnPlan { cgroup: Some(entrance), ..plan("exec sleep 60") });
    let mut written = String::new();
    std::fs::File::from(reader).read_to_string(&mut written).expect("text");
    assert_eq!(written, "0", "what cgroup.procs takes for the writing process");
    assert_eq!(signal_child(pid, Signal::Kill), Delivery::Sent);
    assert_eq!(exit_of(pid), ExitStatus::Signal(9));
}

/// A program that can't be opened for now, as on a dead network mount: a lease on it (fcntl(2)) delays every exec.
#[cfg(target_os = "linux")]
struct HangingProgram {
    directory: tempfile::TempDir,
    file: std::fs::File,
}

#[cfg(target_os = "linux")]
impl HangingProgram {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("program");
        std::fs::copy("/bin/sleep", &path).expect("copied");
        let file = std::fs::File::open(&path).expect("readable");
        // SAFETY: an ignored signal and a plain number. The kernel sends SIGIO when another process opens the file.
        unsafe { libc::signal(libc::SIGIO, libc::SIG_IGN) };
        let hanging = Self { directory, file };
        hanging.lease(libc::F_WRLCK);
        hanging
    }

    fn lease(&self, kind: libc::c_int) {
        // SAFETY: a plain number.
        let result = unsafe { libc::fcntl(self.file.as_raw_fd(), libc::F_SETLEASE, kind) };
        assert_eq!(result, 0, "{}", io::Error::last_os_error());
    }

    fn plan(&self) -> SpawnPlan {
        let program = self.directory.path().join("program");
        SpawnPlan { program, args: vec!["60".into()], ..plan("") }
    }
}

/// The caller is not blocked, and the child is its own meanwhile: it leads its group, and holds no descriptor.
#[cfg(target_os = "linux")]
#[test]
fn an_exec_that_hangs_blocks_only_the_child() {
    let program = HangingProgram::new();
    let mut spawned = spawn(program.plan()).expect("a child");
    let pid = spawned.pid();
    assert_eq!(spawned.poll_exec(Duration::from_millis(10)), ExecState::Pending);
    let child = process::best_effort::read(pid).expect("it exists");
    assert_eq!((child.session, child.pgid), (pid.get(), pid.get()));
    let listing = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("a child of this test");
    assert_eq!(listing.count(), 4, "0 to 2 and the report");
    program.lease(libc::F_UNLCK);
    assert_eq!(spawned.poll_exec(TIMEOUT), ExecState::Done);
    let name = process::best_effort::read(pid).expect("it runs").name;
    assert_eq!(name, "program");
    assert_eq!(signal_group(Pgid::led_by(pid), Signal::Kill), Delivery::Sent);
    assert_eq!(exit_of(pid), ExitStatus::Signal(9));
}

#[cfg(target_os = "linux")]
#[test]
fn a_child_that_hangs_before_exec_can_be_killed() {
    let program = HangingProgram::new();
    let mut spawned = spawn(program.plan()).expect("a child");
    assert_eq!(spawned.poll_exec(Duration::ZERO), ExecState::Pending);
    assert_eq!(signal_group(Pgid::led_by(spawned.pid()), Signal::Term), Delivery::Sent);
    assert_eq!(exit_of(spawned.pid()), ExitStatus::Signal(15));
    assert_eq!(spawned.poll_exec(TIMEOUT), ExecState::Done, "no error: its exit status says what happened");
}

/// A script without `#!` is run by the shell, as execvp(3) does it.
#[test]
fn the_program_is_looked_up_in_the_path_of_the_child() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().expect("a temporary directory");
    let script = directory.path().join("only-here");
    std::fs::write(&script, "echo \"$1\"\n").expect("written");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o700)).expect("changed");
    for (program, path) in [("only-here", directory.path()), ("./only-here", "/usr/bin".as_ref())] {
        let plan = SpawnPlan {
            program: program.into(),
            args: vec!["hello".into()],
            directory: directory.path().into(),
            env: vec![("PATH".into(), path.into())],
            ..plan("")
        };
        assert_eq!(output_of(plan), ("hello\n".to_owned(), ExitStatus::Code(0)));
    }
}

#[test]
fn a_text_with_a_nul_byte_is_refused() {
    let error = spawn(plan("a\0b")).expect_err("not a C string");
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}

/// R-CONT-5: a leader is killed when the thread that started it exits.
#[cfg(target_os = "linux")]
#[test]
fn a_child_dies_with_the_thread_that_started_it() {
    let (stop, wait) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        let pid = start(plan("exec sleep 60"));
        let running = peek_exit(pid).is_none();
        let _ = wait.recv();
        (pid, running)
    });
    drop(stop);
    let (pid, running) = thread.join().expect("no panic");
    assert!(running);
    assert_eq!(exit_of(pid), ExitStatus::Signal(9));
}

/// R-CONT-1: a reused pid is not signalled.
#[test]
fn a_handle_refers_to_the_process_that_was_read() {
    let pid = start(plan("exec sleep 60"));
    let read = process::best_effort::read(pid).expect("it runs");
    let mut other = read.clone();
    other.start.0 += 1;
    assert!(Handle::open(&other).expect("readable").is_none());
    let handle = Handle::open(&read).expect("readable").expect("it runs");
    assert_eq!(signal_child(pid, Signal::Term), Delivery::Sent);
    assert!(handle.wait(TIMEOUT), "a zombie has exited");
    assert_eq!(exit_of(pid), ExitStatus::Signal(15));
    assert_eq!(handle.signal(Signal::Kill), Delivery::Gone);
    assert!(Handle::open(&read).expect("readable").is_none());
}

#[test]
fn a_group_is_signalled_as_a_whole() {
    let pid = start(plan("sleep 60 & sleep 60 & wait"));
    let members = until("both run", || {
        let tree = process::best_effort::tree(pid);
        (tree.iter().filter(|p| p.name == "sleep").count() == 2).then_some(tree)
    });
    assert!(members.iter().all(|member| member.pgid == pid.get()));
    let handles: Vec<_> =
        members.iter().filter_map(|member| Handle::open(member).expect("readable")).collect();
    assert_eq!(signal_group(Pgid::led_by(pid), Signal::Kill), Delivery::Sent);
    assert_eq!(exit_of(pid), ExitStatus::Signal(9));
    assert!(handles.iter().all(|handle| handle.wait(TIMEOUT)));
}

#[test]
fn signals_have_their_names() {
    assert_eq!(Signal::Term.to_string(), "SIGTERM");
    assert_eq!(Signal::Hup.number(), libc::SIGHUP);
}
