"""Tokens, fetched in time and without overlapping calls."""

from __future__ import annotations

import asyncio
import base64
import inspect
import json
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Union

from .errors import TidingsError

log = logging.getLogger("tidings")

TokenProvider = Callable[[], Union[str, Awaitable[str]]]
"""Returns a token (a JWT), sync or async."""

# A new token is fetched this many seconds before the old one expires, or at half of its lifetime.
_EARLY = 60.0


class Tokens:
    """The current token, from a string or a provider."""

    def __init__(self, source: str | TokenProvider | None) -> None:
        self._provider = source if callable(source) else None
        self._token = source if isinstance(source, str) else None
        self._renew_at = float("inf")
        self._ends_at = float("inf")
        self._asking = asyncio.Lock()

    async def get(self) -> str | None:
        """A token that remains valid for a while.

        Raises `unavailable` if the provider fails and there is no valid token.
        """
        if self._provider is None or self._fresh():
            return self._token
        async with self._asking:
            if self._fresh():
                return self._token
            try:
                answer = self._provider()
                token = await answer if inspect.isawaitable(answer) else answer
            except Exception as error:
                if self._token is not None and time.time() < self._ends_at:
                    log.warning(
                        "the token provider failed (%s): going on with the old token", type(error).__name__
                    )
                    return self._token
                text = f"the token provider failed: {type(error).__name__}"
                raise TidingsError("unavailable", text) from error
            self._keep(token)
            return token

    def refused(self, token: str | None) -> bool:
        """The server refused this token. Returns True if there may be another one."""
        if self._provider is None:
            return False
        if token == self._token:
            self._token = None
        return True

    def _fresh(self) -> bool:
        return self._token is not None and time.time() < self._renew_at

    def _keep(self, token: str) -> None:
        self._token = token
        self._ends_at = expiry(token)
        left = self._ends_at - time.time()
        self._renew_at = self._ends_at - min(_EARLY, left / 2)


def in_a_thread(provider: TokenProvider) -> TokenProvider:
    """The same provider, run in another thread if it is synchronous: it may block."""
    if inspect.iscoroutinefunction(provider):
        return provider

    async def ask() -> str:
        answer = await asyncio.to_thread(provider)
        return await answer if inspect.isawaitable(answer) else answer

    return ask


def expiry(token: str) -> float:
    """The expiry of a JWT, in seconds since 1970. Infinity if it has none."""
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return float(claims["exp"])
    except (IndexError, KeyError, TypeError, ValueError):
        return float("inf")
