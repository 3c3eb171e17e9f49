"""examples/webhooks-express: webhooks_express.py TIDINGS

Tidings' webhooks pass a recorder on their way to the application. What they report is in /online; a
recorded request is accepted once more without effect, and refused when it is tampered with.
NODE_PATH leads to Express.
"""

import http.server
import json
import sys
import threading

from support import LIMIT, PORT, example, fetch, free_port, until
from websockets.sync.client import connect

SIGNED = ("webhook-id", "webhook-timestamp", "webhook-signature", "content-type")


class Recorder(http.server.ThreadingHTTPServer):
    """Forwards requests to the application and keeps those that it accepted."""

    def __init__(self, application: str) -> None:
        super().__init__(("127.0.0.1", 0), Forward)
        self.application = application
        self.accepted: list[tuple[bytes, dict[str, str]]] = []


class Forward(http.server.BaseHTTPRequestHandler):
    server: Recorder

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name: self.headers[name] for name in SIGNED}
        status, _, _ = fetch(f"{self.server.application}{self.path}", body, headers)
        if status == 204:
            self.server.accepted.append((body, headers))
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


with example("webhooks-express", sys.argv[1]) as one:
    port = str(free_port())
    application = f"http://127.0.0.1:{port}"
    recorder = Recorder(application)
    threading.Thread(target=recorder.serve_forever, daemon=True).start()

    def online() -> dict:
        return json.loads(fetch(f"{application}/online")[1])

    configuration = one.configuration().replace(PORT, str(recorder.server_port))
    with one.running(one.line("node server.js"), "app.log", PORT=port):
        until("the application listens", lambda: fetch(f"{application}/online")[0] == 200)
        with one.server(configuration, "--dev") as bound:
            token = {"Authorization": f"Bearer {one.token(user='ann')}"}
            with connect(f"ws://{bound['public']}/ws", additional_headers=token, proxy=None) as page:
                connection = json.loads(page.recv(LIMIT))["connection_id"]
                page.send(json.dumps({"type": "subscribe", "channels": ["room:1"]}))
                until("ann is online", lambda: online()["users"].get("room:1") == ["ann"])
                present = online()
                assert present["connections"] == {connection: "ann"}, present
                assert "room:1" in present["channels"], present
            until("ann is gone", lambda: online() == {"connections": {}, "channels": [], "users": {}})

            # The request that reported the connection.
            body, headers = next(kept for kept in recorder.accepted if b"connection.opened" in kept[0])

            def status(body: bytes, **changed: str) -> int:
                named = {name.replace("_", "-"): value for name, value in changed.items()}
                return fetch(f"{application}/tidings", body, {**headers, **named})[0]

            signature = headers["webhook-signature"]
            other = signature[:3] + ("B" if signature[3] == "A" else "A") + signature[4:]
            assert status(body.replace(b'"ann"', b'"eve"')) == 401, "another body"
            assert status(body + b" ") == 401, "a longer body"
            assert status(b"") == 401, "no body"
            # Express does not read this body.
            assert status(body, content_type="") == 401, "no type"
            assert status(body, webhook_id="msg_other") == 401, "another id"
            assert status(body, webhook_timestamp=str(int(headers["webhook-timestamp"]) - 1)) == 401, "another time"
            assert status(body, webhook_timestamp="yesterday") == 401, "no time"
            assert status(body, webhook_signature=other) == 401, "another signature"
            assert status(body, webhook_signature="") == 401, "no signature"
            # As it was: accepted, but its events were seen.
            assert status(body) == 204
            assert online()["connections"] == {}, online()
    recorder.shutdown()
print("webhooks-express: ok")
