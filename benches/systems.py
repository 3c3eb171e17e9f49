#!/usr/bin/env python3
"""Compares Tidings with the figures of the five systems that its presets replace (docs/how-to/move-from-another-server.md).

Starts the given binary with each preset, on loopback, one at a time, and connects clients that speak
that system's own protocol. Prints a table with a row for each claim: what was measured, and whether
the claim is met. A claim marked * is another system's: this one names no figure of its own. "About"
a figure is met up to half more of it.

    benches/systems.py                                    a release build, under three minutes
    benches/systems.py --binary PATH --only spc           another binary, some of the systems
    benches/systems.py --write docs/how-to/move-from-another-server.md            puts the table where the old one stands

Clients share the machine with the server, and are written in Python: times by the clock include
theirs. Needs nothing but Python and Linux's /proc.
"""

import argparse
import contextlib
import json
import os
import pathlib
import re
import resource
import select
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

from systems_clients import SYSTEMS, Client, Publisher, Refused

ROOT = pathlib.Path(__file__).resolve().parent.parent
MANY = 10_000
SOME = 1_000
# Limits of the presets that are not part of the figure.
RAISED = {"TIDINGS_LIMITS__CONNECTIONS": "12000", "TIDINGS_LIMITS__CONNECTIONS_PER_IP": "12000"}
TICKS = os.sysconf("SC_CLK_TCK")


class Server:
    """The binary with one preset; its cost is read from /proc."""

    def __init__(self, options, directory, system, settings):
        ready = pathlib.Path(directory, f"{system.name}-{time.monotonic_ns()}.json")
        environment = {
            **os.environ,
            "TIDINGS_AUTH__HS256_SECRET": Publisher.SECRET,
            "TIDINGS_PUBLIC__LISTEN": "127.0.0.1:0",
            "TIDINGS_INTERNAL__LISTEN": "127.0.0.1:0",
            **settings,
        }
        command = [options.binary, "serve", "--preset", system.preset, "--ready-file", ready]
        log = ready.with_suffix(".log")
        with log.open("wb") as errors:
            self.process = subprocess.Popen(
                command, cwd=directory, env=environment, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors)
        deadline = time.monotonic() + 20
        while not ready.exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                sys.exit(f"{options.binary} did not start:\n{log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.02)
        host, port = json.loads(ready.read_text())["public"].rsplit(":", 1)
        self.address = (host, int(port))

    def stop(self):
        self.process.kill()
        self.process.wait()

    def cpu(self):
        """CPU time so far, in seconds, in steps of 10 ms."""
        stat = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text()
        fields = stat.rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def memory(self):
        """Resident memory, in bytes, once it stays the same for a second: memory that admissions took
        temporarily is returned."""
        before, same, deadline = 0, 0, time.monotonic() + 8
        while same < 4 and time.monotonic() < deadline:
            text = pathlib.Path(f"/proc/{self.process.pid}/smaps_rollup").read_text()
            now = int(re.search(r"^Rss:\s+(\d+) kB", text, re.MULTILINE)[1]) * 1024
            before, same = now, same + 1 if now == before else 0
            time.sleep(0.25)
        return before


class Table:
    """The rows, in the order of measurement."""

    def __init__(self):
        self.rows = []

    def row(self, system, claim, measured, met):
        self.rows.append({"system": system.name, "claim": claim, "measured": measured, "met": bool(met)})
        print(f"  {system.name}: {claim}: {measured}: {'met' if met else 'NOT MET'}", file=sys.stderr)

    def markdown(self):
        lines = ["| system | claim | measured | met |", "|---|---|---|---|"]
        for row in self.rows:
            met = "yes" if row["met"] else "**no**"
            lines.append(f"| {row['system']} | {row['claim']} | {row['measured']} | {met} |")
        return "\n".join(lines)


class Bench:
    """One system under measurement."""

    def __init__(self, options, directory, table, system):
        self.options, self.directory, self.table, self.system = options, directory, table, system

    @contextlib.contextmanager
    def server(self, settings=RAISED):
        """A server with the preset, overridden by these settings."""
        server = Server(self.options, self.directory, self.system, settings)
        try:
            yield server
        finally:
            server.stop()

    def row(self, claim, measured, met):
        self.table.row(self.system, claim, measured, met)

    def claim(self, key, text):
        """The text of a claim: this system's own, or another's that is applied to it as well."""
        return text if key in self.system.claims else f"{text} *"

    def all(self):
        self.broadcasts()
        self.connections()
        if "1000" in self.system.claims:
            self.limit()
        if "stream" in self.system.claims:
            self.stream()

    # --- Time ------------------------------------------------------------------------------------

    def broadcasts(self):
        """Two hundred events, 50 a second, to a hundred clients."""
        with self.server() as server:
            clients = self.open(server, 100)
            publisher = Publisher(server.address)
            self.reach(publisher, clients, 20)
            last, each, missing = self.reach(publisher, clients, 200)
        lost = f", {missing} lost" if missing else ""
        self.row(self.claim("broadcast", "broadcast to 100 clients < 10 ms"),
                 f"the last has it after p50 {ms(last, 0.5)}, p99 {ms(last, 0.99)}{lost}",
                 percentile(last, 0.99) < 0.010 and not missing)
        self.row(self.claim("latency", "end to end < 50 ms"),
                 f"p50 {ms(each, 0.5)}, p99 {ms(each, 0.99)}{lost}",
                 percentile(each, 0.99) < 0.050 and not missing)

    def reach(self, publisher, clients, events, wait=5):
        """Publishes events one by one; the time of each to its last client, and to each of them,
        in seconds, and the number of deliveries that were late."""
        last, each, missing = [], [], 0
        with watching(clients) as poll:
            due = time.monotonic()
            for _ in range(events):
                time.sleep(max(0.0, due - time.monotonic()))
                began = now = time.monotonic()
                publisher.send(self.system)
                left = len(clients)
                while left and now < began + wait:
                    for client in poll(wait):
                        come = client.take()
                        now = time.monotonic()
                        each += [now - began] * come
                        left -= come
                    now = time.monotonic()
                missing += left
                last.append(now - began)
                publisher.answered()
                due = max(due + 0.02, now)
        return last, each, missing

    # --- Connections -----------------------------------------------------------------------------

    def connections(self):
        """Admits a thousand one by one, then the rest of ten thousand; measures their cost."""
        with self.server() as server:
            for client in self.open(server, 50):
                client.close()
            clients, took = [], []
            alone = self.alone(server)
            memory, cpu = server.memory(), server.cpu()
            for _ in range(SOME):
                client = self.system.client(server.address)
                began = time.monotonic()
                client.connect()
                client.admitted()
                took.append(time.monotonic() - began)
                clients.append(client)
            cpu = (server.cpu() - cpu) / SOME
            self.row(self.claim("admit", "a connection is admitted in < 1 ms"),
                     f"{cpu * 1e6:.0f} µs of processor time; by the clock p50 {ms(took, 0.5)}",
                     cpu < 0.001 and statistics.median(took) < 0.001)
            for client in clients:
                client.subscribe()
            some = server.memory()
            clients += self.open(server, MANY - SOME)
            self.memory(memory, some, server.memory())
            if alone:
                among = self.alone(server)
                self.row("look-ups take as long among many",
                         f"end to end p50 {ms(alone, 0.5)} for a client alone, "
                         f"{ms(among, 0.5)} beside {MANY:,} in other rooms",
                         statistics.median(among) < 1.5 * statistics.median(alone) + 0.0002)
            if "held" in self.system.claims:
                self.held(server, clients)

    def memory(self, before, some, many):
        """The memory of connections beyond that of a server that has had fifty; judged at ten thousand."""
        words = {"1 MB": ("< 1 MB for 100 connections", 1e6 / 100), "1 KB": ("about 1 KB a connection", 1536),
                 "5 KB": ("about 5 KB a connection", 7680), "": ("about 5 KB a connection *", 7680)}
        text, most = words[self.system.memory]
        shown = []
        for now, count in ((some, SOME), (many, MANY)):
            each = max(0, now - before) / count
            what = f"{100 * each / 1e6:.2f} MB" if self.system.memory == "1 MB" else f"{each / 1024:.1f} KB"
            shown.append(f"{what} at {count:,} ({now / 1e6:.0f} MB in all)")
        self.row(text, ", ".join(shown), each < most)

    def alone(self, server):
        """The latency to the only client of a room, if the system makes a claim about it."""
        if "look-ups" not in self.system.claims:
            return None
        bench = Bench(self.options, self.directory, self.table, self.system.elsewhere())
        [client] = bench.open(server, 1)
        took, _, missing = bench.reach(Publisher(server.address), [client], 100)
        client.close()
        return took if not missing else [float("inf")]

    def held(self, server, clients):
        """Ten thousand connections through a whole interval of heartbeats, and then an event to all."""
        cpu, began = server.cpu(), time.monotonic()
        with watching(clients) as poll:
            while (left := began + self.options.idle - time.monotonic()) > 0:
                for client in poll(left):
                    client.take()
        busy = (server.cpu() - cpu) / (time.monotonic() - began) * 100 * 1000 / len(clients)
        alive = [client for client in clients if client.open]
        last, _, missing = self.reach(Publisher(server.address), alive, 1, wait=30)
        self.row("10,000 connections on one instance",
                 f"{len(alive):,} held, an event reaches {len(alive) - missing:,} of them in {last[0] * 1e3:.0f} ms",
                 len(alive) == MANY and not missing)
        self.row("about 1 % of a processor for 1,000 idle connections", f"{busy:.2f} %, with their heartbeats",
                 busy < 1.5)

    def limit(self):
        """The preset's own limit: a thousand are served, the next one is refused."""
        with self.server({}) as server:
            clients = self.open(server, 1000)
            try:
                self.open(server, 1)
                refused = "one more is admitted"
            except Refused as refusal:
                refused = f"one more is refused ({refusal})"
            _, _, missing = self.reach(Publisher(server.address), clients, 1)
        self.row("1,000 connections", f"an event reaches {1000 - missing:,}; {refused}",
                 not missing and "refused" in refused)

    def stream(self):
        """5,000 events a second for four seconds to one connection, in their order."""
        rate, seconds, batch = 5000, 4, 50
        total = rate * seconds
        with self.server({"TIDINGS_LIMITS__PUBLISHES_PER_SECOND": "0"}) as server:
            [client] = self.open(server, 1)
            publisher, sent = Publisher(server.address), []
            thread = threading.Thread(
                target=publisher.stream, args=(self.system, total, batch, rate, sent), daemon=True)
            numbers, times = [], []
            with watching([client]) as poll:
                thread.start()
                while len(numbers) < total and poll(5):
                    found = client.numbers()
                    numbers += found
                    times += [time.monotonic()] * len(found)
            thread.join()
        came = (len(numbers) - 1) / (times[-1] - times[0]) if len(numbers) > 1 else 0
        took = [at - sent[n // batch] for n, at in zip(numbers, times)] or [0.0]
        whole = numbers == list(range(total))
        self.row("5,000 messages a second on one connection",
                 f"{came:,.0f} a second, {total - len(set(numbers))} of {total:,} lost, p99 {ms(took, 0.99)}",
                 whole and came > 0.99 * rate)

    def open(self, server, count):
        """Connects and subscribes many clients, some concurrently."""
        clients = []
        while len(clients) < count:
            group = [self.system.client(server.address) for _ in range(min(32, count - len(clients)))]
            for step in (Client.connect, Client.admitted, Client.subscribe):
                for client in group:
                    step(client)
            clients += group
        return clients


@contextlib.contextmanager
def watching(clients):
    """Returns a function that returns, within so many seconds, the clients with data to read."""
    found = {client.fileno(): client for client in clients}
    poll = select.epoll()
    for fileno in found:
        poll.register(fileno, select.EPOLLIN)

    def ready(seconds):
        some = [found[fileno] for fileno, _ in poll.poll(seconds)]
        for client in some:
            if not client.open:
                poll.unregister(client.fileno())
        return [client for client in some if client.open]

    try:
        yield ready
    finally:
        poll.close()


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(share * len(values)))] if values else float("inf")


def ms(values, share):
    return f"{percentile(values, share) * 1e3:.2f} ms"


def write(path, text):
    """Replaces the text between the two comments."""
    path = pathlib.Path(path)
    first, last = "<!-- figures -->", "<!-- /figures -->"
    before, found, rest = path.read_text().partition(first)
    _, ended, after = rest.partition(last)
    if not (found and ended):
        sys.exit(f"{path} lacks {first} or {last}")
    path.write_text(f"{before}{first}\n\n{text}\n\n{last}{after}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default=ROOT / "target/release/tidings", help="the server (target/release/tidings)")
    parser.add_argument("--only", metavar="NAME", choices=[system.name for system in SYSTEMS], help="one system")
    parser.add_argument("--idle", type=float, default=25, help="seconds for which 10,000 are held idle (25)")
    parser.add_argument("--note", default="", help="a word on this run, to stand above the table")
    parser.add_argument("--json", metavar="FILE", help="also write the rows there")
    parser.add_argument("--write", metavar="FILE", help="also put the table between the comments of this document")
    options = parser.parse_args()
    options.binary = os.path.abspath(options.binary)
    if not os.access(options.binary, os.X_OK):
        parser.error(f"there is no {options.binary}: cargo build --release, or --binary")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most < MANY + 500:
        parser.error(f"{MANY:,} connections need as many open files: ulimit -Hn says {most}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    # SIGTERM must end the server too: the exception runs through every `finally`.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    table = Table()
    with tempfile.TemporaryDirectory(prefix="tidings-systems-") as directory:
        for system in SYSTEMS:
            if options.only in (None, system.name):
                Bench(options, directory, table, system).all()
    version = subprocess.run([options.binary, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    note = f"{options.note} " if options.note else ""
    text = f"{note}`{version}`, {os.cpu_count()} processors, server and clients on one machine.\n\n{table.markdown()}"
    print(text)
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps({"version": version, "rows": table.rows}, indent=1) + "\n")
    if options.write:
        write(options.write, text)
    sys.exit(0 if all(row["met"] for row in table.rows) else 1)


if __name__ == "__main__":
    main()
