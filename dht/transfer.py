"""Moving a chunk, every frame checked as it arrives. Rules: docs/spec/10-transfer.md.

Leaf hashes come first and must give the chunk ID; from then on each frame of whole leaves is right or wrong
by itself. So a liar is caught at the first bad frame, a broken transfer goes on behind the last good one, and
one chunk may come from several peers.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from dht.bandwidth import UNPACED, Pace, Patience
from dht.lease import CHUNK_ID_BYTES, HASH_BYTES, MAX_BLOB_BYTES, verify_receipt
from dht.ports import Peer
from kernel.chunk_id import LEAF_BYTES, compute_chunk_id, compute_chunk_leaves
from kernel.domains import Network
from kernel.errors import InvalidRecord, NotFound, PeerFault, Reason, UsageError
from lucid.v1 import chunk_pb2, identity_pb2

FRAME_BYTES = 256 << 10
"""Most bytes of a frame."""

PIECE_BYTES = 4 * FRAME_BYTES
"""So much of a blob is read from the disk at once."""

MAX_LEAVES_BYTES = -(-MAX_BLOB_BYTES // LEAF_BYTES) * HASH_BYTES
"""Length of the leaf hashes of the greatest blob."""


def count_leaves(size_bytes: int) -> int:
    """How many leaves a blob of this length has."""
    return -(-size_bytes // LEAF_BYTES)


def split_leaves(leaves: bytes) -> list[bytes]:
    """Leaf hashes that stand one behind the other."""
    return [leaves[start : start + HASH_BYTES] for start in range(0, len(leaves), HASH_BYTES)]


def check_leaves(chunk_id: bytes, size_bytes: int, leaves: bytes) -> list[bytes]:
    """The leaf hashes, if they and the length give the chunk ID.

    Raises:
        InvalidRecord: TOO_LARGE, MALFORMED or WRONG_HASH.
    """
    if not 0 < size_bytes <= MAX_BLOB_BYTES:
        raise InvalidRecord(Reason.TOO_LARGE, f"a blob of {size_bytes} bytes; {MAX_BLOB_BYTES} are the most")
    if len(chunk_id) != CHUNK_ID_BYTES or len(leaves) != count_leaves(size_bytes) * HASH_BYTES:
        raise InvalidRecord(
            Reason.MALFORMED, f"{len(leaves)} bytes of leaf hashes for {size_bytes} bytes of blob"
        )
    split = split_leaves(leaves)
    if compute_chunk_id(split, size_bytes) != chunk_id:
        raise InvalidRecord(Reason.WRONG_HASH, f"the leaf hashes do not give chunk ID {chunk_id.hex()}")
    return split


def cut(blob: bytes) -> list[bytes]:
    """The frames of a blob, or of a part of it that begins with a frame."""
    return [blob[start : start + FRAME_BYTES] for start in range(0, len(blob), FRAME_BYTES)]


class ChunkReceiver:
    """Takes the bytes of a chunk, or of a range of it, in order, and none that are wrong.

    Args:
        chunk_id: what is expected.
        size_bytes: length of the blob, as announced.
        leaves: leaf hashes one behind the other, as announced.
        start: first byte wanted, a multiple of 4096.
        end: where the range ends, a multiple of 4096 or the size; None: the size.

    Attributes:
        position: first byte that is missing.
        parts: the good bytes from `start` to `position`.

    Raises:
        InvalidRecord: TOO_LARGE, MALFORMED or WRONG_HASH: the announcement does not give the chunk ID.
        UsageError: the range is none.
    """

    def __init__(
        self, chunk_id: bytes, size_bytes: int, leaves: bytes, *, start: int = 0, end: int | None = None
    ) -> None:
        self.leaves = check_leaves(chunk_id, size_bytes, leaves)
        self.size_bytes = size_bytes
        self.end = size_bytes if end is None else end
        if not is_range(size_bytes, start, self.end):
            raise UsageError(f"{start} to {self.end} are no leaves of {size_bytes} bytes")
        self.position = start
        self.parts: list[bytes] = []

    @property
    def is_complete(self) -> bool:
        """True when nothing is missing."""
        return self.position == self.end

    def take(self, frame: bytes) -> None:
        """Adds the next frame.

        Raises:
            InvalidRecord: TOO_LARGE, MALFORMED or WRONG_HASH; nothing was added.
        """
        after = self.position + len(frame)
        if len(frame) > FRAME_BYTES or after > self.end:
            raise InvalidRecord(
                Reason.TOO_LARGE, f"a frame of {len(frame)} bytes at {self.position} of {self.end}"
            )
        if not frame or (after % LEAF_BYTES and after != self.end):
            raise InvalidRecord(Reason.MALFORMED, f"a frame of {len(frame)} bytes is not whole leaves")
        first = self.position // LEAF_BYTES
        found = compute_chunk_leaves(frame)
        if found != self.leaves[first : first + len(found)]:
            raise InvalidRecord(
                Reason.WRONG_HASH, f"the frame at {self.position} has other leaf hashes than announced"
            )
        self.parts.append(frame)
        self.position = after


def is_range(size_bytes: int, start: int, end: int) -> bool:
    """True if `start` to `end` are whole leaves of a blob of this length, or none of them."""
    aligned = all(place % LEAF_BYTES == 0 or place == size_bytes for place in (start, end))
    return aligned and 0 <= start <= end <= size_bytes


@dataclass(slots=True)
class PartialChunk:
    """What has come of a chunk so far. Kept by who fetches, across peers and broken transfers.

    Attributes:
        start: first byte wanted, a multiple of 4096.
        end: where the range ends; None: at the end of the chunk.
        receiver: made when the leaf hashes are known.
    """

    start: int = 0
    end: int | None = None
    receiver: ChunkReceiver | None = field(default=None)


async def get_chunk(
    peer: Peer,
    chunk_id: bytes,
    *,
    max_bytes: int = MAX_BLOB_BYTES,
    partial: PartialChunk | None = None,
    pace: Pace = UNPACED,
) -> bytes:
    """Fetches a chunk, or what is missing of it.

    Args:
        peer: from whom.
        chunk_id: what.
        max_bytes: a longer blob is not fetched.
        partial: what came before, and keeps what came when this raises: the next call, with this peer or
            another, goes on behind it.
        pace: limits on speed and silence.

    Returns:
        The chunk, or the range of it that `partial` names: right, byte by byte.

    Raises:
        PeerFault: the peer sent what is wrong; nothing of that was kept.
        Unavailable: it fell silent.
        LucidError: it refused (`NotFound`, …).
    """
    partial = PartialChunk() if partial is None else partial
    known = partial.receiver
    if known is None or not known.is_complete:
        start = partial.start if known is None else known.position
        length = 0 if partial.end is None else partial.end - start
        request = chunk_pb2.GetChunkRequest(
            chunk_id=chunk_id, offset=start, length=length, without_leaves=known is not None
        )
        responses = peer.get_chunk(request)
        try:
            async with pace.patience() as patience:
                await _receive(peer, responses, chunk_id, max_bytes, partial, pace, patience)
        finally:
            await _close(responses)
    return b"".join(partial.receiver.parts) if partial.receiver else b""


async def _receive(
    peer: Peer,
    responses: AsyncIterator[chunk_pb2.GetChunkResponse],
    chunk_id: bytes,
    max_bytes: int,
    partial: PartialChunk,
    pace: Pace,
    patience: Patience,
) -> None:
    is_open = False
    async for response in responses:
        with blaming(peer):
            if not is_open:
                _open(response, chunk_id, max_bytes, partial)
                is_open = True
                continue
            if partial.receiver is None or response.WhichOneof("kind") != "frame":
                raise InvalidRecord(Reason.MALFORMED, "a message that is no frame stands between frames")
            frame = response.frame  # each look at it makes a copy
            partial.receiver.take(frame)
        await pace.receive(len(frame), patience)
    if partial.receiver is None or not partial.receiver.is_complete:
        raise PeerFault(f"{describe(peer)} ended the transfer of chunk {chunk_id.hex()} early")


def _open(
    response: chunk_pb2.GetChunkResponse, chunk_id: bytes, max_bytes: int, partial: PartialChunk
) -> None:
    """Judges the first message."""
    if response.WhichOneof("kind") != "open":
        raise InvalidRecord(Reason.MALFORMED, "the transfer does not begin with size and leaf hashes")
    size_bytes = response.open.size_bytes
    if size_bytes > max_bytes:
        raise InvalidRecord(Reason.TOO_LARGE, f"{size_bytes} bytes are announced; {max_bytes} are the most")
    if partial.receiver is None:
        partial.receiver = ChunkReceiver(
            chunk_id, size_bytes, response.open.leaves, start=partial.start, end=partial.end
        )
    elif size_bytes != partial.receiver.size_bytes:
        raise InvalidRecord(
            Reason.WRONG_HASH, f"{size_bytes} bytes are announced, which the chunk ID does not give"
        )


async def put_chunk(
    peer: Peer,
    network: Network,
    lease: identity_pb2.Signed,
    blob: bytes | Sequence[bytes] | None,
    *,
    leaves: Sequence[bytes] | None = None,
    size_bytes: int | None = None,
    pace: Pace = UNPACED,
    on_begin: Callable[[int], None] = lambda _: None,
) -> identity_pb2.Signed:
    """Sends a chunk to a holder, from where an earlier try was broken off.

    Args:
        peer: the holder.
        network: where lease and receipt count.
        lease: signed; names this holder and this chunk.
        blob: all of the chunk, or what `cut` makes of it: so it is cut once for all its holders. None if it
            is not here: then the holder must have it, and gets a lease alone.
        leaves: its leaf hashes, if they are known already. Without a blob they must be.
        size_bytes: length of the blob; needed where that is not here.
        pace: limits on speed and silence.
        on_begin: is told from which byte on the holder takes it.

    Returns:
        The holder's receipt, verified: the chunk is durable there.

    Raises:
        PeerFault: the peer broke the protocol, or its receipt does not hold.
        Unavailable: it fell silent.
        NotFound: it does not hold the chunk, and there is no blob.
        LucidError: it refused (`StoreFull`, …).
    """
    frames = cut(blob) if isinstance(blob, bytes) else blob
    if leaves is None:
        leaves = [leaf for frame in frames or () for leaf in compute_chunk_leaves(frame)]
    size_bytes = sum(map(len, frames or ())) if size_bytes is None else size_bytes
    async with pace.patience() as patience:
        sender = _Sender(lease, b"".join(leaves), frames, size_bytes, pace, patience, on_begin)
        responses = peer.put_chunk(sender.requests())
        receipt: identity_pb2.Signed | None = None
        try:
            async for response in responses:
                patience.restart()
                with blaming(peer):
                    receipt = sender.on_response(response, receipt)
                    if receipt is not None:
                        verify_receipt(receipt, network, lease, peer.identity.device)
        finally:
            sender.stop()
            await _close(responses)
    if receipt is None:
        raise PeerFault(f"{describe(peer)} took a chunk and gave no receipt")
    return receipt


async def fetch_leaves(peer: Peer, chunk_id: bytes, size_bytes: int, *, pace: Pace = UNPACED) -> list[bytes]:
    """Fetches the leaf hashes of a chunk, without the chunk.

    Raises:
        PeerFault: they do not give the chunk ID.
        LucidError: the peer is silent, or refused (`NotFound`, …).
    """
    length = LEAF_BYTES if size_bytes > LEAF_BYTES else 0
    responses = peer.get_chunk(chunk_pb2.GetChunkRequest(chunk_id=chunk_id, length=length))
    try:
        async with pace.patience():
            first = await anext(responses, None)
    finally:
        await _close(responses)
    with blaming(peer):
        if first is None or first.WhichOneof("kind") != "open" or first.open.size_bytes != size_bytes:
            raise InvalidRecord(Reason.MALFORMED, "the transfer does not begin with size and leaf hashes")
        return check_leaves(chunk_id, size_bytes, first.open.leaves)


class _Sender:
    """The client's half of `PutChunk`."""

    def __init__(
        self,
        lease: identity_pb2.Signed,
        leaves: bytes,
        frames: Sequence[bytes] | None,
        size_bytes: int,
        pace: Pace,
        patience: Patience,
        on_begin: Callable[[int], None],
    ) -> None:
        self._on_begin = on_begin
        self._open = chunk_pb2.PutOpen(lease=lease, leaves=leaves)
        self._frames = frames
        self._size_bytes = size_bytes
        self._pace = pace
        self._patience = patience
        self._begin: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._sent = 0

    async def requests(self) -> AsyncIterator[chunk_pb2.PutChunkRequest]:
        """What is sent: the opening, then, when the holder has said from where, frames."""
        yield chunk_pb2.PutChunkRequest(open=self._open)
        number, skipped = divmod(await self._begin, FRAME_BYTES)
        for whole in (self._frames or ())[number:]:
            frame, skipped = whole[skipped:], 0
            await self._pace.send(len(frame), self._patience)
            self._sent += len(frame)
            yield chunk_pb2.PutChunkRequest(frame=frame)

    def on_response(
        self, response: chunk_pb2.PutChunkResponse, receipt: identity_pb2.Signed | None
    ) -> identity_pb2.Signed | None:
        """Judges an answer; returns the receipt when it has come."""
        kind = response.WhichOneof("kind")
        if kind == "offset" and not self._begin.done():
            if not is_range(self._size_bytes, response.offset, self._size_bytes):
                raise InvalidRecord(Reason.MALFORMED, f"frames are to begin at {response.offset}")
            if self._frames is None and response.offset < self._size_bytes:
                raise NotFound("the peer does not hold the chunk, which is not here either")
            self._sent = response.offset
            self._begin.set_result(response.offset)
            self._on_begin(response.offset)
            return None
        if kind != "receipt" or receipt is not None:
            raise InvalidRecord(Reason.MALFORMED, "an answer to PutChunk out of turn")
        if not self._begin.done() or self._sent < self._size_bytes:
            raise InvalidRecord(Reason.NOT_CONSISTENT, "a receipt for what was not sent yet")
        return response.receipt

    def stop(self) -> None:
        """Lets `requests` end if nobody has told it where to begin."""
        if not self._begin.done():
            self._begin.set_result(self._size_bytes)


@contextmanager
def blaming(peer: Peer) -> Iterator[None]:
    """Makes bytes that break a rule the fault of the peer that sent them."""
    try:
        yield
    except InvalidRecord as error:
        raise PeerFault(f"{describe(peer)}: {error}") from error


def describe(peer: Peer) -> str:
    """The peer, for messages."""
    return f"peer {peer.identity.device.hex()}"


async def _close(responses: AsyncIterator[object]) -> None:
    """Ends a call that was not read to its end."""
    if isinstance(responses, AsyncGenerator):
        await responses.aclose()
