#!/usr/bin/env python3
"""Compares Tidings with a minimal server (the floor) on this machine, and prints a table.

Builds in release mode, starts one server at a time on loopback, loads it with `tidings bench`,
and ends everything it started. Each row is measured several times, Tidings and the floor in turn,
so that whatever else the machine does meets both alike. The table has the medians; a ratio is the
median of the ratios of each turn, with the least and the greatest behind it. Trust processor time
and ratios; times by the clock depend on what else runs. Needs nothing but Python and Linux's
/proc; takes user time from perf where there is one.

    benches/run.py                 all rows, three turns, about fifteen minutes
    benches/run.py --quick         one turn, smaller and shorter, about three minutes
    benches/run.py --only burst    rows whose name contains "burst"
"""

import argparse
import contextlib
import http.server
import json
import os
import pathlib
import re
import resource
import secrets
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

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
messages_per_second = 0
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
    """Ends one child: by SIGTERM, then by SIGKILL."""
    for send in (process.terminate, process.kill):
        if process.poll() is not None:
            return
        send()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=15)


class Bench:
    """The paths of the binaries, and the settings of a measurement."""

    def __init__(self, options, tidings, floor, directory):
        self.options, self.tidings_path, self.floor_path = options, tidings, floor
        self.directory = pathlib.Path(directory)
        self.config = self.directory / "bench.toml"
        self.config.write_text(CONFIG)
        self.environment = {**os.environ, "TIDINGS_AUTH__HS256_SECRET": secrets.token_hex(32)}
        self.runs = 1 if options.quick else options.runs
        self.seconds = 2 if options.quick else options.seconds
        self.envelope = 180
        self.rows, self.raw, self.starts = [], [], 0

    @contextlib.contextmanager
    def start(self, command, settings=None):
        """One server, with settings in addition to those of `CONFIG`."""
        self.starts += 1
        ready = self.directory / f"ready-{self.starts}.json"
        log = self.directory / f"server-{self.starts}.log"
        with log.open("wb") as errors:
            process = subprocess.Popen(
                [*command, "--ready-file", ready], env={**self.environment, **(settings or {})},
                cwd=self.directory, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors)
        try:
            deadline = time.monotonic() + 20
            while not ready.exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    sys.exit(f"{command[0]} did not start:\n{log.read_text(errors='replace')[-2000:]}")
                time.sleep(0.02)
            yield Server(process, json.loads(ready.read_text()))
        finally:
            stop(process)

    def tidings(self, settings=None):
        return self.start([self.tidings_path, "serve", "--config", self.config], settings)

    def floor(self, batch=1):
        return self.start([self.floor_path, "serve", "--envelope", str(self.envelope),
                           "--batch", str(batch), "--seconds", "900"])

    def echo(self):
        """The bare tonic server, with as many threads as Tidings' runtime: half of the processors."""
        threads = max(1, len(os.sched_getaffinity(0)) // 2)
        return self.start([self.floor_path, "echo", "--threads", str(threads), "--seconds", "900"])

    def load(self, server, mode, floor=False, modest=False, **arguments):
        """Runs `tidings bench` once and returns its report. Modest clients run at low priority, so that they take
        no CPU time from the server, as if they were on another machine."""
        if floor:
            arguments["publish"] = "floor"
        arguments = {"duration": self.seconds, "warmup": 0.5, **arguments}
        command = [self.tidings_path, "bench", "--json", "--mode", mode, "--pid", server.pid,
                   "--url", f"ws://{server.public}/ws", "--grpc", server.internal]
        for name, value in arguments.items():
            command += [f"--{name.replace('_', '-')}", str(value)]
        if modest:
            command = ["nice", "-n", "19", *command]
        limit = arguments["duration"] + arguments["warmup"] + arguments.get("quiet", 0) + 150
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True,
                              timeout=limit, check=False)
        try:
            report = json.loads(done.stdout)
        except ValueError:
            sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
        self.raw.append({"floor": floor, "arguments": arguments, "report": report})
        return report

    def measure_envelope(self):
        """Floor frames must have the length of Tidings' frames, or the ratio is not fair."""
        with self.tidings() as server:
            report = self.load(server, "paced", connections=1, rate=100, duration=0.5, warmup=0.2)
        self.envelope = max(80, round(report["delivery"]["frame_bytes"] - report["size"]))
        print(f"an event's frame is its data and {self.envelope} bytes\n", file=sys.stderr)

    def row(self, name, tidings, floor="", ratio="", note=""):
        self.rows.append((name, tidings, floor, ratio, note))
        print(f"  {name}: {tidings} | {floor} | {ratio} | {note}", file=sys.stderr)

    def turns(self, ours, floor):
        """Measures both servers alternately; returns all results of the one and of the other."""
        pairs = [(ours(), floor()) for _ in range(self.runs)]
        return [pair[0] for pair in pairs], [pair[1] for pair in pairs]

    def pair(self, name, mode, batch=1, floor=None, user=False, **arguments):
        """The same traffic on both servers; a row with CPU time per delivery, and with
        its share of user time if requested."""
        measure = self.with_user_time if user else self.load

        def ours():
            with self.tidings() as server:
                return measure(server, mode, **arguments)

        def least():
            with self.floor(batch) as server:
                return measure(server, mode, floor=True, **{**arguments, **(floor or {})})

        self.deliveries(name, *self.turns(ours, least), user)

    def deliveries(self, name, mine, its, user=False):
        """A row of the cost per delivery on both servers."""
        note = (f"{latency(mine)}; floor {latency(its)}; "
                f"{rate(mine)}, floor {rate(its)}{flaws(*mine)}")
        self.row(name, per_delivery(mine, user), per_delivery(its, user), ratio(mine, its, cost), note)

    def with_user_time(self, server, mode, **arguments):
        """As `load`, with the share of user time measured by perf. The kernel's own accounting
        samples the processor at 250 Hz, in phase with its own timers."""
        if not shutil.which("perf"):
            return self.load(server, mode, **arguments)
        samples = self.directory / "perf.data"
        # Connecting is mostly user time and not part of the measurement: perf starts after a longer
        # warm-up.
        arguments["warmup"] = 3
        perf = subprocess.Popen(["perf", "record", "-q", "-e", "cpu-clock", "-F", "1999", "-D", "2000",
                                 "-o", samples, "-p", server.pid], stdin=subprocess.DEVNULL,
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            report = self.load(server, mode, **arguments)
        finally:
            perf.send_signal(signal.SIGINT)
            stop(perf)
        script = subprocess.run(["perf", "script", "-i", samples, "-F", "ip"],
                                capture_output=True, text=True, check=False)
        addresses = [int(line, 16) for line in script.stdout.split()]
        if len(addresses) > 1000:
            # The upper half of the address space belongs to the kernel.
            share = sum(address < 1 << 63 for address in addresses) / len(addresses)
            cpu = report["delivery"]["cpu"]
            cpu["user_us"] = cpu["total_us"] * share
        return report


def cost(report):
    return report["delivery"]["cpu"]["total_us"]


def median(reports, figure):
    return statistics.median(figure(report) for report in reports)


def spread(values, digits=2):
    """The smallest and the largest, if there are several."""
    return f" ({min(values):,.{digits}f} to {max(values):,.{digits}f})" if len(values) > 1 else ""


def ratio(mine, its, figure):
    """The median of the runs' ratios, and their range."""
    ratios = [figure(one) / max(figure(other), 1e-9) for one, other in zip(mine, its)]
    return f"{statistics.median(ratios):.2f}{spread(ratios)}"


def per_delivery(reports, user=False):
    total = f"{median(reports, cost):.3f} µs"
    if not user:
        return total
    share = median(reports, lambda report: report["delivery"]["cpu"]["user_us"])
    return f"{total} (user {share:.3f})"


def latency(reports):
    middle = {name: median(reports, lambda report: report["delivery"]["latency_ms"][name])
              for name in ("p50", "p99", "max")}
    if not middle["max"]:
        return "no latency: publishing was late by more than the warm-up"
    return f"p50 {middle['p50']:.2f} / p99 {middle['p99']:.2f} ms"


def rate(reports):
    return f"{median(reports, lambda report: report['delivery']['per_second']):,.0f}/s"


def flaws(*reports):
    """The errors of all reports."""
    found = []
    for report in reports:
        for part, names in (("setup", ["failed"]), ("publish", ["refused"]),
                            ("delivery", ["lost", "duplicate", "reordered", "gaps"])):
            for name in names:
                if count := (report.get(part) or {}).get(name):
                    found.append(f"{count} {name}")
        if (late := report["publish"]["behind_ms"]["p99"] if report.get("publish") else 0) > 20:
            found.append(f"publishing late by {late:.0f} ms")
        if report["errors"]:
            found.append(f"{report['errors']} errors")
        found += [f"{count} closed with {code}" for code, count in report["closes"].items()]
    return f"; **{', '.join(found)}**" if found else ""


def fan_out(bench):
    """97 events a second, not 100: with a rate in a simple ratio to the kernel's 250 Hz, it would
    sample the same few moments of every event."""
    bench.pair("fan-out: 1,000 subscribers × 97/s × 200 B", "paced", user=True,
               connections=1000, rate=97, duration=5 * bench.seconds)


def burst(bench):
    for connections in (100, 1000):
        # The floor receives its events over TCP, Tidings in batches, so that the cost of gRPC does not
        # hide that of delivery.
        bench.pair(f"burst: {connections:,} subscribers", "burst", batch=64, connections=connections,
                   publish="batch", window=100, floor={"window": 256})


def calls(bench):
    """System calls for each delivery in a burst, as strace counts them."""
    if not bench.options.strace:
        return
    name = "system calls for each delivery, burst of 100"
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
        return bench.row(name, "strace could not attach")
    counts = {}
    for line in summary.read_text().splitlines():
        if found := re.match(r"\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$", line):
            counts[found[2]] = int(found[1])
    counts.pop("total", None)
    deliveries = max(report["delivery"]["deliveries"], 1)
    writes = sum(counts.get(name, 0) for name in ("write", "writev", "sendto", "sendmsg", "io_uring_enter"))
    top = sorted(counts.items(), key=lambda pair: -pair[1])[:4]
    bench.row(name, f"{sum(counts.values()) / deliveries:.3f}",
              note=f"writes {writes / deliveries:.3f}; {', '.join(f'{n} {c:,}' for n, c in top)}")


def last(bench):
    """How long an event takes to the last of many subscribers."""
    connections = 1000 if bench.options.quick else 10000
    events = 40000 // connections
    arguments = {"connections": connections, "rate": events, "duration": 2 * bench.seconds}

    def ours():
        with bench.tidings() as server:
            return bench.load(server, "paced", **arguments)

    def least():
        with bench.floor() as server:
            return bench.load(server, "paced", floor=True, **arguments)

    def half(report):
        return report["delivery"]["last_ms"]["p50"]

    def show(reports):
        worst = median(reports, lambda report: report["delivery"]["last_ms"]["max"])
        return f"p50 {median(reports, half):.1f} ms, max {worst:.1f}"

    mine, its = bench.turns(ours, least)
    bench.row(f"last of {connections:,} subscribers × {events}/s", show(mine), show(its),
              ratio(mine, its, half), f"{per_delivery(mine)}, floor {per_delivery(its)}{flaws(*mine)}")


def filters(bench):
    """The same traffic with and without ten filters, each of which withholds a tenth."""
    connections = 1000 if bench.options.quick else 10000
    evaluations = []

    def once(count):
        with bench.tidings() as server:
            report = bench.load(server, "paced", connections=connections, rate=40000 // connections,
                                filters=count)
            asked, events = (counter(server, f"tidings_{name}_total")
                             for name in ("filter_evaluations", "events_published"))
            evaluations.append(asked / max(events, 1))
            return report

    some, none = bench.turns(lambda: once(10), lambda: once(0))
    bench.row(f"filters: {connections:,} subscribers, 10 filters, beside none", per_delivery(some),
              f"{per_delivery(none)} (without)", ratio(some, none, cost),
              f"at most {max(evaluations):.2f} evaluations for each event{flaws(*some)}")


def counter(server, name):
    """The sum of a counter over its labels, from the server's own metrics."""
    with urllib.request.urlopen(f"http://{server.internal}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    found = re.findall(rf"^{name}(?:{{[^}}]*}})? ([\d.e+]+)$", text, re.MULTILINE)
    if not found:
        sys.exit(f"the server has no metric {name}")
    return sum(map(float, found))


def buckets(server, name):
    """A histogram of the server's own metrics: bounds, and the number of observations up to each."""
    with urllib.request.urlopen(f"http://{server.internal}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    found = re.findall(rf'^{name}_bucket{{le="([^"]+)"}} ([\d.e+]+)', text, re.MULTILINE)
    if not found:
        sys.exit(f"the server has no histogram {name}")
    return [(float(bound), float(count)) for bound, count in found]


def quantile(share, cumulative):
    """As Prometheus' `histogram_quantile`: observations are assumed to be spread evenly within a bucket."""
    rank, below, lower = share * cumulative[-1][1], 0, 0.0
    for bound, count in cumulative:
        if count >= rank and count > below:
            return lower if bound == float("inf") else lower + (bound - lower) * (rank - below) / (count - below)
        below, lower = count, bound
    return lower


def streams(bench):
    """gRPC subscribers, compared with a bare tonic server that encodes each event once."""
    for connections in (100, 1000):
        arguments = {"connections": connections, "rate": 100, "transport": "grpc"}

        def ours():
            with bench.tidings() as server:
                return bench.load(server, "paced", **arguments)

        def least():
            with bench.echo() as server:
                return bench.load(server, "paced", **arguments)

        bench.deliveries(f"gRPC: {connections:,} streams × 100/s (bare tonic)", *bench.turns(ours, least))


def idle(bench):
    connections = 2000 if bench.options.quick else 10000

    def once(start, floor, mode="idle", **arguments):
        with start() as server:
            # The first connections allocate shared state, which is not counted per connection.
            bench.load(server, "connect", floor, connections=50)
            return bench.load(server, mode, floor, connections=connections, **arguments)

    def bytes_each(report):
        return report["memory"]["per_connection_after"]

    def at_once(report):
        return report["memory"]["per_connection"]

    mine, its = bench.turns(lambda: once(bench.tidings, False), lambda: once(bench.floor, True))
    bench.row(f"idle: memory of each of {connections:,} connections",
              f"{median(mine, bytes_each):,.0f} B{spread([bytes_each(report) for report in mine], 0)}",
              f"{median(its, bytes_each):,.0f} B",
              note=f"half a second after the last one came {median(mine, at_once):,.0f} B{flaws(*mine)}")

    # Memory of a burst is returned after some idle time: wait for that.
    after = [once(bench.tidings, False, mode="burst", publish="batch", window=64, duration=2, quiet=15)
             for _ in range(bench.runs)]
    each = [report["memory"]["per_connection_after"] for report in after]
    bench.row(f"idle after a burst to all {connections:,}", f"{statistics.median(each):,.0f} B{spread(each, 0)}",
              note=f"{rate(after)} in the burst{flaws(*after)}")


def crowd(bench):
    """CPU time of connections that only receive heartbeats: one each during the measurement."""
    _, descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)
    connections, seconds = min(15000, descriptors - 500), 30
    if bench.options.quick:
        connections, seconds = connections // 10, seconds // 10
    found = []
    for _ in range(bench.runs):
        with bench.tidings({"TIDINGS_HEARTBEAT__INTERVAL": f"{seconds}s"}) as server:
            found.append(bench.load(server, "idle", connections=connections, duration=seconds))
    busy = [100 * report["idle"]["cpu"]["busy"] for report in found]
    bench.row(f"idle: {connections:,} connections, a heartbeat in {seconds} s",
              f"{statistics.median(busy):.2f} % of a processor{spread(busy)}", note=flaws(*found)[2:])


def admission(bench):
    connections = 1000 if bench.options.quick else 5000

    def once(start, floor):
        with start() as server:
            return bench.load(server, "connect", floor, connections=connections)

    def each(report):
        return report["setup"]["cpu"]["total_us"]

    def per_second(reports):
        return f"{median(reports, lambda report: report['setup']['per_second']):,.0f}/s"

    mine, its = bench.turns(lambda: once(bench.tidings, False), lambda: once(bench.floor, True))
    user = median(mine, lambda report: report["setup"]["cpu"]["user_us"])
    bench.row("admission: connect, HS256 token, subscribe", f"{median(mine, each):.0f} µs (user {user:.0f})",
              f"{median(its, each):.0f} µs", ratio(mine, its, each),
              f"{per_second(mine)}, floor {per_second(its)}{flaws(*mine)}")


def channels(bench):
    """Few deliveries per event, so that the cost of the publish is visible. The floor takes its events over
    a bare socket. So there are two lines for each case: published over a gRPC stream, where the
    note also compares with the floor and a bare tonic server that takes the same publishes; and
    over the WebSocket, whose path is comparable to the floor's socket."""
    for name, connections in (("2,000 connections over 1,000 channels", 2000),
                              ("1,000 connections, a channel each", 1000)):
        publishing = {"connections": connections, "channels": 1000, "rate": 2000, "window": 64}

        def ours(way):
            with bench.tidings() as server:
                return bench.load(server, "paced", publish=way, **publishing)

        def least():
            with bench.floor() as server:
                return bench.load(server, "paced", True, **publishing)

        def least_and_bare():
            report = least()
            with bench.echo() as server:
                bare = bench.load(server, "paced", **{**publishing, "connections": 0, "publish": "stream"})
            # Each event is delivered to every thousandth connection.
            report["publish_us"] = bare["publish"]["cpu"]["total_us"] * 1000 / connections
            return report

        def together(report):
            return cost(report) + report.get("publish_us", 0)

        mine, its = bench.turns(lambda: ours("stream"), least_and_bare)
        bench.row(f"{name}, published over gRPC", per_delivery(mine), per_delivery(its), ratio(mine, its, cost),
                  f"beside floor and bare tonic, {median(its, together):.1f} µs: "
                  f"{ratio(mine, its, together)}; {latency(mine)}{flaws(*mine)}")
        mine, its = bench.turns(lambda: ours("websocket"), least)
        bench.row(f"{name}, published over WebSocket", per_delivery(mine), per_delivery(its),
                  ratio(mine, its, cost), f"{latency(mine)}; floor {latency(its)}{flaws(*mine)}")


def half_capacity(bench):
    """Latency at half of the rate of a burst."""
    arguments = {"connections": 1000, "publish": "stream"}
    with bench.tidings() as server:
        full = bench.load(server, "burst", **arguments)["publish"]["per_second"]
    bench.pair(f"half of the burst's capacity: 1,000 subscribers × {full / 2:,.0f}/s", "paced",
               batch=64, window=256, rate=round(max(1.0, full / 2), 2), **arguments)


class Sink(http.server.BaseHTTPRequestHandler):
    """A collector that accepts everything; `requests` counts the requests."""
    protocol_version = "HTTP/1.1"
    requests = 0

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        type(self).requests += 1
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def tracing(bench):
    """The same traffic with tracing off, and with one trace in a hundred sent to a collector on
    this machine: the server's processor time, that of its exporting thread included."""
    sink = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Sink)
    threading.Thread(target=sink.serve_forever, daemon=True).start()
    settings = {"TIDINGS_TELEMETRY__OTLP_ENDPOINT": f"http://127.0.0.1:{sink.server_port}",
                "TIDINGS_TELEMETRY__OTLP_PROTOCOL": "http/protobuf",
                "TIDINGS_TELEMETRY__SAMPLE_RATIO": "0.01",
                "OTEL_METRIC_EXPORT_INTERVAL": "1000"}
    for name, mode, arguments in (
            ("1,000 subscribers × 97/s", "paced", {"connections": 1000, "rate": 97, "duration": 2 * bench.seconds}),
            ("burst, 100 subscribers", "burst", {"connections": 100, "publish": "batch", "window": 100})):
        def once(settings, mode=mode, arguments=arguments):
            with bench.tidings(settings) as server:
                return bench.load(server, mode, **arguments)

        mine, off = bench.turns(lambda: once(settings), lambda: once(None))
        bench.row(f"1 % of traces exported: {name}", per_delivery(mine), f"{per_delivery(off)} (tracing off)",
                  ratio(mine, off, cost), f"{latency(mine)}; off {latency(off)}; {rate(mine)}, off {rate(off)}"
                  f"; the collector got {Sink.requests} requests{flaws(*mine, *off)}")
    sink.shutdown()
    if not Sink.requests:
        sys.exit("the collector got nothing")


def handed_over(bench):
    """From the accepted publish to the bytes handed to the socket, by the server's own histogram,
    for events published one by one at a rate that keeps about half of the processors busy."""
    def longest(server):
        token = subprocess.run([bench.tidings_path, "token", "--sub", "bench", "--role", "admin"],
                               env=bench.environment, capture_output=True, text=True, check=True).stdout.strip()
        done = subprocess.run([bench.tidings_path, "stats", "--json", "--server", f"http://{server.internal}"],
                              env={**bench.environment, "TIDINGS_TOKEN": token},
                              capture_output=True, text=True, check=True)
        return float(json.loads(done.stdout)["latency"]["max"].rstrip("s")) * 1000

    def once(modest):
        with bench.tidings() as server:
            report = bench.load(server, "paced", modest=modest, connections=1000, rate=100)
            times = buckets(server, "tidings_delivery_latency_seconds")
            return [*(quantile(share, times) * 1000 for share in (0.5, 0.99)), longest(server),
                    report["delivery"]["cpu"]["busy"]]

    for modest, which in ((False, ""), (True, ", clients that make room")):
        p50, p99, most, busy = zip(*[once(modest) for _ in range(bench.runs)])
        bench.row(f"accepted to handed over: 1,000 subscribers × 100/s{which}",
                  f"p50 {statistics.median(p50):.2f}{spread(p50)} / p99 {statistics.median(p99):.2f}{spread(p99)} ms",
                  note=f"max {statistics.median(most):.1f} ms; {statistics.median(busy):.2f} processors busy")


def growth(bench):
    seconds = bench.seconds / 2
    steps = [(10, 1000), (100, 200), (1000, 50)]
    for connections, events in steps if bench.options.quick else [*steps, (10000, 5)]:
        bench.pair(f"growth: {connections:,} subscribers × {events}/s", "paced",
                   connections=connections, rate=events, duration=seconds)
    for size, events in ((100, 50), (1024, 50), (16384, 10)):
        bench.pair(f"growth: {size:,} B × 1,000 subscribers × {events}/s", "paced",
                   connections=1000, rate=events, size=size, duration=seconds)


def publish(bench):
    for name, window in (("unary", 64), ("batch", 100), ("stream", 256)):
        def once(start):
            with start() as server:
                return bench.load(server, "burst", connections=0, publish=name, window=window)

        def each(report):
            return report["publish"]["cpu"]["total_us"]

        def show(reports):
            per_second = median(reports, lambda report: report["publish"]["per_second"])
            return f"{median(reports, each):.2f} µs, {per_second:,.0f}/s"

        def answered(reports):
            return median(reports, lambda report: report["publish"]["acknowledged_ms"]["p99"])

        mine, its = bench.turns(lambda: once(bench.tidings), lambda: once(bench.echo))
        bench.row(f"publish without subscribers: {name}", show(mine), f"{show(its)} (bare tonic)",
                  ratio(mine, its, each),
                  f"answered p99 {answered(mine):.2f} ms, bare {answered(its):.2f}; window {window}{flaws(*mine)}")


ROWS = {"fan-out": fan_out, "burst": burst, "calls": calls, "last": last, "filters": filters,
        "streams": streams, "idle": idle, "crowd": crowd, "admission": admission, "channels": channels,
        "half-capacity": half_capacity, "handed-over": handed_over, "growth": growth, "publish": publish,
        "tracing": tracing}


def build(profile):
    """Builds the server and the floor, and returns their paths."""
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
    parser.add_argument("--quick", action="store_true", help="one turn, smaller and shorter")
    parser.add_argument("--runs", type=int, default=3, help="turns of each row (3)")
    parser.add_argument("--only", metavar="NAME", help=f"rows whose name contains it: {', '.join(ROWS)}")
    parser.add_argument("--seconds", type=float, default=4, help="of most measurements (4)")
    parser.add_argument("--strace", action="store_true", help="also count system calls")
    parser.add_argument("--profile", choices=["release", "dev"], default="release")
    parser.add_argument("--tidings", help="use this binary instead of building")
    parser.add_argument("--floor", help="use this floor server instead of building")
    parser.add_argument("--json", metavar="FILE", help="also write every report there")
    options = parser.parse_args()
    rows = [row for name, row in ROWS.items() if not options.only or options.only in name]
    if not rows:
        parser.error(f"--only knows {', '.join(ROWS)}")
    if not 1 <= options.runs <= 100:
        parser.error("--runs: 1 to 100")
    if not 0.5 <= options.seconds <= 600:
        parser.error("--seconds: 0.5 to 600")
    tidings, floor = options.tidings, options.floor
    if not (tidings and floor):
        built = build(options.profile)
        tidings, floor = tidings or built[0], floor or built[1]
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    # SIGTERM must end the children too: the exception runs through every `finally`.
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
