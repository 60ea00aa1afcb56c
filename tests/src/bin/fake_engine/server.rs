//! The engine: one thread for each client, and one for each container.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use serde_json::{Value, json};

use crate::protocol::{answer, receive, send};
use crate::run_options::RunOptions;
use crate::store::{Container, Store};

/// Serves for ever.
pub fn serve(directory: PathBuf) -> io::Result<ExitCode> {
    let listener = UnixListener::bind(directory.join("socket"))?;
    let store = Arc::new(Store::new(directory));
    for stream in listener.incoming() {
        let (store, stream) = (store.clone(), stream?);
        thread::spawn(move || handle(&store, stream));
    }
    Ok(ExitCode::SUCCESS)
}

fn handle(store: &Arc<Store>, stream: UnixStream) {
    let Ok(request) = receive(&stream) else { return };
    if store.mode() == "silent" {
        // Until the client goes away.
        let _ = receive(&stream);
        return;
    }
    let words = request["args"].as_array().into_iter().flatten();
    let args: Vec<_> = words.filter_map(|word| word.as_str().map(str::to_owned)).collect();
    let reply = match args.split_first() {
        Some((command, rest)) if command == "run" => return run(store, stream, rest),
        Some((command, rest)) => other(store, command, rest),
        None => answer(125, "no command\n"),
    };
    // The client may have gone away.
    let _ = send(&stream, &reply);
}

fn run(store: &Arc<Store>, stream: UnixStream, args: &[String]) {
    let Some(options) = RunOptions::parse(args) else { return };
    match start(&options, &stream) {
        Ok((id, child)) => {
            let pid = i32::try_from(child.id()).ok();
            let name = options.name.unwrap_or_else(|| format!("fake_{}", &id[..8]));
            let container =
                Container { name, labels: options.labels, auto_remove: options.auto_remove, pid, code: None };
            store.add(&id, container);
            reap(store.clone(), id.clone(), child);
            let _ = send(&stream, &json!({ "id": id }));
        }
        Err(error) => drop(send(&stream, &answer(127, format!("{error}\n")))),
    }
}

/// Its output can't come before the answer, because a server speaks only when it was spoken to.
fn start(options: &RunOptions, stream: &UnixStream) -> io::Result<(String, Child)> {
    let pipe = || stream.try_clone().map(OwnedFd::from).map(Stdio::from);
    let id = new_id();
    let mut command = Command::new(&options.command[0]);
    command.args(&options.command[1..]).stdout(pipe()?).stderr(Stdio::null());
    command.stdin(if options.interactive { pipe()? } else { Stdio::null() });
    Ok((id, command.spawn()?))
}

fn new_id() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let nanos = jiff::Timestamp::now().as_nanosecond();
    format!("{:08x}{nanos:056x}", COUNT.fetch_add(1, Ordering::Relaxed))
}

fn reap(store: Arc<Store>, id: String, mut child: Child) {
    thread::spawn(move || {
        // It stays a zombie, so that its pid can't be reused, until the store no longer names it.
        let pid = Pid::from_child(&child);
        let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
        store.forget_pid(&id);
        let status = child.wait().expect("a child can be waited for");
        let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
        store.exited(&id, u8::try_from(code).unwrap_or(255));
        let is_removed = store.lock().get(&id).is_some_and(|container| container.auto_remove);
        if is_removed {
            // As engines do, some time after the exit.
            thread::sleep(Duration::from_millis(50));
            store.remove(&id);
        }
    });
}

fn other(store: &Store, command: &str, args: &[String]) -> Value {
    match command {
        "ps" => answer(0, list(store, args)),
        "stop" => {
            let seconds = args.get(1).and_then(|text| text.parse().ok()).unwrap_or(10);
            for_each(store, &args[2..], |id| stop(store, id, Duration::from_secs(seconds)))
        }
        "rm" => for_each(store, &args[1..], |id| {
            stop(store, id, Duration::ZERO);
            store.remove(id);
        }),
        "kill" if args.first().is_some_and(|first| first == "--signal") => {
            for_each(store, &args[2..], |id| {
                store.signal(id, Signal::SIGTERM);
            })
        }
        "kill" => for_each(store, args, |id| stop(store, id, Duration::ZERO)),
        "wait" => answer(store.wait(&args[0], None).unwrap_or_default(), ""),
        _ => answer(125, format!("unknown command {command}\n")),
    }
}

fn for_each(store: &Store, ids: &[String], end: impl Fn(&str)) -> Value {
    if store.mode() == "deaf" {
        return answer(0, "");
    }
    let unknown = ids.iter().find(|id| !store.lock().contains_key(*id));
    ids.iter().for_each(|id| end(id));
    unknown.map_or_else(|| answer(0, ""), |id| answer(1, format!("no such container: {id}\n")))
}

fn stop(store: &Store, id: &str, limit: Duration) {
    store.signal(id, Signal::SIGTERM);
    if store.wait(id, Some(limit)).is_none() {
        store.signal(id, Signal::SIGKILL);
        store.wait(id, None);
    }
}

fn list(store: &Store, args: &[String]) -> String {
    let wanted: Vec<_> = args.iter().filter_map(|arg| arg.strip_prefix("label=")).collect();
    let format = args.last().map(String::as_str).unwrap_or_default();
    let containers = store.lock();
    let matching = containers
        .iter()
        .filter(|(_, container)| wanted.iter().all(|label| container.labels.iter().any(|it| it == label)));
    let line = |(id, container): (&String, &Container)| {
        let state = if container.code.is_some() { "exited" } else { "running" };
        let line = format.replace("{{.ID}}", id).replace("{{.Names}}", &container.name);
        line.replace("{{.State}}", state) + "\n"
    };
    matching.map(line).collect()
}
