"""Tokens, TLS, tracing, and operator calls."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import HISTORY, Server, Start, token, until
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from tidings import Subscribed, TidingsError, Tls


async def test_token_is_renewed_before_expiry_without_loss(server: Server) -> None:
    asked = 0

    async def provider() -> str:
        nonlocal asked
        asked += 1
        return token(ttl=2)

    async with server.client(token=provider) as client, server.client() as other:
        following = client.subscribe("project:1")
        seen: list[object] = []
        resumed = 0

        async def follow() -> None:
            nonlocal resumed
            async for step in following:
                if isinstance(step, Subscribed):
                    resumed += step.recovered is True
                    assert not step.stale
                else:
                    seen.append(step)

        reading = asyncio.create_task(follow())
        await until(lambda: following.connection_id != "", "it stands")
        published = 0

        async def renewed() -> bool:
            nonlocal published
            await other.publish("project:1", "n", published)
            published += 1
            return resumed >= 2

        await until(renewed, "the stream has had three tokens")
        await until(lambda: len(seen) == published, "every event has come")
        assert asked >= 3
        assert not reading.done()
        await following.aclose()
        await reading


async def test_concurrent_calls_share_one_token_fetch(server: Server) -> None:
    asked = 0
    go = asyncio.Event()

    async def provider() -> str:
        nonlocal asked
        asked += 1
        await go.wait()
        return token()

    async with server.client(token=provider) as client:
        publishing = [asyncio.create_task(client.publish("project:1", "n", n)) for n in range(20)]
        await until(lambda: asked == 1, "it is asked")
        go.set()
        await asyncio.gather(*publishing)
        assert asked == 1


async def test_refused_token_is_replaced_once(server: Server) -> None:
    answers = ["nonsense", token()]
    async with server.client(token=lambda: answers.pop(0)) as client:
        await client.publish("project:1", "n", 1)
        assert answers == []
    async with server.client(token="nonsense") as client:
        with pytest.raises(TidingsError) as refused:
            await client.publish("project:1", "n", 1)
        assert refused.value.code == "unauthenticated"
        with pytest.raises(TidingsError):
            await client.subscribe("project:1").__anext__()
    async with server.client(token=lambda: "nonsense") as client:
        with pytest.raises(TidingsError):
            await client.subscribe("project:1").__anext__()


async def test_failing_provider_is_retried(server: Server) -> None:
    failures = 2

    def provider() -> str:
        nonlocal failures
        if failures:
            failures -= 1
            raise OSError("the token is secret-token")
        return token()

    async with server.client(token=provider) as client:
        await client.publish("project:1", "n", 1)

    def never() -> str:
        raise OSError("the token is secret-token")

    async with server.client(token=never) as client:
        with pytest.raises(TidingsError) as failed:
            await client.publish("project:1", "n", 1, timeout=0.3)
        assert "secret-token" not in str(failed.value)


async def test_missing_permissions_are_reported(server: Server) -> None:
    async with server.client(token=token("guest")) as client:
        with pytest.raises(TidingsError) as refused:
            await client.publish("project:1", "n", 1)
        assert refused.value.code == "permission_denied"
        with pytest.raises(TidingsError) as refused:
            await client.subscribe("project:1").__anext__()
        assert refused.value.code == "permission_denied"


async def test_history_is_paged(server: Server) -> None:
    async with server.client() as client:
        for n in range(25):
            await client.publish("project:1", "n", n)
        forward = [event.json() async for event in client.history("project:1", page_size=10)]
        assert forward == list(range(25))
        back = [event.json() async for event in client.history("project:1", page_size=10, reverse=True)]
        assert back == list(reversed(range(25)))
        page = await client.history_page("project:1", page_size=10)
        assert (len(page.events), page.position.offset) == (10, 25)
        behind = page.events[-1].position
        rest = [event.json() async for event in client.history("project:1", since=behind)]
        assert rest == list(range(10, 25))


async def test_operators_see_presence(server: Server) -> None:
    async with server.client() as client, client.subscribe("project:1") as following:
        await following.__anext__()
        stats = await client.stats()
        assert stats.connections.by_transport["grpc"] == 1
        presence = await client.presence("project:1")
        assert presence.total == len(presence.users)


async def test_event_continues_trace_of_publisher(server: Server) -> None:
    tracer = TracerProvider().get_tracer("tests")
    async with server.client() as client:
        with tracer.start_as_current_span("publishing") as span:
            await client.publish("project:1", "n", 1)
        [event] = [event async for event in client.history("project:1")]
        assert event.traceparent.split("-")[1] == trace.format_trace_id(span.get_span_context().trace_id)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl to make certificates")
async def test_mutual_tls_works(start: Start, tmp_path: Path) -> None:
    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=tmp_path, check=True, capture_output=True)

    new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    openssl("req", "-x509", *new, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ca", "-days", "2")
    (tmp_path / "names").write_text("subjectAltName=DNS:tidings.test\n")
    for name in ("server", "client"):
        openssl("req", *new, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        issue = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "1", "-extfile", "names"]
        openssl("x509", "-req", "-in", f"{name}.csr", *issue, "-out", f"{name}.pem")
    keys = f'cert = "{tmp_path}/server.pem"\nkey = "{tmp_path}/server.key"\nclient_ca = "{tmp_path}/ca.pem"'
    server = await start(HISTORY, keys)
    ca, name = tmp_path / "ca.pem", "tidings.test"
    cert, key = tmp_path / "client.pem", (tmp_path / "client.key").read_bytes()
    async with server.client(tls=Tls(ca=ca, cert=cert, key=key, server_name=name)) as client:
        await client.publish("project:1", "n", 1)
    async with server.client(tls=Tls(ca=ca, server_name=name), timeout=1) as stranger:
        with pytest.raises(TidingsError):
            await stranger.publish("project:1", "n", 1)
    async with server.client(timeout=1) as plain:
        with pytest.raises(TidingsError):
            await plain.publish("project:1", "n", 1)
