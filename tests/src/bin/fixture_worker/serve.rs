//! HTTP, as far as probes and stop requests need it, with a thread for each connection.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::process::parent_id;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, raise};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::exiting::{self, exit, small_thread};
use crate::mcp;
use crate::offspring;
use crate::options::{LIFETIME, OnShutdown, Options, WORKER_LIFETIME};
use crate::reload::{self, Reload};
use crate::zoo;

static CHUNK: [u8; 64 * 1024] = [b'x'; 64 * 1024];
const CHUNKS: usize = 256;
const POLL_INTERVAL: Duration = Duration::from_millis(2);
/// How often a child that may be replaced looks whether it is asked to end.
const RELOAD_INTERVAL: Duration = Duration::from_millis(20);

struct Server {
    options: Options,
    began: Instant,
    connections: AtomicU32,
    stopped_itself: AtomicBool,
    /// It accepts no more connections, and ends without any.
    drains: AtomicBool,
    mcp: mcp::State,
}

/// What to do with the connection after a response.
enum After {
    KeepAlive,
    Close,
    Exit,
    Hang,
}

/// Binds the port and serves until a stop request.
pub fn run(options: Options) -> ExitCode {
    thread::sleep(options.start_delay);
    if let Some(delay) = options.crash_after {
        exiting::crash_after(delay);
    }
    let Some(port) = options.port else {
        thread::sleep(WORKER_LIFETIME);
        return ExitCode::FAILURE;
    };
    let listeners = match options.reloaded {
        Some(Reload::Inherit) => reload::inherited().map(|listener| vec![listener]),
        _ => bind(options.host, port),
    };
    let listeners = match listeners {
        Ok(listeners) => listeners,
        Err(error) => return crate::fail(&format!("can't bind port {port}: {error}")),
    };
    if options.hand_over_socket
        && let Err(error) = listeners.iter().take(1).try_for_each(|it| offspring::hand_over(&options, it))
    {
        return crate::fail(&format!("can't hand over: {error}"));
    }
    if let Err(error) =
        listeners.iter().take(1).try_for_each(|it| zoo::send_listener(&options.zoo, it.as_fd()))
    {
        return crate::fail(&format!("can't send the socket to a child: {error}"));
    }
    let hostiles = options.zoo.clone();
    zoo::serve(&hostiles, move || accept(listeners, Server::new(options), WORKER_LIFETIME))
}

/// Serves on the socket that is its standard input, in its own session, once the worker has exited. Before that it would
/// accept connections instead of the worker.
pub fn heir(mut options: Options, worker: u32) -> ExitCode {
    let _ = nix::unistd::setsid();
    while parent_id() == worker {
        thread::sleep(POLL_INTERVAL);
    }
    options.on_shutdown = OnShutdown::Stay;
    match io::stdin().as_fd().try_clone_to_owned() {
        Ok(socket) => accept(vec![TcpListener::from(socket)], Server::new(options), LIFETIME),
        Err(_) => ExitCode::FAILURE,
    }
}

fn bind(host: Option<IpAddr>, port: u16) -> io::Result<Vec<TcpListener>> {
    if let Some(host) = host {
        let listener = TcpListener::bind(SocketAddr::from((host, port)))?;
        listener.set_nonblocking(true)?;
        return Ok(vec![listener]);
    }
    let mut listeners = vec![TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?];
    // Fails on a machine without IPv6.
    listeners.extend(TcpListener::bind(SocketAddr::from((Ipv6Addr::LOCALHOST, port))).ok());
    listeners.iter().try_for_each(|listener| listener.set_nonblocking(true))?;
    Ok(listeners)
}

fn accept(listeners: Vec<TcpListener>, server: Arc<Server>, lifetime: Duration) -> ExitCode {
    let end = Instant::now() + lifetime;
    loop {
        let mut left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return ExitCode::FAILURE;
        }
        if server.options.reloaded.is_some() {
            left = left.min(RELOAD_INTERVAL);
        }
        if server.drains.load(Ordering::SeqCst) {
            drop(listeners);
            return server.drain();
        }
        let mut polled: Vec<_> = listeners.iter().map(|it| PollFd::new(it, PollFlags::IN)).collect();
        let _ = poll(&mut polled, Timespec::try_from(left).ok().as_ref());
        for (stream, _) in listeners.iter().filter_map(|listener| listener.accept().ok()) {
            let server = server.clone();
            server.connections.fetch_add(1, Ordering::SeqCst);
            small_thread(move || server.serve(stream));
        }
    }
}

impl Server {
    fn new(options: Options) -> Arc<Self> {
        let connections = AtomicU32::new(0);
        let stopped_itself = AtomicBool::new(false);
        let drains = AtomicBool::new(false);
        let mcp = mcp::State::new(options.rude.clone());
        Arc::new(Self { options, began: Instant::now(), connections, stopped_itself, drains, mcp })
    }

    fn serve(&self, stream: TcpStream) {
        let after = self.talk(&stream);
        drop(stream);
        self.connections.fetch_sub(1, Ordering::SeqCst);
        if let Ok(After::Exit) = after {
            self.exit();
        }
        if self.options.stop_self && !self.stopped_itself.swap(true, Ordering::SeqCst) {
            let _ = raise(Signal::SIGSTOP);
        }
    }

    fn drain(&self) -> ExitCode {
        while self.connections.load(Ordering::SeqCst) > 0 {
            thread::sleep(POLL_INTERVAL);
        }
        ExitCode::from(reload::AGAIN)
    }

    fn reload(&self, stream: &TcpStream) -> io::Result<After> {
        reply(stream, 200, "reloading")?;
        match self.options.reloaded {
            Some(Reload::Drain | Reload::Inherit) => self.drains.store(true, Ordering::SeqCst),
            Some(Reload::Exit) => exit(reload::AGAIN),
            None => {}
        }
        Ok(After::Close)
    }

    fn exit(&self) {
        if self.options.on_shutdown == OnShutdown::WaitForClients {
            while self.connections.load(Ordering::SeqCst) > 0 {
                thread::sleep(POLL_INTERVAL);
            }
        }
        thread::sleep(self.options.slow_exit);
        exit(0);
    }

    fn talk(&self, stream: &TcpStream) -> io::Result<After> {
        stream.set_nonblocking(false)?;
        stream.set_nodelay(true)?;
        let mut reader = BufReader::new(stream);
        if self.options.mcp {
            return self.talk_mcp(stream, &mut reader);
        }
        while let Some((request, events)) = read_request(&mut reader)? {
            let after =
                if events { stream_events(stream, &mut reader)? } else { self.respond(&request, stream)? };
            match after {
                After::KeepAlive => {}
                After::Hang => {
                    // Until the client closes the connection.
                    io::copy(&mut reader, &mut io::sink())?;
                    return Ok(After::Close);
                }
                After::Close | After::Exit => return Ok(after),
            }
        }
        Ok(After::Close)
    }

    fn talk_mcp(&self, stream: &TcpStream, reader: &mut BufReader<&TcpStream>) -> io::Result<After> {
        while let Some(request) = mcp::Request::read(reader)? {
            let after = if mcp::handles(&request) {
                match mcp::respond(&self.mcp, &request, stream)? {
                    mcp::Next::KeepAlive => After::KeepAlive,
                    mcp::Next::Close => After::Close,
                }
            } else {
                self.respond(&request.line, stream)?
            };
            if !matches!(after, After::KeepAlive) {
                return Ok(after);
            }
        }
        Ok(After::Close)
    }

    fn respond(&self, request: &str, stream: &TcpStream) -> io::Result<After> {
        match request {
            "GET /health" if self.is_unhealthy() => reply(stream, 503, "unhealthy"),
            "GET /big" if self.options.big_answer => big(stream),
            "GET /reload" => self.reload(stream),
            "POST /shutdown" => self.shutdown(stream),
            _ => reply(stream, 200, "ok"),
        }
    }

    fn is_unhealthy(&self) -> bool {
        self.options.unhealthy_after.is_some_and(|after| self.began.elapsed() >= after)
    }

    fn shutdown(&self, stream: &TcpStream) -> io::Result<After> {
        match self.options.on_shutdown {
            OnShutdown::NoResponse => return Ok(After::Hang),
            OnShutdown::NoRoute => return reply(stream, 404, "no such route"),
            OnShutdown::Status(status) => return reply(stream, status, "as configured"),
            OnShutdown::Stay => return reply(stream, 202, "staying"),
            OnShutdown::Exit | OnShutdown::WaitForClients | OnShutdown::EndParent => {}
        }
        reply(stream, 202, "exiting")?;
        if self.options.on_shutdown == OnShutdown::EndParent {
            exiting::end_parent();
            return Ok(After::Close);
        }
        Ok(After::Exit)
    }
}

/// Reads a request: method and path, and whether it accepts an event stream. The body is skipped.
fn read_request(reader: &mut BufReader<&TcpStream>) -> io::Result<Option<(String, bool)>> {
    let mut first = String::new();
    if reader.read_line(&mut first)? == 0 {
        return Ok(None);
    }
    let request = first.rsplit_once(' ').map_or("", |(request, _)| request).to_owned();
    let mut length = 0;
    let mut events = false;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let line = line.trim_end().to_ascii_lowercase();
        match line.split_once(':') {
            Some(("content-length", value)) => length = value.trim().parse().unwrap_or(0),
            Some(("accept", value)) => events = value.trim() == "text/event-stream",
            Some(_) => {}
            None => break,
        }
    }
    io::copy(&mut reader.by_ref().take(length), &mut io::sink())?;
    Ok(Some((request, events)))
}

fn reply(mut stream: &TcpStream, status: u16, text: &str) -> io::Result<After> {
    let body = format!("{{\"status\":\"{text}\",\"pid\":{}}}\n", std::process::id());
    let head = format!("HTTP/1.1 {status} fixture\r\ncontent-type: application/json\r\n");
    let response = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
    stream.write_all(response.as_bytes())?;
    Ok(After::KeepAlive)
}

/// An event stream with one event, open until the client disconnects.
fn stream_events(mut stream: &TcpStream, reader: &mut BufReader<&TcpStream>) -> io::Result<After> {
    stream.write_all(b"HTTP/1.1 200 fixture\r\ncontent-type: text/event-stream\r\n\r\ndata: hello\n\n")?;
    io::copy(reader, &mut io::sink())?;
    Ok(After::Close)
}

/// Responds with more than the socket buffers hold, so that a client that does not read blocks it.
fn big(mut stream: &TcpStream) -> io::Result<After> {
    let length = CHUNK.len() * CHUNKS;
    write!(stream, "HTTP/1.1 200 fixture\r\ncontent-length: {length}\r\n\r\n")?;
    for _ in 0..CHUNKS {
        stream.write_all(&CHUNK)?;
    }
    Ok(After::KeepAlive)
}
