//! nginx in front of the same server, with the best configuration for this load.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mcpd_common::ids::{Pid, Port};
use mcpd_common::os::process;
use mcpd_tests::Signal;
use mcpd_tests::ports::{self, Claim};
use nix::sys::signal::kill;
use tempfile::TempDir;

use crate::alone;

/// Limit of its exit on `SIGTERM`.
const EXIT_LIMIT: Duration = Duration::from_secs(5);

/// A running nginx: one master, one worker process.
pub struct Nginx {
    child: Child,
    claim: Claim,
    _directory: TempDir,
}

impl Nginx {
    /// Whether nginx is installed.
    pub fn is_installed() -> bool {
        Command::new("nginx").arg("-v").stderr(Stdio::null()).status().is_ok()
    }

    /// Starts nginx in front of the server on this port, and waits until it forwards.
    pub fn start(server: Port) -> Self {
        let claim = ports::claim();
        let directory = tempfile::tempdir().expect("a temporary directory");
        let file = directory.path().join("nginx.conf");
        fs::write(&file, configuration(claim.port(), server)).expect("a file can be written");
        let child = Command::new("nginx")
            .arg("-p")
            .arg(directory.path())
            .arg("-c")
            .arg(&file)
            .args(["-e", "stderr"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("nginx can be started");
        let nginx = Self { child, claim, _directory: directory };
        alone::wait_healthy(nginx.port());
        nginx
    }

    /// The port for clients.
    pub fn port(&self) -> Port {
        self.claim.port()
    }

    /// Its worker process.
    pub fn worker(&self) -> Pid {
        let mut below = process::best_effort::tree(self.pid()).into_iter().map(|found| found.pid);
        below.find(|pid| *pid != self.pid()).expect("nginx has a worker process")
    }

    fn pid(&self) -> Pid {
        Pid::new(self.child.id().cast_signed()).expect("a child's pid is positive")
    }
}

impl Drop for Nginx {
    /// `SIGTERM` first, because after `SIGKILL` the master could not stop its worker.
    fn drop(&mut self) {
        let _ = kill(nix::unistd::Pid::from_raw(self.pid().get()), Signal::SIGTERM);
        let end = Instant::now() + EXIT_LIMIT;
        while Instant::now() < end {
            if self.child.try_wait().is_ok_and(|status| status.is_some()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let below = process::best_effort::tree(self.pid());
        let _ = self.child.kill();
        let _ = self.child.wait();
        for found in below {
            let _ = kill(nix::unistd::Pid::from_raw(found.pid.get()), Signal::SIGKILL);
        }
    }
}

/// One worker process, as mcpd has one thread for its front door: with `auto` it has two here, which compete with the load
/// and the server for the same two processors. Connections to the server are kept alive, events are forwarded at once, and
/// nothing is logged.
fn configuration(port: Port, server: Port) -> String {
    let user = if nix::unistd::geteuid().is_root() { "user root;" } else { "" };
    format!(
        "daemon off; {user} worker_processes 1; pid nginx.pid; error_log stderr crit;
events {{ worker_connections 4096; }}
http {{
  access_log off; client_body_temp_path body; proxy_temp_path proxy;
  fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  keepalive_requests 1000000000; keepalive_timeout 75s; tcp_nodelay on;
  upstream server {{
    server 127.0.0.1:{server};
    keepalive 128; keepalive_requests 1000000000; keepalive_timeout 60s;
  }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://server; proxy_http_version 1.1; proxy_buffering off;
      proxy_set_header Connection \"\"; proxy_set_header Host $http_host;
    }}
  }}
}}
"
    )
}
