"""A FastAPI application that lets its users into Tidings by their session cookie.

    HOOKS_SECRET=whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw uvicorn app:app --port 3000

README.md has the configuration of Tidings.
"""

import base64
import hashlib
import hmac
import json
import os
import secrets
import time
from http.cookies import SimpleCookie
from typing import Any

from fastapi import FastAPI, HTTPException, Request, Response

KEY = base64.b64decode(os.environ["HOOKS_SECRET"].removeprefix("whsec_"))
# What a database would hold.
SESSIONS: dict[str, str] = {}
ROOMS = {"room:1": {"ann", "bob"}, "room:2": {"bob"}}

app = FastAPI()


def is_genuine(headers: Any, body: bytes) -> bool:
    """Whether a request is from Tidings and not older than five minutes (Standard Webhooks)."""
    timestamp = headers.get("webhook-timestamp", "")
    if not timestamp.isdigit() or abs(time.time() - int(timestamp)) > 300:
        return False
    signed = f"{headers.get('webhook-id')}.{timestamp}.".encode() + body
    expected = base64.b64encode(hmac.digest(KEY, signed, hashlib.sha256)).decode()
    given = headers.get("webhook-signature", "").split(" ")
    return any(hmac.compare_digest(f"v1,{expected}", one) for one in given)


def refuse(code: str, message: str) -> dict[str, Any]:
    return {"allow": False, "code": code, "message": message}


def connect(question: dict[str, Any]) -> dict[str, Any]:
    """Who the cookie belongs to."""
    cookie = SimpleCookie(question["headers"].get("cookie", "")).get("session")
    user = SESSIONS.get(cookie.value) if cookie else None
    if user is None:
        return refuse("unauthenticated", "log in first")
    return {"allow": True, "user": user, "roles": ["member"], "expires_at": int(time.time()) + 3600}


def subscribe(question: dict[str, Any]) -> dict[str, Any]:
    """Members of a room may follow it; the answer counts for a minute."""
    if question["connection"]["user"] not in ROOMS.get(question["channel"], set()):
        return {**refuse("permission_denied", "you are not in this room"), "cache_seconds": 60}
    return {"allow": True, "cache_seconds": 60}


def publish(question: dict[str, Any]) -> dict[str, Any]:
    """Adds the author, whom a client can't forge."""
    refused = subscribe(question)
    if not refused["allow"]:
        return refused
    author = question["connection"]["user"]
    return {"allow": True, "data": {"text": str(question["data"].get("text", "")), "author": author}}


def rpc(question: dict[str, Any]) -> dict[str, Any]:
    """What a page may call."""
    if question["method"] != "rooms":
        return refuse("not_found", f"there is no method {question['method']}")
    user = question["connection"]["user"]
    return {"allow": True, "data": sorted(room for room, members in ROOMS.items() if user in members)}


ANSWERS = {"connect": connect, "subscribe": subscribe, "publish": publish, "rpc": rpc}


@app.post("/tidings")
async def tidings(request: Request) -> dict[str, Any]:
    # The signature is over the bytes as received.
    body = await request.body()
    if not is_genuine(request.headers, body):
        raise HTTPException(401)
    question = json.loads(body)
    return ANSWERS[question["type"]](question)


@app.post("/login")
async def login(user: str, response: Response) -> dict[str, str]:
    session = secrets.token_urlsafe(32)
    SESSIONS[session] = user
    response.set_cookie("session", session, httponly=True, samesite="strict")
    return {"user": user}
