#!/usr/bin/env python3
"""Measures Tidings against the least that this machine allows, and prints a table.

Builds in release mode, starts one server at a time on loopback, loads it with `tidings bench`,
and ends everything it started. Trust processor time for each delivery and ratios; times by the
clock depend on what else the machine does. Needs nothing but Python and Linux's /proc.

    benches/run.py                 all rows, about ten minutes
    benches/run.py --quick         smaller and shorter, about two minutes
    benches/run.py --only burst    rows whose name contains "burst"
"""

import argparse
import contextlib
import json
import os
import pathlib
import re
import resource
import secrets
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
CONFIG = """
[public]
listen = "127.0.0.1:0"
[internal]
listen = "127.0.0.1:0"
[limits]
connections = 50000
connections_per_user = 50000
connections_per_ip = 50000
[[namespace]]
name = "bench"
history = { size = 0, ttl = "1h" }
subscribe = 'true'
"""


class Server:
    """A child process with its two addresses."""

    def __init__(self, process, ready):
        self.process, self.public, self.internal = process, ready["public"], ready["internal"]

    @property
    def pid(self):
        return str(self.process.pid)


def stop(process):
    """Ends one child: politely, then not."""
    for send in (process.terminate, process.kill):
        if process.poll() is not None:
            return
        send()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=15)


class Bench:
    """Where the binaries are, and how rows are measured."""

    def __init__(self, options, tidings, floor, directory):
        self.options, self.tidings_path, self.floor_path = options, tidings, floor
        self.directory = pathlib.Path(directory)
        self.config = self.directory / "bench.toml"
        self.config.write_text(CONFIG)
        self.environment = {**os.environ, "TIDINGS_AUTH__HS256_SECRET": secrets.token_hex(32)}
        self.seconds = 2 if options.quick else options.seconds
        self.envelope = 180
        self.rows, self.raw, self.starts = [], [], 0

    @contextlib.contextmanager
    def start(self, command):
        self.starts += 1
        ready = self.directory / f"ready-{self.starts}.json"
        log = self.directory / f"server-{self.starts}.log"
        with log.open("wb") as errors:
            process = subprocess.Popen(
                [*command, "--ready-file", ready], env=self.environment, cwd=self.directory,
                stdin=subprocess.DEVNULL, stdout=errors, stderr=errors)
        try:
            deadline = time.monotonic() + 20
            while not ready.exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    sys.exit(f"{command[0]} did not start:\n{log.read_text(errors='replace')[-2000:]}")
                time.sleep(0.02)
            yield Server(process, json.loads(ready.read_text()))
        finally:
            stop(process)

    def tidings(self):
        return self.start([self.tidings_path, "serve", "--config", self.config])

    def floor(self, batch=1):
        return self.start([self.floor_path, "serve", "--envelope", str(self.envelope),
                           "--batch", str(batch), "--seconds", "900"])

    def echo(self):
        return self.start([self.floor_path, "echo", "--seconds", "900"])

    def load(self, server, mode, floor=False, **arguments):
        """Runs `tidings bench` once and gives back its report."""
        if floor:
            arguments["publish"] = "floor"
        arguments = {"duration": self.seconds, "warmup": 1, **arguments}
        command = [self.tidings_path, "bench", "--json", "--mode", mode, "--pid", server.pid,
                   "--url", f"ws://{server.public}/ws", "--grpc", server.internal]
        for name, value in arguments.items():
            command += [f"--{name.replace('_', '-')}", str(value)]
        limit = arguments["duration"] + arguments["warmup"] + 150
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True,
                              timeout=limit, check=False)
        try:
            report = json.loads(done.stdout)
        except ValueError:
            sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
        self.raw.append({"floor": floor, "arguments": arguments, "report": report})
        return report

    def measure_envelope(self):
        """Floor frames shall be as long as Tidings' own, or the ratio is not fair."""
        with self.tidings() as server:
            report = self.load(server, "paced", connections=1, rate=100, duration=0.5, warmup=0.2)
        self.envelope = max(80, round(report["delivery"]["frame_bytes"] - report["size"]))
        print(f"an event's frame is its data and {self.envelope} bytes\n", file=sys.stderr)

    def row(self, name, tidings, floor=None, ratio=None, note=""):
        self.rows.append((name, tidings, floor or "", ratio or "", note))
        print(f"  {name}: {tidings} | {floor or ''} | {ratio or ''} | {note}", file=sys.stderr)

    def pair(self, name, mode, batch=1, floor=None, **arguments):
        """The same traffic on both servers; a row with processor time for each delivery."""
        with self.tidings() as server:
            ours = self.load(server, mode, **arguments)
        least = None
        with self.floor(batch) as server:
            least = self.load(server, mode, floor=True, **{**arguments, **(floor or {})})
        mine, its = cost(ours), cost(least)
        note = f"{latency(ours)}; floor {latency(least)}; {rate(ours)}, floor {rate(least)}{flaws(ours)}"
        self.row(name, per_delivery(ours), per_delivery(least), f"{mine / its:.2f}" if its else "–", note)
        return ours


def cost(report):
    return ((report.get("delivery") or {}).get("cpu") or {}).get("total_us", 0.0)


def per_delivery(report):
    cpu = report["delivery"]["cpu"]
    return f"{cpu['total_us']:.3f} µs (user {cpu['user_us']:.3f})"


def latency(report):
    values = report["delivery"]["latency_ms"]
    if not values["max"]:
        return "no latency: publishing was late by more than the warm-up"
    return f"p50 {values['p50']:.2f} / p99 {values['p99']:.2f} ms"


def rate(report):
    return f"{report['delivery']['per_second']:,.0f}/s"


def flaws(report):
    found = []
    for part, names in (("setup", ["failed"]), ("publish", ["refused"]),
                        ("delivery", ["lost", "duplicate", "reordered", "gaps"])):
        for name in names:
            if count := (report.get(part) or {}).get(name):
                found.append(f"{count} {name}")
    if (late := report["publish"]["behind_ms"]["p99"] if report.get("publish") else 0) > 20:
        found.append(f"publishing late by {late:.0f} ms")
    found += [f"{count} closed with {code}" for code, count in report["closes"].items()]
    return f"; **{', '.join(found)}**" if found else ""


def fan_out(bench):
    bench.pair("fan-out: 1,000 subscribers × 100/s × 200 B", "paced", connections=1000, rate=100)


def burst(bench):
    for connections in (100, 1000):
        # The floor gets its events over TCP; Tidings in batches, so that gRPC does not hide delivery.
        bench.pair(f"burst: {connections:,} subscribers", "burst", batch=64, connections=connections,
                   publish="batch", window=100, floor={"window": 256})


def calls(bench):
    """System calls for each delivery in a burst, as strace counts them."""
    if not bench.options.strace:
        return
    with bench.tidings() as server:
        summary = bench.directory / "strace.txt"
        tracer = subprocess.Popen(["strace", "-c", "-f", "-o", summary, "-p", server.pid],
                                  stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            report = bench.load(server, "burst", connections=100, publish="batch", window=100,
                                duration=3, warmup=0)
        finally:
            tracer.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                tracer.wait(timeout=10)
            stop(tracer)
    if not summary.exists():
        return bench.row("system calls for each delivery, burst of 100", "strace could not attach")
    counts = {}
    for line in summary.read_text().splitlines():
        if found := re.match(r"\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$", line):
            counts[found[2]] = int(found[1])
    counts.pop("total", None)
    deliveries = max(report["delivery"]["deliveries"], 1)
    writes = sum(counts.get(name, 0) for name in ("write", "writev", "sendto", "sendmsg"))
    top = sorted(counts.items(), key=lambda pair: -pair[1])[:4]
    bench.row("system calls for each delivery, burst of 100", f"{sum(counts.values()) / deliveries:.3f}",
              note=f"writes {writes / deliveries:.3f}; {', '.join(f'{n} {c:,}' for n, c in top)}")


def idle(bench):
    connections = 2000 if bench.options.quick else 10000
    found = []
    for start, floor in ((bench.tidings, False), (bench.floor, True)):
        with start() as server:
            # The first connections make what all share; it is not theirs.
            bench.load(server, "connect", floor, connections=50)
            found.append(bench.load(server, "idle", floor, connections=connections))
    ours, least = found
    bench.row(f"idle: memory of each of {connections:,} connections",
              f"{ours['memory']['per_connection']:,.0f} B",
              f"{least['memory']['per_connection']:,.0f} B",
              note=f"processor {ours['idle']['cpu']['total_us']:.2f} µs/s each{flaws(ours)}")


def admission(bench):
    connections = 1000 if bench.options.quick else 5000
    found = []
    for start, floor in ((bench.tidings, False), (bench.floor, True)):
        with start() as server:
            found.append(bench.load(server, "connect", floor, connections=connections)["setup"])
    ours, least = found
    ratio = ours["cpu"]["total_us"] / max(least["cpu"]["total_us"], 0.001)
    bench.row("admission: connect, HS256 token, subscribe",
              f"{ours['cpu']['total_us']:.0f} µs (user {ours['cpu']['user_us']:.0f})",
              f"{least['cpu']['total_us']:.0f} µs", f"{ratio:.2f}",
              f"{ours['per_second']:,.0f}/s, floor {least['per_second']:,.0f}/s; {ours['failed']} failed")


def channels(bench):
    bench.pair("2,000 connections over 1,000 channels, 2 deliveries for each event", "paced",
               connections=2000, channels=1000, rate=2000, publish="stream", window=64)
    bench.pair("1,000 connections, a channel each", "paced",
               connections=1000, channels=1000, rate=2000, publish="stream", window=64)


def half_capacity(bench):
    arguments = {"connections": 100, "publish": "stream"}
    with bench.tidings() as server:
        full = bench.load(server, "burst", **arguments)
        half = max(1.0, full["publish"]["per_second"] / 2)
        report = bench.load(server, "paced", rate=round(half, 2), window=256, **arguments)
    with bench.floor() as server:
        least = bench.load(server, "paced", floor=True, rate=round(half, 2), window=256, connections=100)
    bench.row("latency at half capacity, 100 subscribers", latency(report), latency(least),
              note=f"{half:,.0f} events/s of {2 * half:,.0f}{flaws(report)}")


def growth(bench):
    steps = [(10, 1000), (100, 200), (1000, 50)]
    for connections, events in steps if bench.options.quick else [*steps, (10000, 5)]:
        bench.pair(f"growth: {connections:,} subscribers × {events}/s", "paced",
                   connections=connections, rate=events)
    for size, events in ((100, 50), (1024, 50), (16384, 10)):
        bench.pair(f"growth: {size:,} B × 1,000 subscribers × {events}/s", "paced",
                   connections=1000, rate=events, size=size)


def publish(bench):
    for name, window in (("unary", 64), ("batch", 100), ("stream", 256)):
        found = []
        for start in (bench.tidings, bench.echo):
            with start() as server:
                found.append(bench.load(server, "burst", connections=0, publish=name, window=window)["publish"])
        ours, least = found
        bench.row(f"publish without subscribers: {name}",
                  f"{ours['per_second']:,.0f}/s, {ours['cpu']['total_us']:.2f} µs",
                  f"{least['per_second']:,.0f}/s, {least['cpu']['total_us']:.2f} µs (bare tonic)",
                  f"{ours['cpu']['total_us'] / max(least['cpu']['total_us'], 0.001):.2f}",
                  f"answered p99 {ours['acknowledged_ms']['p99']:.2f} ms, bare {least['acknowledged_ms']['p99']:.2f}; "
                  f"window {window}; {ours['refused']} refused")


ROWS = {"fan-out": fan_out, "burst": burst, "calls": calls, "idle": idle, "admission": admission,
        "channels": channels, "half-capacity": half_capacity, "growth": growth, "publish": publish}


def build(profile):
    """Builds the server and the floor, and gives back where they are."""
    command = ["cargo", "build", "--locked", "--bin", "tidings", "--bin", "floor", "--features", "floor",
               "--message-format=json-render-diagnostics"]
    command += ["--release"] if profile == "release" else []
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    found = {}
    for line in done.stdout.splitlines():
        message = json.loads(line)
        if message.get("executable"):
            found[message["target"]["name"]] = message["executable"]
    return found["tidings"], found["floor"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="smaller and shorter, about two minutes")
    parser.add_argument("--only", metavar="NAME", help=f"rows whose name contains it: {', '.join(ROWS)}")
    parser.add_argument("--seconds", type=float, default=10, help="of each measurement (10)")
    parser.add_argument("--strace", action="store_true", help="also count system calls")
    parser.add_argument("--profile", choices=["release", "dev"], default="release")
    parser.add_argument("--tidings", help="use this binary instead of building")
    parser.add_argument("--floor", help="use this floor server instead of building")
    parser.add_argument("--json", metavar="FILE", help="also write every report there")
    options = parser.parse_args()
    rows = [row for name, row in ROWS.items() if not options.only or options.only in name]
    if not rows:
        parser.error(f"--only knows {', '.join(ROWS)}")
    if not 0.5 <= options.seconds <= 600:
        parser.error("--seconds: 0.5 to 600")
    tidings, floor = options.tidings, options.floor
    if not (tidings and floor):
        built = build(options.profile)
        tidings, floor = tidings or built[0], floor or built[1]
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    # An ended run ends its children too: the exception runs through every `finally`.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="tidings-bench-") as directory:
        bench = Bench(options, os.path.abspath(tidings), os.path.abspath(floor), directory)
        bench.measure_envelope()
        for row in rows:
            row(bench)
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(bench.raw, indent=1))
    print("| what | Tidings | floor | ratio | |\n|---|---|---|---|---|")
    for row in bench.rows:
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
