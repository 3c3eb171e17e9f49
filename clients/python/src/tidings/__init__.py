"""Publishes and follows events of a Tidings server. Begin with `Tidings`."""

from .backoff import Backoff
from .client import Tidings
from .connection import Tls
from .errors import TidingsError
from .publisher import Publisher
from .subscription import OnStale, Step, Subscription
from .token import TokenProvider
from .types import (
    Audience,
    Event,
    Gap,
    HistoryPage,
    NewEvent,
    Position,
    Presence,
    Published,
    PublishedTo,
    Subscribed,
)

__all__ = [
    "Audience",
    "Backoff",
    "Event",
    "Gap",
    "HistoryPage",
    "NewEvent",
    "OnStale",
    "Position",
    "Presence",
    "Published",
    "PublishedTo",
    "Publisher",
    "Step",
    "Subscribed",
    "Subscription",
    "Tidings",
    "TidingsError",
    "Tls",
    "TokenProvider",
]
