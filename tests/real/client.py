"""A client program of one of the SDKs, driven by lines of JSON (see clients/commands.*)."""

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

# Name: program and era. `auto` asks for the newest era that both sides know.
PROGRAMS = {
    "python 1": ([REAL / "python1/bin/python", CLIENTS / "python1.py"], "legacy"),
    "python 2 legacy": ([REAL / "python2/bin/python", CLIENTS / "python2.py"], "legacy"),
    "python 2 auto": ([REAL / "python2/bin/python", CLIENTS / "python2.py"], "auto"),
    "typescript 1": (["node", CLIENTS / "typescript1.mjs"], "legacy"),
    "typescript 2 legacy": (["node", CLIENTS / "typescript2.mjs"], "legacy"),
    "typescript 2 auto": (["node", CLIENTS / "typescript2.mjs"], "auto"),
}


class Failed(Exception):
    """The client program answered with an error; `code` is that of JSON-RPC, if it was one."""

    def __init__(self, said, code):
        super().__init__(said)
        self.code = code


class Client:
    def __init__(self, name, home):
        command, self.era = PROGRAMS[name]
        self.name = name
        self.numbers = itertools.count(1)
        self.waiting = {}
        self.progress = defaultdict(list)
        with open(home / f"{name.replace(' ', '-')}.log", "w") as log:
            self.process = subprocess.Popen(
                command, env={**ENVIRONMENT, "HOME": str(home)}, text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
            )
        threading.Thread(target=self._read, daemon=True).start()

    def ask(self, do, **given):
        """Sends a command; its answer comes as a future, which knows when it was asked (`begun`) and answered (`at`)."""
        number, answer = next(self.numbers), Future()
        answer.begun = time.monotonic()
        self.waiting[number] = answer
        try:
            self.process.stdin.write(json.dumps({"id": number, "do": do, **given}) + "\n")
            self.process.stdin.flush()
        except OSError as error:
            answer.set_exception(Failed(f"the client program is gone: {error}", None))
        return answer

    def _read(self):
        for line in self.process.stdout:
            said = json.loads(line)
            if "progress" in said:
                self.progress[said["progress"]].append(time.monotonic())
                continue
            answer = self.waiting.pop(said["id"])
            answer.at = time.monotonic()
            if "error" in said:
                answer.set_exception(Failed(said["error"], said["code"]))
            else:
                answer.set_result(said["ok"])
        for answer in list(self.waiting.values()):
            if not answer.done():
                answer.set_exception(Failed("the client program ended", None))

    def leave(self, seconds=20):
        """Ends it politely; its exit code."""
        self.process.stdin.close()
        return self.process.wait(seconds)

    def end(self):
        if self.process.poll() is None:
            os.kill(self.process.pid, 9)
            self.process.wait()
