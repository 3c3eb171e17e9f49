"""OpenTelemetry, where it is installed (`pip install tidings[otel]`)."""

from __future__ import annotations

try:
    from opentelemetry import propagate
except ImportError:

    def inject(carrier: dict[str, str]) -> None:
        """Nothing to add: OpenTelemetry is not installed."""

else:

    def inject(carrier: dict[str, str]) -> None:
        """Adds the current trace context, as the configured propagators write it."""
        propagate.inject(carrier)
