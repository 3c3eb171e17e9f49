#!/usr/bin/env python3
"""How much a quiet user feels of another user's flood.

    python3 benches/attack.py [--binary target/release/tidings] [--seconds 10] [--rounds 3] [--ahead]

Starts the server. A quiet user follows a channel to which 100 events a second are published over
HTTP, and each one's way from the publisher to the quiet user's socket is timed, in turn without and
with another user who floods. Prints a table, and exits with 1 where the p99 beside a user's flood is
more than twice that without (and 2 ms more: on a shared machine less than that is its scheduler).
The last row floods as nobody, with sockets that never say anything.

With --ahead the server and the quiet user go before everything else on the machine (SCHED_RR, which
needs root), and the flood before all the rest: what is left is how the server itself shares out
its time. It is the way to measure beside other people's work.

The flooding processes run at a lower priority: on loopback they take from the server what would
be their own machines' processors. Needs nothing but Python 3.
"""

import argparse
import base64
import json
import math
import multiprocessing
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

RATE = 100
FACTOR = 2
# Differences below this are the machine's own, in seconds.
NOISE = 0.002
SECRET = "a-secret-of-this-measurement-and-of-no-other"
CONFIG = f"""
[public]
listen = "127.0.0.1:0"
[internal]
listen = "127.0.0.1:0"
[auth]
hs256_secret = "{SECRET}"
[[namespace]]
name = "room"
history = {{ size = 100, ttl = "1h" }}
subscribe = 'true'
publish = 'true'
"""


class WebSocket:
    """A connection of text frames (RFC 6455), as far as this needs."""

    def __init__(self, address, token):
        self.socket = socket.create_connection(address, timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
            f"Authorization: Bearer {token}\r\n\r\n".encode()
        )
        self.reader = self.socket.makefile("rb")
        status = self.reader.readline()
        if b" 101 " not in status:
            raise ConnectionError(status.decode().strip())
        while self.reader.readline() != b"\r\n":
            pass

    @staticmethod
    def frame(text):
        payload = text.encode()
        if len(payload) < 126:
            head = bytes([0x81, 0x80 | len(payload)])
        else:
            head = bytes([0x81, 0xFE]) + len(payload).to_bytes(2, "big")
        # A mask of zeros leaves the payload as it is.
        return head + bytes(4) + payload

    def send(self, message):
        self.socket.sendall(self.frame(json.dumps(message)))

    def read(self):
        """The next message; None at the end."""
        while head := self.reader.read(2):
            length = head[1]
            if length == 126:
                length = int.from_bytes(self.reader.read(2), "big")
            elif length == 127:
                length = int.from_bytes(self.reader.read(8), "big")
            payload = self.reader.read(length)
            if head[0] & 0x0F == 1:
                return json.loads(payload)
            if head[0] & 0x0F == 8:
                return None
        return None

    def expect(self, kind):
        while (message := self.read()) is not None:
            if message["type"] == kind:
                return message
            if message["type"] == "heartbeat":
                self.send({"type": "heartbeat_response"})
        raise ConnectionError(f"closed before {kind}")

    def close(self):
        self.reader.close()
        self.socket.close()


def again(attack):
    """Attacks until the process is ended, whatever the server does about it."""

    def forever(address, token):
        if os.sched_getscheduler(0) == os.SCHED_OTHER:
            os.nice(10)
        else:
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
            os.setpriority(os.PRIO_PROCESS, 0, -20)
        while True:
            try:
                attack(address, token)
            except OSError:
                pass

    return forever


@again
def at_the_limit(address, token):
    """Twenty connections, each with 50 messages a second, which is what the limits allow."""
    connections = [WebSocket(address, token) for _ in range(20)]
    message = WebSocket.frame('{"type":"subscribe","channels":["room:flood"],"rewind":10}')
    for connection in connections:
        connection.socket.setblocking(False)
    due = time.monotonic()
    while True:
        for connection in connections:
            connection.socket.send(message)
            try:
                while connection.socket.recv(1 << 20):
                    pass
            except BlockingIOError:
                pass
        due += 1 / 50
        time.sleep(max(0.0, due - time.monotonic()))


@again
def beyond_the_limit(address, token):
    """As many messages as fit into the socket, until it is closed; and again."""
    connection = WebSocket(address, token)
    flood = WebSocket.frame('{"type":"ping"}') * 1000
    try:
        while True:
            connection.socket.sendall(flood)
    finally:
        connection.close()


@again
def in_and_out(address, token):
    """Connects, is greeted, and goes; and again."""
    connection = WebSocket(address, token)
    connection.expect("connection_established")
    connection.close()


@again
def bare_sockets(address, _token):
    """Connects and says nothing, a thousand times; and again."""
    sockets = [socket.create_connection(address, timeout=10) for _ in range(1000)]
    for held in sockets:
        held.close()


FLOODS = [at_the_limit, beyond_the_limit, in_and_out, bare_sockets]
NAMES = ["at the limit", "beyond the limit", "in and out", "bare sockets"]


def mint(binary, user, role=None):
    command = [binary, "token", "--sub", user] + (["--role", role] if role else [])
    environment = {**os.environ, "TIDINGS_AUTH__HS256_SECRET": SECRET}
    return subprocess.check_output(command, env=environment, text=True).strip()


class Quiet:
    """The quiet user, and the service that publishes to it."""

    def __init__(self, address, binary):
        self.follower = WebSocket(address, mint(binary, "quiet"))
        self.follower.send({"type": "subscribe", "channels": ["room:quiet"]})
        self.follower.expect("subscribed")
        self.publisher = socket.create_connection(address, timeout=10)
        self.publisher.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.answers = self.publisher.makefile("rb")
        body = b'{"type":"a.b","channels":["room:quiet"],"data":{"n":1}}'
        token = mint(binary, "service", "service")
        self.request = (
            f"POST /api/v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode() + body

    def measure(self, seconds):
        """The time that each event took, in seconds."""
        took = []
        due = time.monotonic()
        for _ in range(int(RATE * seconds)):
            time.sleep(max(0.0, due - time.monotonic()))
            began = time.monotonic()
            self.publisher.sendall(self.request)
            self.follower.expect("a.b")
            took.append(time.monotonic() - began)
            self.answered()
            due = max(due + 1 / RATE, time.monotonic())
        return took

    def answered(self):
        status = self.answers.readline()
        if b" 200 " not in status:
            raise ConnectionError(status.decode())
        length = 0
        while (line := self.answers.readline()) != b"\r\n":
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        self.answers.read(length)


def percentile(values, share):
    values = sorted(values)
    return values[max(0, math.ceil(share * len(values)) - 1)]


def taken(metrics):
    """How many connections and bytes the server has taken from clients so far."""
    with urllib.request.urlopen(metrics, timeout=10) as answer:
        series = dict(line.rsplit(" ", 1) for line in answer.read().decode().splitlines())
    names = ["tidings_connections_opened_total", "tidings_received_bytes_total"]
    return [float(series[name]) for name in names]


def flooded(quiet, flood, address, token, seconds):
    """Measures beside two flooding processes."""
    processes = [
        multiprocessing.Process(target=flood, args=(address, token), daemon=True) for _ in range(2)
    ]
    for process in processes:
        process.start()
    try:
        # The first second is for getting going.
        quiet.measure(1)
        return quiet.measure(seconds)
    finally:
        for process in processes:
            process.kill()
            process.join()


def compare(address, metrics, binary, options):
    """Prints the table; True if every flood is borne."""
    quiet = Quiet(address, binary)
    token = mint(binary, "eve")
    quiet.measure(1)
    print(
        f"{'flood':<18} {'quiet p50':>10} {'p99':>8} {'beside p50':>11} {'p99':>8} {'ratio':>6} "
        f"{'connections/s':>14} {'MB/s':>6}"
    )
    borne = True
    for name, flood in zip(NAMES, FLOODS):
        alone, beside = [], []
        connections, received, under = 0.0, 0.0, 0.0
        for _ in range(options.rounds):
            alone.append(quiet.measure(options.seconds))
            began, had = time.monotonic(), taken(metrics)
            beside.append(flooded(quiet, flood, address, token, options.seconds))
            under += time.monotonic() - began
            has = taken(metrics)
            connections += has[0] - had[0]
            received += has[1] - had[1]

        def median(rounds, share):
            return statistics.median(percentile(took, share) for took in rounds)

        before, after = median(alone, 0.99), median(beside, 0.99)
        borne &= after <= max(FACTOR * before, before + NOISE)
        figures = [median(alone, 0.5), before, median(beside, 0.5), after]
        cells = [f"{figure * 1e3:.2f} ms" for figure in figures]
        print(
            f"{name:<18} {cells[0]:>10} {cells[1]:>8} {cells[2]:>11} {cells[3]:>8} "
            f"{after / before:>6.2f} {connections / under:>14.0f} {received / under / 1e6:>6.1f}",
            flush=True,
        )
    return borne


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default="target/release/tidings")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ahead", action="store_true")
    options = parser.parse_args()
    if options.ahead:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    binary = os.path.abspath(options.binary)
    with tempfile.TemporaryDirectory() as directory:
        with open(os.path.join(directory, "tidings.toml"), "w", encoding="utf-8") as file:
            file.write(CONFIG)
        ready = os.path.join(directory, "ready.json")
        command = [binary, "serve", "--config", "tidings.toml", "--ready-file", ready]
        with open(os.path.join(directory, "log"), "w", encoding="utf-8") as log:
            server = subprocess.Popen(command, cwd=directory, stdout=log, stderr=log)
        try:
            while not os.path.exists(ready):
                if server.poll() is not None:
                    sys.exit("the server ended")
                time.sleep(0.05)
            with open(ready, encoding="utf-8") as file:
                addresses = json.load(file)
            host, port = addresses["public"].rsplit(":", 1)
            metrics = f"http://{addresses['internal']}/metrics"
            borne = compare((host, int(port)), metrics, binary, options)
        finally:
            server.kill()
            server.wait()
    sys.exit(0 if borne else 1)


if __name__ == "__main__":
    main()
