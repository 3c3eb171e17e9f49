"""Publishes and follows events of a Tidings server.

Begin with `Tidings`, for `asyncio`, or with `tidings.sync.Tidings`, which is the same without.
"""

from .admin import Admin
from .background import BackgroundStats
from .backoff import Backoff
from .client import Tidings
from .connection import Tls
from .encoding import Encode, encode
from .errors import TidingsError
from .publisher import Publisher
from .subscription import OnStale, Step, Subscription
from .token import TokenProvider
from .types import (
    Audience,
    Cursor,
    Event,
    Gap,
    HistoryPage,
    NewEvent,
    Position,
    Presence,
    Published,
    PublishedTo,
    Purged,
    Subscribed,
)

__all__ = [
    "Admin",
    "Audience",
    "BackgroundStats",
    "Backoff",
    "Cursor",
    "Encode",
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
    "Purged",
    "Step",
    "Subscribed",
    "Subscription",
    "Tidings",
    "TidingsError",
    "Tls",
    "TokenProvider",
    "encode",
]
