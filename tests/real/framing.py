"""Sends the same bytes to mcpd and to h11: mcpd accepts nothing that h11 refuses, and both understand the same.

framing.py [CASES [SEED]]     the last line says how many requests were compared
"""

import json
import random
import socket
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

import h11

from daemon import BINARIES, Daemon

LINES = ["GET /echo HTTP/1.1", "POST /echo HTTP/1.1", "POST /echo?a=b HTTP/1.1", "POST http://localhost/echo HTTP/1.1"]
BAD_LINES = ["POST /echo HTTP/1.0", "P(ST /echo HTTP/1.1", "POST  /echo HTTP/1.1", "POST /echo", "POST /ec ho HTTP/1.1"]
FIELDS = ["X-A: b", "x-b:  c ", "x-c:", "Content-Length: 5", "Transfer-Encoding: chunked", "connection: x-a", "te: trailers"]
BAD_FIELDS = [
    "content-length: +5", "content-length: 5, 6", "transfer-encoding: gzip, chunked", "x-d : e", " folded", "x-e: \0",
    "x(f: g", "host: localhost", "nothing", "connection: close", "transfer-encoding: identity",
]
BODIES = ["", "hello", "hello", "5\r\nhello\r\n0\r\n\r\n", "3;a=b\r\nhel\r\n2\r\nlo\r\n0\r\nx: y\r\n\r\n"]
BAD_BODIES = [
    "5\nhello\r\n0\r\n\r\n", "5\r\nhello!\r\n0\r\n\r\n", "0x5\r\nhello\r\n0\r\n\r\n", "-5\r\nhello\r\n0\r\n\r\n",
    "5 \r\nhello\r\n0\r\n\r\n", "5\r\nhello\r\n0\r\nx y\r\n\r\n", "hello, world", "fffffffffffffffff\r\nhello",
]
# Fields of one connection, and those that mcpd writes anew (RFC 9110, section 7.6.1).
NOT_FORWARDED = {"connection", "content-length", "transfer-encoding", "te", "keep-alive"}


def message(pick):
    def one(good, bad):
        return pick.choice(bad if pick.random() < 0.06 else good)

    end = "\n" if pick.random() < 0.02 else "\r\n"
    fields = ["host: localhost", *(one(FIELDS, BAD_FIELDS) for _ in range(pick.randrange(4)))]
    return end.join([one(LINES, BAD_LINES), *fields, "", ""]) + one(BODIES, BAD_BODIES)


def of_h11(data):
    """The requests that h11 accepts, as (target, fields, body)."""
    connection, accepted, fields, body = h11.Connection(h11.SERVER), [], None, b""
    connection.receive_data(data)
    connection.receive_data(b"")
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                fields, body = event, b""
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                accepted.append((fields.target.decode().removeprefix("http://localhost"), forwarded(fields.headers), body))
                connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
                connection.send(h11.EndOfMessage())
                if connection.our_state is not h11.DONE:
                    return accepted
                connection.start_next_cycle()
            else:
                return accepted
    except h11.RemoteProtocolError:
        return accepted


def forwarded(headers):
    headers = [(name.decode().lower(), value.decode("latin-1").strip()) for name, value in headers]
    named = {option.strip().lower() for name, value in headers if name == "connection" for option in value.split(",")}
    return sorted((name, value) for name, value in headers if name == "host" or name not in NOT_FORWARDED | named)


def of_mcpd(port, data):
    """The requests that the worker got, from its responses."""
    accepted = []
    with socket.create_connection(("127.0.0.1", port), timeout=20) as stream:
        stream.sendall(data)
        received = b""
        try:
            while piece := stream.recv(65536):
                received += piece
        except ConnectionResetError:
            pass
    while received:
        head, _, rest = received.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines[1:])}
        length = int(headers.get("content-length", 0))
        if lines[0].split()[1] == "200":
            echo = json.loads(rest[:length])
            pairs = [(name.encode(), value.encode("latin-1")) for name, value in echo["headers"]]
            accepted.append((echo["line"].split()[1], forwarded(pairs), echo["body"].encode()))
        received = rest[length:]
    return accepted


# The last request of each case: it makes mcpd close the connection.
END = b"GET /echo HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"


def compare(port, cases, seed):
    pick, compared = random.Random(seed), 0
    for number in range(cases):
        data = "".join(message(pick) for _ in range(pick.choice([1, 1, 2]))).encode("latin-1") + END
        ours, theirs = of_mcpd(port, data), of_h11(data)
        if ours != theirs[: len(ours)]:
            sys.exit(f"seed {seed}, case {number}: {data!r}\nmcpd: {ours}\nh11:  {theirs}")
        compared += len(ours)
    return compared


def main():
    cases = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else time.time_ns() % 2**32
    with tempfile.TemporaryDirectory() as home:
        worker = [BINARIES / "fixture_worker", "--port", "{port}", "--mcp"]
        daemon = Daemon(Path(home), {"alpha": worker})
        try:
            daemon.wait_ready()
            compared = compare(urlsplit(daemon.urls["alpha"]).port, cases, seed)
            daemon.mcpctl("shutdown", "--wait").check_returncode()
        finally:
            daemon.stop()
    print(f"{cases} cases (seed {seed}): {compared} requests mean the same to mcpd and h11")


main()
