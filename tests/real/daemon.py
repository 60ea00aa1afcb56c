"""A daemon with its own home, and mcpctl for it."""

import json
import os
import re
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

# The servers that speak HTTP.
HTTP = {
    "everything": ["node", MODULES / "@modelcontextprotocol/server-everything/dist/index.js", "streamableHttp"],
    "npx": ["npx", "--no-install", "--prefix", REAL / "npm", "mcp-server-everything", "streamableHttp"],
    "mcp1": [REAL / "python1/bin/python", SERVERS / "mcp1.py"],
    "mcp2": [REAL / "python2/bin/python", SERVERS / "mcp2.py"],
    "fastmcp": [REAL / "python2/bin/python", SERVERS / "fast.py"],
    "reload": [
        REAL / "python1/bin/python", "-m", "uvicorn", "reloaded:app", "--app-dir", SERVERS, "--port", "{port}",
        "--reload", "--reload-dir", "{home}/repos/reload",
    ],
    "builtin": None,
}

# The servers that speak stdio, which are shared by all clients of their port. `{home}` is the directory of the daemon.
PYTHON2 = REAL / "python2/bin/python"
GIT_PACKAGE = re.search("mcp-server-git==.*", (PROJECT / "tests/real/requirements-2.txt").read_text())[0]
STDIO = {
    "everything-stdio": ["node", MODULES / "@modelcontextprotocol/server-everything/dist/index.js"],
    "npx-stdio": ["npx", "--no-install", "--prefix", REAL / "npm", "mcp-server-everything"],
    "filesystem": ["node", MODULES / "@modelcontextprotocol/server-filesystem/dist/index.js", "{home}/repos/git"],
    "memory": ["node", MODULES / "@modelcontextprotocol/server-memory/dist/index.js"],
    "time": [PYTHON2, "-m", "mcp_server_time", "--local-timezone", "UTC"],
    "git": [PYTHON2, "-m", "mcp_server_git", "--repository", "{home}/repos/git"],
    "uvx": [
        REAL / "python2/bin/uvx", "--offline", "--cache-dir", REAL / "uv", "--python", PYTHON2, GIT_PACKAGE,
        "--repository", "{home}/repos/git",
    ],
    "mcp1-stdio": [REAL / "python1/bin/python", SERVERS / "mcp1.py"],
    "mcp2-stdio": [PYTHON2, SERVERS / "mcp2.py"],
    "fastmcp-stdio": [PYTHON2, SERVERS / "fast.py"],
}
# The same servers, started by a package runner.
RUNNERS = {"npx-stdio": "everything-stdio", "uvx": "git"}
# The only one that has a repository; the others run without.
IN_REPOSITORY = "git"


# Seconds that one worker of each era, and one that speaks stdio, take to start.
SLOW_START = {"mcp1": 3, "mcp2": 3, "mcp1-stdio": 3}


class Daemon:
    def __init__(self, home, commands=HTTP | STDIO):
        self.home = home
        self.commands = commands
        self.urls = {}
        self.environment = {**ENVIRONMENT, "HOME": str(home)}
        self.config = home / "config.toml"
        self.config.write_text(self._config())
        self._change()
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
            port = free_port()
            self.urls[name] = f"http://127.0.0.1:{port}/mcp"
            lines += [f"[workers.{name}]", f"port = {port}"]
            if name not in STDIO:
                lines.append('transport = "http"')
            if name not in STDIO or name == IN_REPOSITORY:
                repo = self.home / "repos" / name
                subprocess.run(["git", "init", "--quiet", repo], check=True, env=self.environment)
                lines.append(f'repo = "{repo}"')
            if command:
                lines.append(f'env = {{ START_DELAY = "{SLOW_START.get(name, 0)}" }}')
                lines.append(f"command = {json.dumps(self._words(command))}")
        return "\n".join(lines) + "\n"

    def _words(self, command):
        return [str(word).replace("{home}", str(self.home)) for word in command]

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

    def direct(self, name):
        """How a client reaches the server without mcpd: by the URL of the worker itself, with the port from its variable
        PORT, or by a command, which starts another process."""
        if name in STDIO:
            return self._words(self.commands[name])
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

    def _change(self):
        """Changes the file that uvicorn watches; it does not notice a new one."""
        if "reload" in self.commands:
            (self.home / "repos/reload/watched.py").write_text(f"at = {time.time()}\n")

    def reload(self):
        """Changes a file, and waits until another process is the child of the worker's leader."""
        leader = self.workers()["reload"]["pid"]
        before = children(leader)
        self._change()
        wait_for("uvicorn to start another process", lambda: children(leader) - before, 30)

    def left(self, known):
        """The processes that inherited the HOME of this daemon, except the known ones."""
        pids = {int(name) for name in os.listdir("/proc") if name.isdigit()} - set(known)
        return [f"{pid} {command_line(pid)}" for pid in pids if self._is_ours(pid)]

    def _is_ours(self, pid):
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            return False
        return f"HOME={self.home}".encode() in environment

    def stop(self):
        """Stops the daemon if the run failed before the shutdown."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(90)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def command_line(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return "(exited)"


def children(pid):
    """The pids of the children of this process."""
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    return {int(child) for text in lists for child in text.read_text().split()}


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
