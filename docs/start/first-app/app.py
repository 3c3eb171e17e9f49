"""The first application: a page, a token for it, and a button whose press becomes an event."""

import asyncio
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import jwt  # PyJWT
import tidings

SECRET = "a secret of 32 bytes or more, only for trying"
PAGE = Path(__file__).with_name("index.html")


def token(user: str, **claims: object) -> str:
    """A token for Tidings: the user, the expiry, and the claims that the rules use."""
    return jwt.encode({"sub": user, "exp": int(time.time()) + 3600, **claims}, SECRET, "HS256")


# The client runs in an event loop of its own: one connection for all requests.
loop = asyncio.new_event_loop()
threading.Thread(target=loop.run_forever, daemon=True).start()


async def connect() -> tidings.Tidings:
    return await tidings.Tidings("127.0.0.1:50051", token=token("shop", roles=["service"])).__aenter__()


events = asyncio.run_coroutine_threadsafe(connect(), loop).result()


class Application(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/token":  # a real application checks the session first
            self.answer(token("ann", projects=["42"]).encode(), "text/plain")
        else:
            self.answer(PAGE.read_bytes(), "text/html; charset=utf-8")

    def do_POST(self) -> None:  # /done
        publish = events.publish("project:42", "project.updated", {"status": "done"})
        receipt = asyncio.run_coroutine_threadsafe(publish, loop).result()
        self.answer(str(receipt.position).encode(), "text/plain")

    def answer(self, body: bytes, content_type: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    print("open http://127.0.0.1:3000/")
    ThreadingHTTPServer(("127.0.0.1", 3000), Application).serve_forever()
