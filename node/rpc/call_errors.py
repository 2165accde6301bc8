"""What a failed call to a peer means here.

A peer tells its error in the trailer, and may lie: only classes that say something about the *call* are taken
from it, its text is bounded and printable, and names the peer. So no peer can make this node believe that its
own disk is damaged, or that a third node broke the rules. Its word that a chunk is damaged on its disk counts
where it was asked for that chunk: for whoever asks, the chunk is gone.
"""

from typing import TypeVar

import grpc
from google.protobuf.message import DecodeError

from kernel.errors import (
    Conflict,
    InvalidRecord,
    Locked,
    LucidError,
    NotFound,
    PeerFault,
    StoreDamaged,
    StoreFull,
    Unavailable,
    UsageError,
)
from lucid.v1 import data_pb2
from node.control.failures import TRAILER
from node.failures import decode_failure

T = TypeVar("T")
MAX_TEXT = 300
_TAKEN = (NotFound, Conflict, Locked, Unavailable, UsageError, StoreFull)


def decode_peer_error(error: grpc.aio.AioRpcError, peer: str, *, is_for_chunk: bool = False) -> LucidError:
    """The error that a failed call stands for.

    Args:
        error: of gRPC.
        peer: what to call the peer in the message.
        is_for_chunk: the peer was asked for bytes of a chunk that it keeps.
    """
    told = _decode_trailer(error)
    if told is not None:
        text = f"{peer}: {make_printable(str(told))}"
        hint = make_printable(told.hint)
        if isinstance(told, InvalidRecord):
            return InvalidRecord(told.reason, text, hint=hint)
        if type(told) in _TAKEN:
            return type(told)(text, hint=hint)
        if is_for_chunk and isinstance(told, StoreDamaged):
            return NotFound(text, hint=hint)
        if isinstance(told, PeerFault):
            return Conflict(text, hint=hint)  # it says that we broke the rules: no fault of the peer's
        return Unavailable(text, hint=hint)
    match error.code():
        case grpc.StatusCode.UNAVAILABLE:
            return Unavailable(f"{peer} cannot be reached", hint="Is it running, and is the address right?")
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return Unavailable(f"{peer} did not answer in time")
        case grpc.StatusCode.UNIMPLEMENTED:
            return Unavailable(f"{peer} does not offer this call")
        case code:
            return Unavailable(f"{peer} failed: {code.name} {make_printable(error.details() or '')}".rstrip())


def check_decoded(response: T | None, peer: str) -> T:
    """A message that a peer sent; gRPC gives None for one that cannot be decoded.

    Raises:
        PeerFault: it cannot.
    """
    if response is None:
        raise PeerFault(f"{peer} sent a message that cannot be decoded")
    return response


def make_printable(text: str) -> str:
    """A text of a stranger, bounded, on one line, without control characters."""
    return "".join(character if character.isprintable() else "?" for character in text[:MAX_TEXT])


def _decode_trailer(error: grpc.aio.AioRpcError) -> LucidError | None:
    for key, value in error.trailing_metadata() or ():
        if key == TRAILER and isinstance(value, bytes):
            try:
                return decode_failure(data_pb2.Failure.FromString(value))
            except DecodeError:
                return None
    return None
