"""How long to wait before trying again."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Backoff:
    """Pauses with full jitter: a random part of a time that doubles with each failure in a row.

    `first` and `longest` are in seconds.
    """

    first: float = 0.5
    longest: float = 15.0

    def __post_init__(self) -> None:
        if not 0 < self.first <= self.longest:
            raise ValueError("expected 0 < first <= longest")

    def pause(self, failures: int, advised: float | None = None) -> float:
        """Seconds to wait after so many failures in a row; never less than what the server advised."""
        jitter = random.random() * min(self.longest, self.first * 2.0 ** min(failures, 30))
        return (advised or 0.0) + jitter
