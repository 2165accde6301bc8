"""Heads of others on disk: rows of the index, and streams from which they can be remade.

    stream appended and synced → row committed → receipt

A stream has the heads of one locator, newest last; when it has grown to several times its rows it is begun
again from them, so that disk is taken in proportion to what is counted. A start remakes rows that are missing
or damaged from the streams, and streams from the rows.
"""

from collections.abc import Iterable

from google.protobuf.message import DecodeError

from dht import tables
from dht.ports import KeepingPorts
from kernel.errors import StoreDamaged
from kernel.ports import Delete, Put
from kernel.signing import PUBLIC_KEY_BYTES
from lucid.v1 import chunk_pb2

LEAST_STREAM_BYTES = 64 << 10
MAX_STREAM_TIMES = 4
"""A stream is begun again when it has grown to so many times its rows, and to more than the least."""


class HeadStore:
    """Rows and streams of heads. One locator is changed by one at a time: callers see to it."""

    def __init__(self, ports: KeepingPorts) -> None:
        self._records = ports.records
        self._journal = ports.journal

    def scan(self, prefix: bytes = b"") -> dict[bytes, chunk_pb2.KeptHead]:
        """Rows that are intact, by key; those that are not are remade at the next start."""
        rows = {}
        for key, value in self._records.scan(tables.HEADS, prefix=prefix, damaged=[]):
            kept = _decode(value)
            if kept is not None:
                rows[key] = kept
        return rows

    async def put(self, key: bytes, kept: chunk_pb2.KeptHead) -> None:
        """Keeps a head. Durable on return."""
        locator = key[:PUBLIC_KEY_BYTES]
        if self._is_long(locator):
            await self._begin_stream_again(locator)
        await self._append(locator, [kept])
        await self._records.commit([Put(tables.HEADS, key, kept.SerializeToString())])

    async def delete(self, keys: Iterable[bytes]) -> None:
        """Forgets heads of one locator. Durable on return."""
        keys = list(keys)
        await self._records.commit([Delete(tables.HEADS, key) for key in keys])
        for locator in dict.fromkeys(key[:PUBLIC_KEY_BYTES] for key in keys):
            await self._begin_stream_again(locator)

    async def recover(self) -> list[str]:
        """Brings rows and streams in line, after a kill or with an empty index; may be repeated.

        Returns:
            What could not be mended, one line each.
        """
        problems: list[str] = []
        rows = self.scan()
        streams = set(self._journal.streams("heads/"))
        for stream in sorted(streams):
            contents = await self._journal.read(stream)
            if contents.torn_bytes:
                await self._journal.trim(stream)
            problems += [f"journal {stream}: {what}" for what in contents.damaged]
            newest = _find_newest(stream, (payload for _, payload in contents.records))
            missing = sorted(newest.keys() - rows.keys())
            if missing:  # who appended them may have died before it synced them
                await self._journal.sync(stream)
            await self._records.commit(
                [Put(tables.HEADS, key, newest[key].SerializeToString()) for key in missing]
            )
        for locator in dict.fromkeys(key[:PUBLIC_KEY_BYTES] for key in rows):
            if tables.heads_stream(locator) not in streams:
                await self._append(locator, self.scan(locator).values())
        return problems

    def _is_long(self, locator: bytes) -> bool:
        size_bytes = self._journal.size(tables.heads_stream(locator))
        if size_bytes <= LEAST_STREAM_BYTES:
            return False
        rows_bytes = sum(kept.ByteSize() for kept in self.scan(locator).values())
        return size_bytes > MAX_STREAM_TIMES * rows_bytes

    async def _append(self, locator: bytes, heads: Iterable[chunk_pb2.KeptHead]) -> None:
        stream = tables.heads_stream(locator)
        await self._journal.append(stream, [kept.SerializeToString() for kept in heads])
        await self._journal.sync(stream)

    async def _begin_stream_again(self, locator: bytes) -> None:
        await self._journal.drop(tables.heads_stream(locator))
        await self._append(locator, self.scan(locator).values())


def decode_head(kept: chunk_pb2.KeptHead) -> chunk_pb2.Head:
    """The head, which was verified when it was taken.

    Raises:
        StoreDamaged: it is none.
    """
    try:
        return chunk_pb2.Head.FromString(kept.entry.head.payload)
    except DecodeError as error:
        raise StoreDamaged("a head in the store cannot be decoded") from error


def _decode(value: bytes) -> chunk_pb2.KeptHead | None:
    try:
        return chunk_pb2.KeptHead.FromString(value)
    except DecodeError:
        return None


def _find_newest(stream: str, payloads: Iterable[bytes]) -> dict[bytes, chunk_pb2.KeptHead]:
    """The last head of each device, by key."""
    newest = {}
    for payload in payloads:
        kept = _decode(payload)
        if kept is not None:
            head = decode_head(kept)
            if tables.heads_stream(head.locator) == stream:
                newest[tables.head_key(head.locator, head.device)] = kept
    return newest
