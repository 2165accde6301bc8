"""Errors over gRPC: the one place that ties error classes to status codes.

The whole error travels as a `Failure` in the trailing metadata, so the client raises what the server raised.
"""

import grpc
from google.protobuf.message import DecodeError

from kernel.errors import (
    Conflict,
    InvalidRecord,
    LocalError,
    Locked,
    LucidError,
    NotFound,
    PeerFault,
    StoreDamaged,
    StoreError,
    StoreFull,
    StoreTooNew,
    Unavailable,
    UsageError,
)
from lucid.v1 import data_pb2
from node.failures import decode_failure, encode_failure

TRAILER = "lucid-failure-bin"

# The first class that fits decides: subclasses stand before their base.
_CODES: tuple[tuple[type[LucidError], grpc.StatusCode], ...] = (
    (UsageError, grpc.StatusCode.INVALID_ARGUMENT),
    (NotFound, grpc.StatusCode.NOT_FOUND),
    (Conflict, grpc.StatusCode.FAILED_PRECONDITION),
    (Locked, grpc.StatusCode.PERMISSION_DENIED),
    (Unavailable, grpc.StatusCode.UNAVAILABLE),
    (LocalError, grpc.StatusCode.INTERNAL),
    (PeerFault, grpc.StatusCode.ABORTED),
    (StoreFull, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (StoreDamaged, grpc.StatusCode.DATA_LOSS),
    (StoreTooNew, grpc.StatusCode.FAILED_PRECONDITION),
    (StoreError, grpc.StatusCode.INTERNAL),
    (InvalidRecord, grpc.StatusCode.DATA_LOSS),
    (LucidError, grpc.StatusCode.UNKNOWN),
)


def get_status_code(error: LucidError) -> grpc.StatusCode:
    """The status code that stands for an error."""
    return next(code for kind, code in _CODES if isinstance(error, kind))


def encode_trailer(error: LucidError) -> tuple[tuple[str, bytes], ...]:
    """Trailing metadata that carries an error."""
    return ((TRAILER, encode_failure(error).SerializeToString()),)


def decode_call_error(error: grpc.RpcError) -> LucidError:
    """The error that a failed call stands for; without one of the daemon's own, what gRPC says."""
    if not isinstance(error, grpc.Call):
        return Unavailable(f"the daemon does not answer: {error}")
    for key, value in error.trailing_metadata() or ():
        if key == TRAILER and isinstance(value, bytes):
            try:
                return decode_failure(data_pb2.Failure.FromString(value))
            except DecodeError:
                break
    code = error.code()
    if code == grpc.StatusCode.DEADLINE_EXCEEDED:
        return Unavailable("the daemon did not answer in time", hint="Look at its log.")
    if code == grpc.StatusCode.UNAVAILABLE:
        return Unavailable("the daemon went away", hint="Start it again: lucid-node run")
    return LucidError(f"the daemon failed: {error.details()}", hint="Look at its log.")
