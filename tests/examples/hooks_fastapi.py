"""examples/hooks-fastapi: hooks_fastapi.py TIDINGS

A cookie from its login lets a WebSocket in as that user; whoever has none is refused, as is a room of
others; a call is answered; and the application answers nobody but Tidings.
"""

import json
import sys

from support import LIMIT, PORT, example, fetch, free_port, until
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect


def ask(page: ClientConnection, message: dict) -> dict:
    """The reply to a message."""
    page.send(json.dumps({**message, "id": 1}))
    while True:
        reply = json.loads(page.recv(LIMIT))
        if reply.get("id") == 1:
            return reply


def received(page: ClientConnection, kind: str) -> dict:
    while True:
        message = json.loads(page.recv(LIMIT))
        if message["type"] == kind:
            return message


def refused(url: str, headers: dict[str, str]) -> bool:
    try:
        with connect(url, additional_headers=headers, open_timeout=LIMIT, proxy=None) as page:
            first = json.loads(page.recv(LIMIT))
            assert first["type"] == "error", first
            page.recv(LIMIT)
    except InvalidStatus as status:
        return status.response.status_code == 401
    except ConnectionClosed as closed:
        return closed.rcvd is not None and closed.rcvd.code == 4401
    return False


def login(application: str, user: str) -> dict[str, str]:
    status, _, headers = fetch(f"{application}/login?user={user}", b"")
    assert status == 200, status
    return {"Cookie": headers["set-cookie"].split(";")[0]}


with example("hooks-fastapi", sys.argv[1]) as one:
    port = str(free_port())
    application = f"http://127.0.0.1:{port}"
    start = one.line("uvicorn app:app").replace(PORT, port)
    with one.running(start, "app.log"), one.server(one.configuration().replace(PORT, port)) as bound:
        until("the application listens", lambda: fetch(f"{application}/openapi.json")[0] == 200)
        url = f"ws://{bound['public']}/ws"
        ann, bob = login(application, "ann"), login(application, "bob")

        assert refused(url, {}), "without a cookie"
        assert refused(url, {"Cookie": "session=forged"}), "with a forged cookie"
        # A browser can't read a status, so it gets a message.
        assert refused(url, {"Origin": f"http://{bound['public']}"}), "a page without a cookie"

        with (
            connect(url, additional_headers=ann, proxy=None) as first,
            connect(url, additional_headers=bob, proxy=None) as second,
        ):
            welcome = received(first, "connection_established")
            assert (welcome["user"], welcome["roles"]) == ("ann", ["member"]), welcome
            assert received(second, "connection_established")["user"] == "bob"
            for page in (first, second):
                reply = ask(page, {"type": "subscribe", "channels": ["room:1"]})
                assert reply["type"] == "subscribed", reply

            reply = ask(first, {"type": "subscribe", "channels": ["room:2"]})
            assert "permission_denied" in json.dumps(reply), reply
            assert "you are not in this room" in json.dumps(reply), reply

            # The author is the one of the cookie, whatever the client says.
            forged = {"text": "hello", "author": "eve"}
            reply = ask(first, {"type": "publish", "channel": "room:1", "event_type": "message", "data": forged})
            assert reply["type"] == "published", reply
            event = received(second, "message")
            assert event["data"] == {"text": "hello", "author": "ann"}, event

            assert ask(first, {"type": "rpc", "method": "rooms"})["data"] == ["room:1"]
            assert ask(second, {"type": "rpc", "method": "rooms"})["data"] == ["room:1", "room:2"]
            reply = ask(first, {"type": "rpc", "method": "missing"})
            assert (reply["type"], reply["code"]) == ("error", "not_found"), reply

        question = json.dumps({"type": "connect", "headers": ann}).encode()
        assert fetch(f"{application}/tidings", question)[0] == 401, "a question that is not signed"
print("hooks-fastapi: ok")
