"""What is known of held chunks, on disk: a row of the index, and a stream from which it can be remade.

    stream noted and synced → blob durable → row committed → receipt         (to take a chunk)
    row deleted → blob removed → stream dropped → answer                     (to let one go)

So the stream is there before the blob and goes after it. A start after a kill finds

    stream, blob, no row    taken, or being let go, and not acknowledged: the row is remade
    stream, no blob, no row nothing that was acknowledged: the stream is dropped
    row, no stream          a stream that was being shortened: it is written again
    row, no blob            the disk lost it: reported; the leases stay until they end

Each record of a stream is the whole `Holding`; the last intact one counts. The first one holds the leaf
hashes besides, so that serving a chunk does not mean hashing it. A stream that has grown long is dropped and
begun again while the row holds the same.
"""

from collections.abc import Sequence
from contextlib import suppress

from google.protobuf.message import DecodeError

from dht import tables
from dht.lease import CHUNK_ID_BYTES
from dht.ports import KeepingPorts
from kernel.errors import StoreDamaged, StoreError
from kernel.ports import Delete, Put
from lucid.v1 import chunk_pb2

MAX_STREAM_BYTES = 256 << 10
_SLICE_ROWS = 256


class HoldingStore:
    """Rows and streams of held chunks. One chunk is changed by one at a time: callers see to it."""

    def __init__(self, ports: KeepingPorts) -> None:
        self._ports = ports

    def get(self, chunk_id: bytes) -> chunk_pb2.Holding | None:
        """What is held of a chunk, None if nothing.

        Raises:
            StoreDamaged: its row is damaged.
        """
        value = self._ports.records.get(tables.HOLDINGS, chunk_id)
        return None if value is None else _decode(chunk_id, value)

    async def note(self, holding: chunk_pb2.Holding, leaves: bytes = b"") -> None:
        """Adds the holding to its stream. Durable on return.

        Args:
            holding: all of it.
            leaves: its leaf hashes, if they are known; kept by a new stream.

        Raises:
            StoreError: it was not noted.
        """
        stream, journal = tables.held_stream(holding.chunk_id), self._ports.journal
        if journal.size(stream) > MAX_STREAM_BYTES:
            leaves = leaves or await self.get_leaves(holding.chunk_id)
            await journal.drop(stream)
        elif journal.size(stream) and (await journal.read(stream)).torn_bytes:
            await journal.trim(stream)
        record = chunk_pb2.Holding()
        record.CopyFrom(holding)
        if journal.size(stream) == 0:
            record.leaves = leaves
        await journal.append(stream, [record.SerializeToString()])
        await journal.sync(stream)

    async def get_leaves(self, chunk_id: bytes) -> bytes:
        """The leaf hashes of a held chunk, one behind the other; empty if they are not known."""
        stream = tables.held_stream(chunk_id)
        for _, payload in (await self._ports.journal.read(stream)).records[:1]:
            with suppress(DecodeError):
                return chunk_pb2.Holding.FromString(payload).leaves
        return b""

    async def index(self, holding: chunk_pb2.Holding) -> None:
        """Commits the row."""
        await self._ports.records.commit(
            [Put(tables.HOLDINGS, holding.chunk_id, holding.SerializeToString())]
        )

    async def unindex(self, chunk_id: bytes) -> None:
        """Deletes the row."""
        await self._ports.records.commit([Delete(tables.HOLDINGS, chunk_id)])

    async def drop(self, chunk_id: bytes) -> None:
        """Removes the stream."""
        await self._ports.journal.drop(tables.held_stream(chunk_id))

    async def scan(self, start: bytes = b"") -> tuple[list[chunk_pb2.Holding], list[bytes], bytes | None]:
        """A slice of the rows, in order.

        Args:
            start: where it begins.

        Returns:
            The holdings, the keys of those that are damaged, and where the next slice begins; None at the
            end.
        """
        return await self._ports.offload.run(self._scan, start)

    def _scan(self, start: bytes) -> tuple[list[chunk_pb2.Holding], list[bytes], bytes | None]:
        damaged: list[bytes] = []
        rows = self._ports.records.scan(tables.HOLDINGS, start=start, limit=_SLICE_ROWS, damaged=damaged)
        holdings = []
        for key, value in rows:
            try:
                holdings.append(_decode(key, value))
            except StoreDamaged:
                damaged.append(key)
        last = max([key for key, _ in rows] + damaged, default=None)
        # A slice is over when it brought nothing; keys have one length, so a zero byte leads to the next one.
        return holdings, damaged, None if last is None else last + b"\0"

    async def recover(self) -> list[str]:
        """Brings rows and streams in line, after a kill or with an empty index; may be repeated.

        Returns:
            What could not be mended, one line each.
        """
        problems: list[str] = []
        streams = set(self._ports.journal.streams("held/"))
        start: bytes | None = b""
        while start is not None:
            holdings, damaged, start = await self.scan(start)
            for holding in holdings:
                stream = tables.held_stream(holding.chunk_id)
                if stream not in streams:
                    await self.note(holding)
                streams.discard(stream)
                if self._ports.blobs.size(holding.chunk_id) is None:
                    problems.append(f"chunk {holding.chunk_id.hex()}, held for others, is gone from the disk")
            for key in damaged:
                if tables.held_stream(key) not in streams:
                    problems.append(f"what is known of the held chunk {key.hex()} is damaged")
        for stream in sorted(streams):
            problems += await self._remake(stream)
        return problems

    async def _remake(self, stream: str) -> Sequence[str]:
        """Remakes the row of a stream that has none, or a damaged one."""
        journal = self._ports.journal
        contents = await journal.read(stream)
        if contents.torn_bytes:
            await journal.trim(stream)
        for _, payload in reversed(contents.records):
            with suppress(DecodeError):
                holding = chunk_pb2.Holding.FromString(payload)
                if tables.held_stream(holding.chunk_id) != stream:
                    continue
                if self._ports.blobs.size(holding.chunk_id) is None or not holding.leases:
                    await journal.drop(stream)
                    await self.unindex(holding.chunk_id)
                else:
                    await journal.sync(stream)  # who appended it may have died before it did
                    holding.ClearField("leaves")
                    await self.index(holding)
                return ()
        if contents.damaged:
            return [f"journal {stream}: {what}" for what in contents.damaged]
        with suppress(StoreError):  # it never held anything; what cannot be removed now is found again
            await journal.drop(stream)
        return ()


def _decode(chunk_id: bytes, value: bytes) -> chunk_pb2.Holding:
    try:
        holding = chunk_pb2.Holding.FromString(value)
    except DecodeError as error:
        raise StoreDamaged(f"the row of held chunk {chunk_id.hex()} cannot be decoded") from error
    if holding.chunk_id != chunk_id or len(chunk_id) != CHUNK_ID_BYTES:
        raise StoreDamaged(f"the row of held chunk {chunk_id.hex()} is about another one")
    return holding
