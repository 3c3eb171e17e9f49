"""Publishes an event and receives it, without asyncio.

Environment: TIDINGS_SERVER (127.0.0.1:50051) and TIDINGS_TOKEN, as `tidings serve --dev` prints it.
"""

import os
from dataclasses import dataclass
from datetime import datetime, timezone

from tidings import Event, Subscribed
from tidings.sync import Tidings


@dataclass
class Greeting:
    """A payload."""

    text: str
    at: datetime


with (
    Tidings(
        os.environ.get("TIDINGS_SERVER", "127.0.0.1:50051"), token=os.environ.get("TIDINGS_TOKEN")
    ) as tidings,
    tidings.subscribe("demo") as subscription,
):
    for step in subscription:
        if isinstance(step, Subscribed):
            tidings.publish("demo", "greeting", Greeting("hello from Python", datetime.now(timezone.utc)))
        elif isinstance(step, Event):
            print(step.type, step.json()["text"])
            break
