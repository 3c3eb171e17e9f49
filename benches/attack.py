#!/usr/bin/env python3
"""Measures the effect of one user's flood on a quiet user's latency, and its cost for the server.

    python3 benches/attack.py [--binary target/release/tidings] [--seconds 10] [--rounds 3]
                              [--only NAME]... [--storage memory|disk] [--ahead]

Starts the server. A quiet user follows a channel to which 100 events a second are published over
HTTP with an idempotency key, and each event's way from the publisher to the quiet user's socket is
timed, in turn without and with a flood. Ten times a second `/healthz` and `/metrics` are asked as
well. Prints a table, and exits with 1 where

- the p99 beside a flood is more than twice that without it (and 2 ms more: on a shared machine less
  than that is its scheduler),
- the slowest `/healthz` or `/metrics` took more than 100 ms, or was not answered,
- the server's memory went over the worst case that `tidings check` computes.

With --ahead the server and the quiet user go before everything else on the machine (SCHED_RR, which
needs root), and the flood before all the rest: what is left is how the server itself shares out
its time. It is the way to measure beside other people's work.

The flooding processes run at a lower priority: on loopback they take from the server what would
be their own machines' processors. Needs nothing but Python 3.
"""

import argparse
import collections
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

from floods import FLOODS, WebSocket

RATE = 100
FACTOR = 2
# Differences below this are noise of the machine, in seconds.
NOISE = 0.002
# The longest that a probe may take, in seconds.
PROBE = 0.1
# The quiet user and the probes use another address than the flood.
SOURCE = ("127.0.0.9", 0)
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
[[namespace]]
name = "deep"
history = {{ size = 5000, ttl = "1h" }}
subscribe = 'true'
publish = 'true'
[history]
storage = "STORAGE"
"""

Target = collections.namedtuple("Target", "public internal")


def mint(binary, user, role=None):
    command = [binary, "token", "--sub", user] + (["--role", role] if role else [])
    environment = {**os.environ, "TIDINGS_AUTH__HS256_SECRET": SECRET}
    return subprocess.check_output(command, env=environment, text=True).strip()


class Http:
    """An HTTP/1.1 connection (RFC 9112) with one request at a time."""

    def __init__(self, address):
        self.address = address
        self.connect()

    def connect(self):
        self.socket = socket.create_connection(self.address, timeout=10, source_address=SOURCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.reader = self.socket.makefile("rb")

    def send(self, head, body=b""):
        self.socket.sendall(f"{head}\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)

    def answer(self):
        """The status of the response, after reading all of it."""
        status = self.reader.readline()
        if not status:
            raise ConnectionError("the server closed the connection")
        length = 0
        while (line := self.reader.readline()) != b"\r\n":
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        self.reader.read(length)
        return int(status.split()[1])


class Probe:
    """Requests one path, and records the slowest response; infinity if there was none."""

    def __init__(self, address, path):
        self.address, self.path = address, path
        self.slowest = 0.0

    def ask(self):
        began = time.monotonic()
        try:
            connection = Http(self.address)
            connection.send(f"GET {self.path} HTTP/1.1")
            good = connection.answer() == 200
            connection.socket.close()
        except OSError:
            good = False
        self.slowest = max(self.slowest, time.monotonic() - began if good else math.inf)


class Quiet:
    """The quiet user, the service that publishes to it, and the probes."""

    def __init__(self, target, binary):
        self.target, self.token = target, mint(binary, "quiet")
        self.connect()
        self.head = f"POST /api/v1/events HTTP/1.1\r\nAuthorization: Bearer {mint(binary, 'service', 'service')}\r\nContent-Type: application/json"
        self.probes = [Probe(target.public, "/healthz"), Probe(target.internal, "/metrics")]
        self.number = 0

    def connect(self):
        self.subscriber = WebSocket(self.target.public, self.token, SOURCE)
        self.subscriber.send({"type": "subscribe", "channels": ["room:quiet"]})
        self.subscriber.expect("subscribed")
        self.publisher = Http(self.target.public)

    def come_back(self):
        """Reconnects, trying for up to two minutes."""
        deadline = time.monotonic() + 120
        while True:
            try:
                return self.connect()
            except OSError:
                if time.monotonic() > deadline:
                    raise

    def measure(self, seconds):
        """The time that each event took, in seconds; infinity if it did not arrive within 10 s."""
        took = []
        due = time.monotonic()
        for turn in range(int(RATE * seconds)):
            time.sleep(max(0.0, due - time.monotonic()))
            self.number += 1
            event = {"type": "a.b", "channels": ["room:quiet"], "data": {"n": 1}, "idempotency_key": f"k{self.number}"}
            body = json.dumps(event).encode()
            began = time.monotonic()
            try:
                self.publisher.send(self.head, body)
                self.subscriber.expect("a.b")
                took.append(time.monotonic() - began)
                status = self.publisher.answer()
                if status != 200:
                    raise ConnectionError(f"a publish was answered {status}")
            except OSError as error:
                print(f"the quiet user: {error}", file=sys.stderr)
                took.append(math.inf)
                self.come_back()
            if turn % 10 == 0:
                for probe in self.probes:
                    probe.ask()
            due = max(due + 1 / RATE, time.monotonic())
        return took

    def slowest_probe(self):
        """The slowest responses since the last call."""
        slowest = [probe.slowest for probe in self.probes]
        for probe in self.probes:
            probe.slowest = 0.0
        return slowest


def percentile(values, share):
    values = sorted(values)
    return values[max(0, math.ceil(share * len(values)) - 1)]


def resident(server):
    """The server's resident memory in bytes."""
    with open(f"/proc/{server.pid}/status", encoding="ascii") as status:
        lines = dict(line.split(":", 1) for line in status)
    return int(lines["VmRSS"].split()[0]) * 1024


def flooded(quiet, flood, target, token, seconds):
    """Measures while two processes flood the server."""
    processes = [
        multiprocessing.Process(target=flood, args=(target, token), daemon=True) for _ in range(2)
    ]
    for process in processes:
        process.start()
    try:
        # Skip the first second as warm-up.
        quiet.measure(1)
        return quiet.measure(seconds)
    finally:
        for process in processes:
            process.kill()
            process.join()


def seed(target, binary):
    """Fills the channel of the replays: 5,000 events of about 1 kB."""
    publisher = Http(target.public)
    head = f"POST /api/v1/events HTTP/1.1\r\nAuthorization: Bearer {mint(binary, 'seeder', 'service')}\r\nContent-Type: application/json"
    body = json.dumps({"type": "a.b", "channels": ["deep:flood"], "data": {"list": ["abcdefgh"] * 90}}).encode()
    for _ in range(5000):
        publisher.send(head, body)
        if (status := publisher.answer()) != 200:
            raise ConnectionError(f"seeding was answered {status}")


def worst_case(binary, config):
    """The bytes that `tidings check` computes from the configuration; infinity if it prints none."""
    answer = subprocess.run([binary, "check", config, "--json"], capture_output=True, text=True, check=False)
    memory = json.loads(answer.stdout).get("memory") or {}
    return memory.get("total_bytes", math.inf)


def compare(target, server, bound, binary, options):
    """Prints the table; True if the server withstands every flood."""
    quiet = Quiet(target, binary)
    token = mint(binary, "eve")
    quiet.measure(1)
    print(
        f"{'flood':<20} {'quiet p50':>10} {'p99':>9} {'beside p50':>11} {'p99':>9} {'ratio':>6} "
        f"{'/healthz':>10} {'/metrics':>10} {'resident':>10}"
    )
    borne = True
    for name in options.only or FLOODS:
        alone, beside, memory = [], [], 0
        quiet.slowest_probe()
        slowest = [0.0, 0.0]
        for _ in range(options.rounds):
            alone.append(quiet.measure(options.seconds))
            quiet.slowest_probe()
            beside.append(flooded(quiet, FLOODS[name], target, token, options.seconds))
            slowest = list(map(max, slowest, quiet.slowest_probe()))
            memory = max(memory, resident(server))

        def median(rounds, share):
            return statistics.median(percentile(took, share) for took in rounds)

        before, after = median(alone, 0.99), median(beside, 0.99)
        good = after <= max(FACTOR * before, before + NOISE) and max(slowest) <= PROBE and memory <= bound
        borne &= good
        figures = [median(alone, 0.5), before, median(beside, 0.5), after]
        cells = [f"{figure * 1e3:.2f} ms" for figure in figures]
        probes = [f"{figure * 1e3:.1f} ms" for figure in slowest]
        print(
            f"{name:<20} {cells[0]:>10} {cells[1]:>9} {cells[2]:>11} {cells[3]:>9} {after / before:>6.2f} "
            f"{probes[0]:>10} {probes[1]:>10} {memory / 1e6:>7.0f} MB{'' if good else '  TOO MUCH'}",
            flush=True,
        )
    if bound < math.inf:
        print(f"the worst case by `tidings check` is {bound / 1e6:.0f} MB")
    return borne


def address(text):
    host, port = text.rsplit(":", 1)
    return host, int(port)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default="target/release/tidings")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", action="append", choices=FLOODS, metavar="NAME")
    parser.add_argument("--storage", choices=["memory", "disk"], default="memory")
    parser.add_argument("--ahead", action="store_true")
    options = parser.parse_args()
    if options.ahead:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    binary = os.path.abspath(options.binary)
    with tempfile.TemporaryDirectory() as directory:
        config = os.path.join(directory, "tidings.toml")
        with open(config, "w", encoding="utf-8") as file:
            file.write(CONFIG.replace("STORAGE", options.storage))
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
            target = Target(address(addresses["public"]), address(addresses["internal"]))
            seed(target, binary)
            borne = compare(target, server, worst_case(binary, config), binary, options)
        finally:
            server.kill()
            server.wait()
    sys.exit(0 if borne else 1)


if __name__ == "__main__":
    main()
