"""The floods of `attack.py`: each is an ordinary or unauthenticated client that overuses one resource."""

import base64
import json
import os
import select
import socket
import struct
import time

class WebSocket:
    """A connection of text frames (RFC 6455 §5), only the parts needed here."""

    def __init__(self, address, token, source=None):
        self.socket = socket.create_connection(address, timeout=10, source_address=source)
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
        elif len(payload) < 65536:
            head = bytes([0x81, 0xFE]) + len(payload).to_bytes(2, "big")
        else:
            head = bytes([0x81, 0xFF]) + len(payload).to_bytes(8, "big")
        # A mask of zeros leaves the payload unchanged.
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
    """Repeats the attack until the process is killed, whatever the server answers."""

    def forever(target, token):
        if os.sched_getscheduler(0) == os.SCHED_OTHER:
            os.nice(10)
        else:
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
            os.setpriority(os.PRIO_PROCESS, 0, -20)
        while True:
            try:
                attack(target, token)
            except (OSError, ValueError):
                time.sleep(0.01)

    return forever


@again
def at_the_limit(target, token):
    """Twenty connections, each with 50 messages a second, as much as the limits allow."""
    connections = [WebSocket(target.public, token) for _ in range(20)]
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
def beyond_the_limit(target, token):
    """As many messages as fit into the socket, until it is closed; and repeats."""
    connection = WebSocket(target.public, token)
    flood = WebSocket.frame('{"type":"ping"}') * 1000
    try:
        while True:
            connection.socket.sendall(flood)
    finally:
        connection.close()


@again
def in_and_out(target, token):
    """Connects, waits for the first message, disconnects; and repeats."""
    connection = WebSocket(target.public, token)
    connection.expect("connection_established")
    connection.close()


@again
def bare_sockets(target, _token):
    """Opens a thousand connections and sends nothing; and repeats."""
    sockets = [socket.create_connection(target.public, timeout=10) for _ in range(1000)]
    for held in sockets:
        held.close()


def drain(sockets, seconds):
    """Reads from these sockets for this long; ends early if all have ended."""
    deadline = time.monotonic() + seconds
    waiting = list(sockets)
    while waiting and (left := deadline - time.monotonic()) > 0:
        readable, _, _ = select.select(waiting, [], [], left)
        if not readable:
            return
        for ready in readable:
            if not ready.recv(1 << 20):
                waiting.remove(ready)


@again
def filtered_replay(target, token):
    """Requests 500 old events through a filter that iterates over their lists and matches none."""
    connection = WebSocket(target.public, token)
    filters = ["data.list.exists(x, x == 'never' && !x.startsWith('q'))", "data.list.all(x, x.contains('none'))"]
    try:
        for turn in range(1000):
            connection.send(
                {"type": "subscribe", "channels": ["deep:flood"], "rewind": 500, "filter": filters[turn % 2]}
            )
            connection.send({"type": "unsubscribe", "channels": ["deep:flood"]})
            drain([connection.socket], 0.1)
    finally:
        connection.close()


@again
def filtered_publishes(target, token):
    """Fifty different filters on long lists, and publishes of 60 kB to them."""
    subscriber = WebSocket(target.public, token)
    publisher = WebSocket(target.public, token)
    data = json.dumps({"list": ["abcdefgh"] * 5400})
    publish = WebSocket.frame(f'{{"type":"publish","channel":"room:lists","event_type":"a.b","data":{data}}}')
    try:
        for number in range(50):
            subscriber.send(
                {
                    "type": "subscribe",
                    "channels": [f"room:lists{number}", "room:lists"][number % 2 :],
                    "filter": f"data.list.exists(x, x == 'q{number}' || x.endsWith('z{number}'))",
                }
            )
        while True:
            publisher.socket.sendall(publish)
            drain([subscriber.socket, publisher.socket], 0.05)
    finally:
        subscriber.close()
        publisher.close()


@again
def patterns(target, token):
    """126 subscriptions, each with a filter of 22 regular expressions that compile large."""
    connection = WebSocket(target.public, token)
    try:
        for number in range(126):
            tests = " || ".join(f"type.matches('\\\\pL{{6}}{number}{chr(97 + each)}')" for each in range(22))
            connection.send({"type": "subscribe", "channels": [f"room:p{number}"], "filter": tests})
            drain([connection.socket], 0.01)
        drain([connection.socket], 2)
    finally:
        connection.close()


@again
def history_in_memory(target, token):
    """Fills the history of new channels, without end, with events of 60 kB."""
    connection = WebSocket(target.public, token)
    filler = json.dumps("x" * 60_000)
    number = 0
    try:
        while True:
            number += 1
            connection.socket.sendall(
                WebSocket.frame(
                    f'{{"type":"publish","channel":"deep:m{number % 50}","event_type":"a.b","data":{filler}}}'
                )
            )
            drain([connection.socket], 0.005)
    finally:
        connection.close()


@again
def idempotency_keys(target, token):
    """Publishes batches of CloudEvents, each with a key of its own."""
    with socket.create_connection(target.public, timeout=10) as connection:
        while True:
            events = [
                {
                    "specversion": "1.0",
                    "id": os.urandom(8).hex(),
                    "source": "eve",
                    "type": "a.b",
                    "subject": "room:keys",
                    "data": 1,
                }
                for _ in range(200)
            ]
            body = json.dumps(events).encode()
            connection.sendall(
                (
                    "POST /api/v1/events?channel=room:keys HTTP/1.1\r\nHost: x\r\n"
                    f"Authorization: Bearer {token}\r\n"
                    "Content-Type: application/cloudevents-batch+json\r\n"
                    f"Content-Length: {len(body)}\r\n\r\n"
                ).encode()
                + body
            )
            if not connection.recv(1 << 20):
                return


@again
def large_posts(target, token):
    """Eight POSTs of 1 MB at once, to a channel with two expensive filters."""
    subscriber = WebSocket(target.public, token)
    body = json.dumps(
        {"type": "a.b", "channels": ["room:large"], "data": {"list": ["abcdefgh"] * 90_000}}
    ).encode()
    head = (
        f"POST /api/v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()
    posts = []
    try:
        for number in range(2):
            subscriber.send(
                {
                    "type": "subscribe",
                    "channels": ["room:large"],
                    "filter": f"data.list.exists(x, x.contains('q{number}'))",
                }
            )
        posts = [socket.create_connection(target.public, timeout=10) for _ in range(8)]
        for _ in range(10):
            for post in posts:
                post.sendall(head + body)
            drain([*posts, subscriber.socket], 1)
    finally:
        subscriber.close()
        for post in posts:
            post.close()


@again
def slow_bodies(target, token):
    """Five hundred POSTs of 1 MB that never finish."""
    head = (
        f"POST /api/v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
        "Content-Type: application/json\r\nContent-Length: 1000000\r\n\r\n"
    ).encode()
    posts = []
    try:
        for _ in range(500):
            post = socket.create_connection(target.public, timeout=10)
            posts.append(post)
            post.settimeout(0.2)
            try:
                post.sendall(head + b" " * 999_000)
            except OSError:
                pass
        drain(posts, 5)
    finally:
        for post in posts:
            post.close()


def http2(kind, flags, stream, payload):
    """One frame (RFC 9113 §4.1)."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def literal(name, value):
    """A header field without indexing (RFC 7541 §6.2.2), without Huffman code."""
    assert len(name) < 127 and len(value) < 127
    return bytes([0, len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


@again
def unfinished_messages(target, _token):
    """A hundred gRPC messages of 15 MB, without a token and without an end, on one connection."""
    headers = b"".join(
        literal(name, value)
        for name, value in [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", "/tidings.v1.EventService/Publish"),
            (":authority", "127.0.0.1"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ]
    )
    with socket.create_connection(target.internal, timeout=10) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + http2(4, 0, 0, b""))
        connection.settimeout(0.5)
        streams = range(1, 201, 2)
        for stream in streams:
            connection.sendall(http2(1, 4, stream, headers))
            connection.sendall(http2(0, 0, stream, b"\0" + (15_000_000).to_bytes(4, "big")))
        chunk = bytes(16_000)
        for _ in range(1000):
            for stream in streams:
                connection.sendall(http2(0, 0, stream, chunk))
            drain([connection], 0.001)


@again
def idle_internal(target, _token):
    """1,100 sockets to the internal listener that send only the HTTP/2 preface."""
    sockets = []
    try:
        for _ in range(1100):
            idle = socket.create_connection(target.internal, timeout=10)
            sockets.append(idle)
            idle.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + http2(4, 0, 0, b""))
        time.sleep(5)
    finally:
        for idle in sockets:
            idle.close()


@again
def history_pages(target, token):
    """Forty connections that read a page of history each, as fast as they can."""
    connections = [WebSocket(target.public, token) for _ in range(40)]
    try:
        while True:
            for connection in connections:
                connection.send({"type": "history", "channel": "deep:flood", "limit": 1000})
            drain([connection.socket for connection in connections], 0.3)
    finally:
        for connection in connections:
            connection.close()


FLOODS = {
    "at the limit": at_the_limit,
    "beyond the limit": beyond_the_limit,
    "in and out": in_and_out,
    "bare sockets": bare_sockets,
    "filtered replay": filtered_replay,
    "filtered publishes": filtered_publishes,
    "patterns": patterns,
    "history in memory": history_in_memory,
    "idempotency keys": idempotency_keys,
    "large posts": large_posts,
    "slow bodies": slow_bodies,
    "unfinished messages": unfinished_messages,
    "idle internal": idle_internal,
    "history pages": history_pages,
}
