"""OpenTelemetry, if it is installed (`pip install tidings[otel]`)."""

from __future__ import annotations

try:
    from opentelemetry import propagate
except ImportError:

    def inject(carrier: dict[str, str]) -> None:
        """Does nothing: OpenTelemetry is not installed."""

else:

    def inject(carrier: dict[str, str]) -> None:
        """Adds the current trace context with the configured propagators."""
        propagate.inject(carrier)
