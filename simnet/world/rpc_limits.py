"""Channel arguments that the simulated gRPC honours, and the sizes of what it sends."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from simnet.world.connection import UNLIMITED_STREAMS

WINDOW_BYTES = 1 << 20
"""A writer waits while so much of what it wrote to one stream is unread."""
FRAME_BYTES = 14
"""Beside a message: its gRPC prefix and its HTTP/2 frame header."""
HEAD_BYTES = 100
"""Of a call beside its metadata, roughly."""
UNREAD_BYTES = 64
"""What even an empty message counts for, so that their number is bounded too."""
_DEFAULT_RECEIVE_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class RpcLimits:
    """Bounds of one channel or server.

    Attributes:
        send_bytes: of a message that is sent; -1 for none.
        receive_bytes: of a message that is received; -1 for none.
        metadata_bytes: of the metadata that are received; -1 for none.
        streams: calls that a connection carries at once.
    """

    send_bytes: int = -1
    receive_bytes: int = _DEFAULT_RECEIVE_BYTES
    metadata_bytes: int = -1
    streams: int = UNLIMITED_STREAMS


def read_options(options: Sequence[tuple[str, Any]]) -> RpcLimits:
    """The bounds that channel arguments ask for; others do not concern a simulated network."""
    given: Mapping[str, Any] = dict(options)
    return RpcLimits(
        send_bytes=given.get("grpc.max_send_message_length", -1),
        receive_bytes=given.get("grpc.max_receive_message_length", _DEFAULT_RECEIVE_BYTES),
        metadata_bytes=given.get("grpc.absolute_max_metadata_size", -1),
        streams=given.get("grpc.max_concurrent_streams", UNLIMITED_STREAMS),
    )
