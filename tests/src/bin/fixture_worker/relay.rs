//! The process of a client, for tests of what becomes of its sessions. At the end of its input it closes its connection
//! and lives on.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::process::ExitCode;
use std::thread;

use crate::options::LIFETIME;

pub fn run(port: u16) -> io::Result<ExitCode> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    let received = stream.try_clone()?;
    let reader = thread::spawn(move || pass_on(received));
    io::copy(&mut io::stdin(), &mut &stream)?;
    stream.shutdown(Shutdown::Both)?;
    drop(stream);
    let _ = reader.join();
    thread::sleep(LIFETIME);
    Ok(ExitCode::SUCCESS)
}

/// Without waiting for the end of a line, as standard output does by itself.
fn pass_on(mut received: TcpStream) -> io::Result<()> {
    let mut buffer = [0; 4096];
    let mut output = io::stdout();
    loop {
        let count = received.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        output.write_all(&buffer[..count])?;
        output.flush()?;
    }
}
