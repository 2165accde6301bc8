"""What each call between nodes may take, in one table; a test compares it with the descriptors.

A method that has no row here is not served. Deadlines hold on both sides; so does `idle_s`, for the side
that waits for the next message of a stream. Rates are those of a token bucket per caller: a peer, wherever it
calls from, or, for strangers, a connection.
"""

from dataclasses import dataclass
from enum import Enum, auto

KIB = 1 << 10
MAX_MESSAGE_BYTES = 1 << 20
MAX_CONCURRENT_CALLS = 4096
MAX_PEER_CALLS = 64
MAX_STRANGER_CALLS = 8
MAX_STRANGERS_PER_METHOD = 64
STRANGERS_RATE_PER_S = 200.0
STRANGERS_BURST = 400
MAX_FRAME_REQUEST_BYTES = 257 * KIB


class Who(Enum):
    """Who may call."""

    ANYBODY = auto()
    PEER = auto()
    """An authenticated peer, and the owner of this node with a token of `lucid-node grpc-token`."""
    OWNER = auto()
    """The owner of this node with such a token, and nobody else."""


@dataclass(frozen=True, slots=True)
class RpcLimit:
    """Bounds of one method.

    Attributes:
        who: who may call it.
        max_request_bytes: of one message.
        rate_per_s: calls of one caller in the long run.
        burst: calls of one caller at once.
        deadline_s: longest time from call to end.
        idle_s: longest silence between two messages of a stream.
        is_hosting: it has this node keep something, for which its operator may have named owners.
    """

    who: Who
    max_request_bytes: int
    rate_per_s: float
    burst: int
    deadline_s: float
    idle_s: float | None = None
    is_hosting: bool = False


_NODE = "lucid.v1.NodeService/"
_CHUNK = "lucid.v1.ChunkService/"
_WITNESS = "lucid.v1.WitnessService/"
_SHARE = "lucid.v1.ShareService/"

METHODS: dict[str, RpcLimit] = {
    _NODE + "Hello": RpcLimit(Who.ANYBODY, 48 * KIB, 2, 20, 15),
    _NODE + "Authenticate": RpcLimit(Who.ANYBODY, 1 * KIB, 2, 20, 15),
    _NODE + "GetInfo": RpcLimit(Who.PEER, 256, 10, 50, 10),
    _NODE + "Ping": RpcLimit(Who.PEER, 256, 20, 100, 20),
    _CHUNK + "PutChunk": RpcLimit(Who.PEER, MAX_FRAME_REQUEST_BYTES, 100, 500, 300, 30, is_hosting=True),
    _CHUNK + "GetChunk": RpcLimit(Who.PEER, 256, 100, 500, 300, 30),
    _CHUNK + "HasChunks": RpcLimit(Who.PEER, 40 * KIB, 20, 100, 15),
    _CHUNK + "AuditChunk": RpcLimit(Who.PEER, 256, 100, 500, 15),
    _CHUNK + "ReleaseChunk": RpcLimit(Who.PEER, 1 * KIB, 200, 2000, 30),
    _CHUNK + "PutHead": RpcLimit(Who.PEER, 66 * KIB, 5, 50, 30, is_hosting=True),
    _CHUNK + "GetHead": RpcLimit(Who.PEER, 256, 5, 50, 15),
    _WITNESS + "Attest": RpcLimit(Who.PEER, 8 * KIB, 50, 500, 15, is_hosting=True),
    _WITNESS + "GetAttested": RpcLimit(Who.PEER, 256, 50, 500, 15),
    _SHARE + "Offer": RpcLimit(Who.PEER, 768 * KIB, 1, 20, 120, is_hosting=True),
    "grpc.health.v1.Health/Check": RpcLimit(Who.ANYBODY, 256, 5, 20, 10),
    "grpc.health.v1.Health/Watch": RpcLimit(Who.PEER, 256, 1, 5, 3600),
    "grpc.reflection.v1.ServerReflection/ServerReflectionInfo": RpcLimit(Who.ANYBODY, 1 * KIB, 2, 20, 30, 10),
    "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": RpcLimit(
        Who.ANYBODY, 1 * KIB, 2, 20, 30, 10
    ),
}
"""Rows by "service/method"."""
