"""A daemon with its own home, and mcpctl for it."""

import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
REAL = PROJECT / "target/real"
BINARIES = PROJECT / "target/debug"
MODULES = REAL / "npm/node_modules"
SERVERS = PROJECT / "tests/real/servers"

# Without the proxy settings and MCPD_* of the caller.
ENVIRONMENT = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}

COMMANDS = {
    "everything": ["node", MODULES / "@modelcontextprotocol/server-everything/dist/index.js", "streamableHttp"],
    "npx": ["npx", "--no-install", "--prefix", REAL / "npm", "mcp-server-everything", "streamableHttp"],
    "mcp1": [REAL / "python1/bin/python", SERVERS / "mcp1.py"],
    "mcp2": [REAL / "python2/bin/python", SERVERS / "mcp2.py"],
    "fastmcp": [REAL / "python2/bin/python", SERVERS / "fast.py"],
    "builtin": None,
}


# Seconds that one worker of each era takes to start.
SLOW_START = {"mcp1": 3, "mcp2": 3}


class Daemon:
    def __init__(self, home, commands=COMMANDS):
        self.home = home
        self.commands = commands
        self.urls = {}
        self.environment = {**ENVIRONMENT, "HOME": str(home)}
        self.config = home / "config.toml"
        self.config.write_text(self._config())
        self.start()

    def start(self):
        with open(self.home / "mcpd.log", "a") as log:
            self.process = subprocess.Popen(
                [BINARIES / "mcpd", "--config", self.config],
                env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )

    def _config(self):
        paths = {name: self.home / name for name in ("socket", "state_dir", "log_dir")}
        lines = ["[daemon]", *(f'{name} = "{path}"' for name, path in paths.items())]
        for name, command in self.commands.items():
            repo = self.home / "repos" / name
            subprocess.run(["git", "init", "--quiet", repo], check=True, env=self.environment)
            port = free_port()
            self.urls[name] = f"http://127.0.0.1:{port}/mcp"
            lines += [f"[workers.{name}]", f'repo = "{repo}"', f"port = {port}", 'transport = "http"']
            if command:
                lines.append(f'env = {{ START_DELAY = "{SLOW_START.get(name, 0)}" }}')
                lines.append(f"command = {json.dumps([str(word) for word in command])}")
        return "\n".join(lines) + "\n"

    def mcpctl(self, *words, timeout=60):
        command = [BINARIES / "mcpctl", "--socket", self.home / "socket", *words]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=timeout)

    def workers(self):
        status = json.loads(self.mcpctl("status", "--json").stdout)
        return {worker["name"]: worker for worker in status["workers"]}

    def wait_ready(self, seconds=90):
        def ready():
            # Without a daemon, the status has no workers.
            states = {name: worker["state"] for name, worker in self.workers().items()}
            return states == dict.fromkeys(self.urls, "ready")

        wait_for("all workers to be ready", ready, seconds)

    def direct_url(self, name):
        """The URL of the worker itself, with the port from its variable PORT."""
        environment = Path(f"/proc/{self.workers()[name]['pid']}/environ").read_bytes().split(b"\0")
        port = next(value for value in environment if value.startswith(b"PORT="))[5:].decode()
        return f"http://127.0.0.1:{port}/mcp"

    def kill_workers(self):
        pids = [worker["pid"] for worker in self.workers().values()]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        # Otherwise the next request might reach a worker before it has exited, and be in flight, too.
        wait_for("the killed workers to exit", lambda: all(map(has_exited, pids)), 10)

        # Or mcpd might forward it before it has noticed the exit.
        def noticed():
            return not any(worker["pid"] in pids and worker["state"] == "ready" for worker in self.workers().values())

        wait_for("mcpd to notice the exits", noticed, 10)

    def stop(self):
        """Stops the daemon if the run failed before the shutdown."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(90)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def has_exited(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(what, condition, seconds):
    end = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except (ValueError, KeyError):
            pass  # The daemon does not respond yet.
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds} s for {what}")
        time.sleep(0.05)
