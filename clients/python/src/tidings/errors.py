"""Failures, as reported by the server or the network."""

from __future__ import annotations

import grpc
import grpc.aio
from google.rpc import error_details_pb2, status_pb2

_DETAILS = "grpc-status-details-bin"
_CODES = {code.value[0]: code.name.lower() for code in grpc.StatusCode}

# gRPC itself reports these codes for a broken call. The server sends them only with details.
_BROKEN = frozenset({"cancelled", "internal", "unknown"})
# Failures after which a subscription cannot continue.
_FINAL = frozenset(
    {
        "already_exists",
        "data_loss",
        "failed_precondition",
        "invalid_argument",
        "not_found",
        "out_of_range",
        "permission_denied",
        "unauthenticated",
        "unimplemented",
    }
)


class TidingsError(Exception):
    """A request was refused, or failed within its timeout.

    `code` is one of the protocol's codes in lower case, such as `permission_denied`, or `deadline_exceeded`.
    `message` is for developers. `field` names the invalid field, `retry_after` is in seconds, and `channel`
    is the channel whose subscription ended, each if known.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        field: str | None = None,
        retry_after: float | None = None,
        channel: str | None = None,
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.field = field
        self.retry_after = retry_after
        self.channel = channel

    @property
    def passing(self) -> bool:
        """True if the same request may succeed when retried."""
        return self.code == "unavailable" or (
            self.code == "resource_exhausted" and self.retry_after is not None
        )

    @property
    def final(self) -> bool:
        """True if it ends a subscription."""
        return self.code in _FINAL


def from_call(error: grpc.aio.AioRpcError) -> TidingsError:
    """The error of a call that failed."""
    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS and isinstance(value, bytes):
            return from_status(status_pb2.Status.FromString(value))
    code, message = error.code().name.lower(), error.details() or ""
    return TidingsError("unavailable" if code in _BROKEN else code, message)


def from_status(status: status_pb2.Status) -> TidingsError:
    """The error of a status with `google.rpc` details."""
    field, retry_after = None, None
    for detail in status.details:
        wrong, retry = error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
        if detail.Unpack(wrong) and wrong.field_violations:
            field = wrong.field_violations[0].field
        elif detail.Unpack(retry):
            retry_after = retry.retry_delay.ToTimedelta().total_seconds()
    code = _CODES.get(status.code, "unknown")
    return TidingsError(code, status.message, field=field, retry_after=retry_after)
