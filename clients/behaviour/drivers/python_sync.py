"""Driver of the synchronous client for Python."""

import json
import sys

from tidings import Backoff, Event, NewEvent, Position, TidingsError
from tidings.sync import Tidings

case = json.loads(sys.argv[1])
tokens = list(case.get("tokens", []))
token = (lambda: tokens.pop(0)) if tokens else case.get("token")


def say(*words: object) -> None:
    """Prints one line."""
    print(*words, flush=True)


def publish(tidings: Tidings, count: int) -> None:
    """Publishes events one after the other, or as a stream."""
    events = [NewEvent(channel="project:1", type="n", data=n) for n in range(count)]
    if case.get("stream"):
        publisher = tidings.publisher()
        answers = [publisher.publish(event) for event in events]
    for n, event in enumerate(events):
        try:
            answer = answers[n] if case.get("stream") else tidings.submit_event(event)
            published = answer.result()
            assert published.position
            say("published", n, published.position.offset)
        except TidingsError as error:
            say("failed", error.code)


def subscribe(tidings: Tidings, wanted: dict) -> None:
    """Subscribes until the subscription fails."""
    since = {channel: Position.parse(text) for channel, text in wanted.get("since", {}).items()}
    subscription = tidings.subscribe(
        *wanted["channels"],
        since=since,
        rewind=wanted.get("rewind", 0),
        durable=wanted.get("durable", ""),
        auto_ack=wanted.get("auto_ack", False),
        min_interval=wanted.get("min_interval_ms", 0) / 1000,
    )
    try:
        for step in subscription:
            if isinstance(step, Event):
                say("event", step.channel, step.position.offset if step.position else "-")
                for at, offset in wanted.get("acks", []):
                    if step.position and at == step.position.offset:
                        subscription.ack(step.channel, offset)
            elif step.stale:
                say("stale", step.channel)
    except TidingsError as error:
        say("failed", error.code)


with Tidings(case["server"], token=token, backoff=Backoff(0.02, 0.1)) as tidings:
    if "publish" in case:
        publish(tidings, case["publish"])
    else:
        subscribe(tidings, case["subscribe"])
