"""A client program of one of the SDKs, controlled by lines of JSON (see clients/commands.*)."""

import itertools
import json
import os
import subprocess
import threading
import time
from collections import defaultdict
from concurrent.futures import Future

from daemon import ENVIRONMENT, PROJECT, REAL

CLIENTS = PROJECT / "tests/real/clients"

# Name: program and era. `auto` selects the newest era that both sides support.
PROGRAMS = {
    "python 1": ([REAL / "python1/bin/python", CLIENTS / "python1.py"], "legacy"),
    "python 2 legacy": ([REAL / "python2/bin/python", CLIENTS / "python2.py"], "legacy"),
    "python 2 auto": ([REAL / "python2/bin/python", CLIENTS / "python2.py"], "auto"),
    "typescript 1": (["node", CLIENTS / "typescript1.mjs"], "legacy"),
    "typescript 2 legacy": (["node", CLIENTS / "typescript2.mjs"], "legacy"),
    "typescript 2 auto": (["node", CLIENTS / "typescript2.mjs"], "auto"),
}


class Failed(Exception):
    """The error of a command; `code` is that of a JSON-RPC error, if it was one."""

    def __init__(self, message, code):
        super().__init__(message)
        self.code = code


class Client:
    def __init__(self, name, home):
        command, self.era = PROGRAMS[name]
        self.name = name
        # Its name without the era.
        self.sdk = " ".join(name.split()[:2])
        self.numbers = itertools.count(1)
        self.waiting = {}
        self.progress = defaultdict(list)
        with open(home / f"{name.replace(' ', '-')}.log", "w") as log:
            self.process = subprocess.Popen(
                command, env={**ENVIRONMENT, "HOME": str(home)}, text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
            )
        threading.Thread(target=self._read, daemon=True).start()

    def send(self, do, **arguments):
        """Sends a command; returns a future with the times of the command (`begun`) and of its result (`at`)."""
        number = next(self.numbers)
        result = Future()
        result.begun = time.monotonic()
        self.waiting[number] = result
        try:
            self.process.stdin.write(json.dumps({"id": number, "do": do, **arguments}) + "\n")
            self.process.stdin.flush()
        except OSError as error:
            result.set_exception(Failed(f"the client program is gone: {error}", None))
        return result

    def _read(self):
        for line in self.process.stdout:
            message = json.loads(line)
            if "progress" in message:
                self.progress[message["progress"]].append((time.monotonic(), message["total"]))
                continue
            result = self.waiting.pop(message["id"])
            result.at = time.monotonic()
            if "error" in message:
                result.set_exception(Failed(message["error"], message["code"]))
            else:
                result.set_result(message["ok"])
        for result in list(self.waiting.values()):
            if not result.done():
                result.set_exception(Failed("the client program exited", None))

    def close(self, seconds=20):
        """Closes its input and returns its exit code."""
        self.process.stdin.close()
        return self.process.wait(seconds)

    def kill(self):
        if self.process.poll() is None:
            os.kill(self.process.pid, 9)
            self.process.wait()
