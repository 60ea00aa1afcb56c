//! What mcpd is compared with: the server's own HTTP, and bridges in front of its pipe.

use std::process::{Child, Command, Stdio};

use mcpd_common::ids::{Pid, Port};
use mcpd_common::os::process;
use mcpd_tests::ports::{self, Claim};
use mcpd_tests::{BOUND, http, until};
use nix::sys::signal::{Signal, kill};

use crate::print_progress;

pub struct Peer {
    pub name: &'static str,
    child: Child,
    claim: Claim,
}

impl Peer {
    pub const OWN: &'static str = "its own HTTP";

    /// The server's own HTTP first, then the bridges that are in `PATH`.
    pub fn start_all(server: &str) -> Vec<Self> {
        let mut peers =
            vec![Self::start(Self::OWN, |port| vec![server.to_owned(), port]).expect("the server starts")];
        let mcp_proxy = |port: String| words(&["mcp-proxy", "--port", &port, server]);
        let supergateway = |port: String| {
            let fixed =
                ["supergateway", "--outputTransport", "streamableHttp", "--stateful", "--logLevel", "none"];
            [words(&fixed), words(&["--port", &port, "--stdio", server])].concat()
        };
        peers.extend(Self::start("mcp-proxy", mcp_proxy));
        peers.extend(Self::start("supergateway", supergateway));
        peers
    }

    fn start(name: &'static str, command: impl Fn(String) -> Vec<String>) -> Option<Self> {
        let claim = ports::claim();
        let words = command(claim.port().to_string());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let Ok(child) = command.spawn() else {
            print_progress(&format!("{name} is not in PATH: not compared"));
            return None;
        };
        until("a peer to listen", BOUND, || http::connect(claim.port()).ok());
        Some(Self { name, child, claim })
    }

    pub fn port(&self) -> Port {
        self.claim.port()
    }

    pub fn pid(&self) -> Pid {
        Pid::new(self.child.id().cast_signed()).expect("a child's pid is positive")
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

impl Drop for Peer {
    /// Bridges leave their servers behind: the whole tree is killed.
    fn drop(&mut self) {
        let below = process::best_effort::tree(self.pid());
        let _ = self.child.kill();
        let _ = self.child.wait();
        for found in below {
            let _ = kill(nix::unistd::Pid::from_raw(found.pid.get()), Signal::SIGKILL);
        }
    }
}
