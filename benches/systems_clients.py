"""Clients of the five systems for benches/systems.py, as cheap as Python allows: blocking sockets,
and only the needed parts of RFC 6455 and of Socket.IO over Engine.IO 4."""

import base64
import hashlib
import hmac
import itertools
import json
import os
import re
import socket
import time

PROJECT = "6f1c2a34-9b7d-4e58-8c21-0a5b6c7d8e9f"
NUMBER = re.compile(rb'"n":(\d+)')


class Refused(Exception):
    """The server refused a client."""


class Client:
    """A client of a plain WebSocket; `subscribe` requests the same as the system's page."""

    __slots__ = ("address", "buffer", "open", "socket", "system", "token")

    def __init__(self, system, address, token=None):
        self.system, self.address, self.token = system, address, token
        self.buffer, self.open = bytearray(), False

    def fileno(self):
        return self.socket.fileno()

    def connect(self):
        self.socket = socket.create_connection(self.address, timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET {self.system.path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode())

    def admitted(self):
        """Waits until the server has admitted it."""
        while (end := self.buffer.find(b"\r\n\r\n")) < 0:
            self.read()
        status = bytes(self.buffer[:self.buffer.find(b"\r\n")])
        if b" 101 " not in status:
            raise Refused(status.decode().split(" ", 1)[-1])
        del self.buffer[:end + 4]
        self.open = True
        self.greeted()

    def greeted(self):
        if self.system.greeting:
            self.until(self.system.greeting)

    def subscribe(self):
        for message in self.system.subscribe:
            self.say(message)
        self.until(b'"subscribed"')

    def say(self, message):
        self.send(json.dumps(message))

    def send(self, text, opcode=1):
        payload = text.encode() if isinstance(text, str) else text
        head = bytes([0x80 | opcode, 0x80 | len(payload)])
        if len(payload) > 125:
            head = bytes([0x80 | opcode, 0xFE]) + len(payload).to_bytes(2, "big")
        # A mask of zeros leaves the payload unchanged.
        self.socket.sendall(head + bytes(4) + payload)

    def read(self):
        data = self.socket.recv(1 << 18)
        if not data:
            self.open = False
            raise Refused("closed by the server")
        self.buffer += data

    def frames(self):
        """Takes the complete frames; answers pings and heartbeats, and returns the texts."""
        buffer, at, texts = self.buffer, 0, []
        while len(buffer) >= at + 2:
            length, head = buffer[at + 1], at + 2
            if length > 125:
                size = 2 if length == 126 else 8
                if len(buffer) < head + size:
                    break
                length, head = int.from_bytes(buffer[head:head + size], "big"), head + size
            if len(buffer) < head + length:
                break
            opcode, payload = buffer[at] & 0x0F, bytes(buffer[head:head + length])
            at = head + length
            if opcode == 9:
                self.send(payload, opcode=10)
            elif opcode == 8:
                self.open = False
            elif opcode == 1 and not self.beats(payload):
                texts.append(payload)
        del buffer[:at]
        return texts

    def beats(self, text):
        """Answers a heartbeat, if it is one."""
        if text.startswith(b'{"type":"heartbeat"'):
            self.say({"type": "heartbeat_response"})
            return True
        return False

    def until(self, marker):
        """Reads until a message contains this."""
        while not any(marker in text for text in self.frames()):
            if not self.open:
                raise Refused("closed by the server")
            self.read()

    def taken(self):
        try:
            self.read()
        except (Refused, OSError):
            self.open = False
            return []
        return self.frames()

    def take(self):
        """Reads the available data, and returns the number of events in it."""
        return sum(self.system.marker in text for text in self.taken())

    def numbers(self):
        """Reads the available data, and returns the numbers in it."""
        return [int(found) for text in self.taken() for found in NUMBER.findall(text)]

    def close(self):
        self.socket.close()


class SocketIo(Client):
    """A client of Socket.IO that begins with the WebSocket, as `transports: ["websocket"]` does."""

    __slots__ = ()

    def greeted(self):
        self.until(b'"pingInterval"')
        auth = json.dumps({"token": self.token}) if self.token else ""
        self.send(f"40{self.system.namespace}{auth}")
        # An Engine.IO connect packet of a namespace starts with 40, a refusal with 44.
        self.until(f"40{self.system.namespace}{{".encode())

    def say(self, message):
        self.send(f"42{self.system.namespace}{json.dumps(message)}")

    def beats(self, text):
        if text.startswith(b"44"):
            raise Refused(text.decode())
        if text == b"2":
            self.send("3")
            return True
        return False


class System:
    """A system's protocol messages, and its claims."""

    users = itertools.count()

    def __init__(self, name, claims, memory, kind, channel, event, subscribe, **more):
        self.name = self.preset = name
        self.claims, self.memory, self.kind, self.channel = claims, memory, kind, channel
        self.type, self.data = event
        self.subscribe = subscribe
        self.path, self.namespace, self.token = more.get("path", "/ws"), more.get("namespace", ""), more.get("token")
        self.greeting = more.get("greeting")
        self.marker = f'"{self.type}"'.encode()

    def client(self, address):
        """A client that is not yet connected; if tokens are required, each client is a user of its own."""
        token = mint(f"user-{next(self.users)}", projects=[PROJECT]) if self.token else None
        return self.kind(self, address, token)


class Publisher:
    """Publishes over HTTP on one connection, as a service."""

    SECRET = "a-secret-of-this-measurement-and-of-no-other"

    def __init__(self, address):
        self.socket = socket.create_connection(address, timeout=60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.answers = self.socket.makefile("rb")
        self.token = mint("publisher", roles=["service"])

    def post(self, media, body):
        self.socket.sendall(
            f"POST /api/v1/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {self.token}\r\n"
            f"Content-Type: {media}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)

    def send(self, system):
        body = {"channels": [system.channel], "type": system.type, "data": system.data}
        self.post("application/json", json.dumps(body).encode())

    def answered(self):
        status = self.answers.readline()
        length = 0
        while (line := self.answers.readline()) not in (b"\r\n", b""):
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        body = self.answers.read(length)
        if b" 200 " not in status or b'"code"' in body:
            raise Refused(f"{status.decode().strip()}: {body[:300].decode()}")

    def stream(self, system, total, batch, rate, sent):
        """Publishes this many events a second, in batches, each with its number; records when a batch was sent."""
        due = time.monotonic()
        for first in range(0, total, batch):
            events = [
                {"specversion": "1.0", "id": str(n), "source": "stream", "type": system.type, "subject": system.channel,
                 "data": system.numbered(n)}
                for n in range(first, first + batch)]
            body = json.dumps(events, separators=(",", ":")).encode()
            time.sleep(max(0.0, due - time.monotonic()))
            sent.append(time.monotonic())
            self.post("application/cloudevents-batch+json", body)
            self.answered()
            due += batch / rate


def mint(user, **claims):
    """A JSON Web Token that is valid for an hour."""
    def text(value):
        return base64.urlsafe_b64encode(value).rstrip(b"=")

    head = text(b'{"alg":"HS256","typ":"JWT"}')
    body = text(json.dumps({"sub": user, "exp": int(time.time()) + 3600, **claims}).encode())
    signed = head + b"." + body
    return (signed + b"." + text(hmac.digest(Publisher.SECRET.encode(), signed, hashlib.sha256))).decode()


class Developers(System):
    """The system whose events carry a number, for the stream."""

    def numbered(self, n):
        return {**self.data, "changes": {"n": n}}


class Characteristics(System):
    """The system whose rooms are many."""

    def elsewhere(self):
        """The same system for a client that subscribes to another room than all others."""
        data = {**self.data, "characteristic_id": 900}
        return Characteristics(
            self.name, self.claims, self.memory, self.kind, "characteristic:900", (self.type, data),
            [{"type": "subscribe", "characteristic_ids": [900]}])


ENGINE = "/socket.io/?EIO=4&transport=websocket"
GREETING = b'"connection_established"'
SYSTEMS = [
    System(
        "football", {"admit", "broadcast", "1000"}, "1 MB", Client, "global",
        ("processing_progress", {"job_id": "job-123", "progress": 75.0, "stage": "team_normalization",
                                 "timestamp": "2026-11-21T10:06:53.118Z"}),
        [{"type": "subscribe", "data": {"event_types": ["processing_progress", "system_error"]}}],
        greeting=GREETING),
    Developers(
        "devplatform", {"latency", "held", "stream"}, "5 KB", SocketIo, f"project:{PROJECT}",
        ("project.updated", {"project_id": PROJECT, "project_name": "My Project", "status": "active",
                             "repository_url": "https://git.example.com/my/project", "updated_by": PROJECT,
                             "changes": {"status": "updated"}}),
        [["subscribe", {"room": f"project:{PROJECT}"}]], path=ENGINE, namespace="/ws,", token=True),
    Characteristics(
        "spc", {"look-ups"}, "1 KB", Client, "characteristic:1",
        ("sample", {"sample_id": 123, "characteristic_id": 1, "timestamp": "2026-02-02T12:00:00Z", "value": 10.5,
                    "zone": "zone_c_upper", "in_control": True}),
        [{"type": "subscribe", "characteristic_ids": [1, 2, 3]}]),
    System(
        "photo", {"broadcast", "latency"}, "1 KB", Client, "jobs",
        ("job_progress", {"job_id": "job-7", "photo_id": "photo-42", "stage": "develop", "progress": 45.5}),
        [{"type": "register", "client_type": "mobile", "client_name": "Mobile Web"},
         {"type": "subscribe", "channels": ["jobs", "photos", "sessions"]}],
        greeting=GREETING),
    System(
        "robotics", set(), "", SocketIo, "session:session-1",
        ("session_progress", {"session_id": "session-1", "progress": 62.5, "current_step": "quantization"}),
        [["subscribe_session", {"session_id": "session-1"}]], path=ENGINE),
]
