#!/usr/bin/env python3
"""One trace from a publisher to a page, held together by a collector that knows none of them.

A Python program with a span of its own publishes with clients/python; a page in headless Chromium
follows with clients/js; both server and program send their spans to a collector (rotel). What the
collector has in the end must be one tree: publisher → call → publish → commit → fanout → deliver →
receive, the last one as long as the page's handler took.

    tests/trace/trace.py             with TIDINGS_BIN, or target/debug/tidings

Needs what `.ci/run trace` installs: the packages rotel, opentelemetry-sdk and -exporter-otlp of
PyPI, clients/python, the built clients/js, and Chromium.
"""

import asyncio
import contextlib
import json
import os
import pathlib
import re
import secrets
import socket
import subprocess
import sys
import tempfile
import time

import rotel
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from tidings import Tidings

ROOT = pathlib.Path(__file__).resolve().parents[2]
TIDINGS = os.environ.get("TIDINGS_BIN", ROOT / "target/debug/tidings")
CHANNEL = "room:trace"
DEADLINE = 60
CONFIG = """
[public]
listen = "127.0.0.1:0"
allowed_origins = ["*"]
[internal]
listen = "127.0.0.1:0"
[auth]
hs256_secret = "{secret}"
[telemetry]
otlp_endpoint = "http://{collector}"
delivery_spans = 1.0
[[namespace]]
name = "room"
history = {{ size = 100, ttl = "1h" }}
subscribe = 'true'
[history]
storage = "disk"
path = "data"
"""
# Each span with its parent's name.
TREE = {
    "place order": None,
    "tidings.v1.EventService/Publish": "place order",
    "publish room": "tidings.v1.EventService/Publish",
    "commit": "publish room",
    "fanout": "commit",
    "deliver": "fanout",
    "receive": "deliver",
}


def free_ports(count):
    """Ports that nobody listens on, for a collector that can't choose for itself."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def wait_for(what, look):
    """The first answer that is something."""
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.05)
    sys.exit(f"waited {DEADLINE} s for {what}")


@contextlib.contextmanager
def child(command, **options):
    """A process that ends with the block."""
    process = subprocess.Popen([str(part) for part in command], text=True, **options)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def answers(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def spans(text):
    """The spans of the collector's log: name, ids, times and attributes."""
    found = []
    service = ""
    for line in text.splitlines():
        if match := re.match(r"\s+-> service\.name: Str\((.*)\)$", line):
            service = match[1]
        elif re.match(r"Span #\d+$", line):
            found.append({"service": service, "attributes": {}, "links": []})
        elif found:
            span = found[-1]
            if match := re.match(r"\s+(Trace ID|Parent ID|ID|Name|Kind)\s+: (.*)$", line):
                span[match[1].lower()] = match[2].strip()
            elif match := re.match(r"(Start|End) time: (\d+)$", line):
                span[match[1].lower()] = int(match[2])
            elif match := re.match(r"\s+-> ([\w.]+): \w+\((.*)\)$", line):
                span["attributes"][match[1]] = match[2]
            elif match := re.match(r"\s+-> ID: (\w+)$", line):
                span["links"].append(match[1])
    return [span for span in found if "name" in span and "end" in span]


async def publish(server, token):
    """Publishes within a span; its trace, and the event's id."""
    tracer = trace.get_tracer("shop")
    async with Tidings(server, token=token) as client:
        with tracer.start_as_current_span("place order") as span:
            published = await client.publish(CHANNEL, "order.placed", {"order": 7})
            return format(span.get_span_context().trace_id, "032x"), published.id


def check(tree, trace_id, event, seen):
    """That the spans of this trace are the tree, each where it belongs and when."""
    named = {}
    for span in tree:
        assert span["name"] not in named, f"two spans {span['name']}"
        named[span["name"]] = span
    assert set(named) - {"authenticate"} == set(TREE), sorted(named)
    for name, parent in TREE.items():
        expected = named[parent]["id"] if parent else ""
        assert named[name]["parent id"] == expected, f"{name} is no child of {parent}"
        assert named[name]["service"] == ("shop" if name == "place order" else "tidings"), name
    for name in ("publish room", "commit", "fanout", "deliver", "receive"):
        attributes = named[name]["attributes"]
        assert attributes["messaging.system"] == "tidings", name
        assert attributes["messaging.message.id"] == event, name
        assert attributes["messaging.destination.name"] == CHANNEL, name
    assert named["commit"]["end"] <= named["fanout"]["start"]
    for earlier, later in (("fanout", "deliver"), ("deliver", "receive")):
        assert named[earlier]["start"] <= named[later]["start"], f"{later} before {earlier}"
    assert named["fanout"]["id"] in named["deliver"]["links"]
    took = (named["receive"]["end"] - named["receive"]["start"]) / 1e6
    assert 45 <= took < 5_000, f"the handler took {took} ms"
    assert seen["traceparent"] == f"00-{trace_id}-{named['fanout']['id']}-01", seen
    assert seen["id"] == event and seen["data"] == {"order": 7}, seen
    latest = max(span["end"] for span in tree)
    print(f"one tree of {len(tree)} spans, {(latest - named['place order']['start']) / 1e6:.1f} ms")
    for name in TREE:
        span = named[name]
        start = (span["start"] - named["place order"]["start"]) / 1e6
        print(f"  {name:34} {start:8.2f} ms  +{(span['end'] - span['start']) / 1e6:.2f} ms")


def main():
    with contextlib.ExitStack() as stack:
        directory = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tidings-trace-")))
        grpc, http = free_ports(2)
        log = directory / "collector.log"
        agent = pathlib.Path(rotel.__file__).parent / "rotel-agent"
        command = [agent, "start", "--exporter", "blackhole", "--debug-log", "traces", "--debug-log-verbosity",
                   "detailed", "--otlp-grpc-endpoint", f"127.0.0.1:{grpc}", "--otlp-http-endpoint", f"127.0.0.1:{http}"]
        output = stack.enter_context(log.open("wb"))
        stack.enter_context(child(command, stdout=output, stderr=output))
        wait_for("the collector", lambda: answers(grpc))

        secret = secrets.token_hex(32)
        (directory / "tidings.toml").write_text(CONFIG.format(secret=secret, collector=f"127.0.0.1:{grpc}"))
        environment = {**os.environ, "OTEL_BSP_SCHEDULE_DELAY": "100", "TIDINGS_AUTH__HS256_SECRET": secret}
        ready = directory / "ready.json"
        errors = stack.enter_context((directory / "server.log").open("wb"))
        command = [TIDINGS, "serve", "--config", "tidings.toml", "--ready-file", ready]
        stack.enter_context(child(command, cwd=directory, env=environment, stdout=errors, stderr=errors))
        wait_for("the server", ready.exists)
        addresses = json.loads(ready.read_text())

        def token(*arguments):
            command = [str(TIDINGS), "token", *arguments]
            return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.strip()

        command = ["node", ROOT / "tests/trace/page.mjs", f"ws://{addresses['public']}/ws", token("--sub", "ann"), CHANNEL]
        page = stack.enter_context(child(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        first = json.loads(page.stdout.readline() or "{}")
        assert first == {"following": CHANNEL}, first

        provider = TracerProvider(resource=Resource.create({"service.name": "shop"}))
        provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(f"http://127.0.0.1:{grpc}", insecure=True)))
        trace.set_tracer_provider(provider)
        service = token("--sub", "shop", "--role", "service")
        trace_id, event = asyncio.run(publish(addresses["internal"], service))
        provider.shutdown()
        seen = json.loads(page.stdout.readline() or "{}")
        assert "event" in seen, seen

        def whole():
            own = [span for span in spans(log.read_text(errors="replace")) if span["trace id"] == trace_id]
            return own if set(TREE) <= {span["name"] for span in own} else None

        check(wait_for("all spans", whole), trace_id, event, seen["event"])
        page.stdin.close()
        page.wait(timeout=30)


if __name__ == "__main__":
    main()
