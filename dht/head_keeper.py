"""Heads that this node keeps for others. Rules: docs/spec/12-head.md.

    stream appended and synced → row committed → receipt

A stream has the heads of one locator, newest last; when it has grown long it is begun again from the rows. A
start remakes rows that are missing or damaged from the streams, and streams from the rows.
"""

from collections import Counter
from collections.abc import Iterable

from google.protobuf.message import DecodeError

from dht import tables
from dht.heads import sign_head_receipt, verify_head_entry
from dht.ports import KeepingPorts, PeerIdentity
from kernel.domains import Network
from kernel.errors import Conflict, InvalidRecord, Reason, StoreDamaged, StoreFull
from kernel.keyed_locks import KeyedLocks
from kernel.ports import Delete, Put
from kernel.signing import PUBLIC_KEY_BYTES, SigningKey
from kernel.uninterrupted import run_to_end
from lucid.v1 import chunk_pb2

MAX_DEVICES = 16
"""Devices under one locator."""

MAX_RESPONSE_BYTES = 900 << 10
MAX_STREAM_BYTES = 4 << 20
OWNER_BYTES = 4 << 20
"""Heads of one owner, together."""

_NS = 1_000_000_000


class HeadKeeper:
    """The newest head of each device, under its locator.

    Attributes:
        problems: what `start` could not mend, one line each.
    """

    def __init__(
        self, ports: KeepingPorts, network: Network, device: SigningKey, *, owner_bytes: int = OWNER_BYTES
    ) -> None:
        self._ports = ports
        self._network = network
        self._device = device
        self._owner_bytes = owner_bytes
        self._used: Counter[bytes] = Counter()
        self._locks: KeyedLocks[bytes] = KeyedLocks()
        self.problems: list[str] = []

    async def start(self) -> None:
        """Makes whole what a killed process left, and counts. Once, before anything else."""
        self.problems = await self.recover()
        for _, kept in self._scan():
            self._used[kept.owner] += kept.ByteSize()

    async def put_head(
        self, caller: PeerIdentity, request: chunk_pb2.PutHeadRequest
    ) -> chunk_pb2.PutHeadResponse:
        """Keeps a head; see `ChunkService.PutHead`. The same one again does no harm.

        Raises:
            InvalidRecord: head or grant break a rule; or NOT_CONSISTENT: the device has signed another head
                under the same sequence.
            Conflict: a newer head of the device is known, or there are too many devices.
            StoreFull: quota or disk.
        """
        entry = request.entry
        head = verify_head_entry(entry, self._network, now_s=self._ports.clock.wall_ns() // _NS)
        kept = await run_to_end(self._keep(caller.owner, entry, head))
        receipt = sign_head_receipt(self._device, self._network, kept.entry.head, kept.stored_ns)
        return chunk_pb2.PutHeadResponse(receipt=receipt)

    async def get_head(self, request: chunk_pb2.GetHeadRequest) -> chunk_pb2.GetHeadResponse:
        """The heads under a locator that have not expired, the youngest first; see `ChunkService.GetHead`.

        Raises:
            InvalidRecord: the locator is none.
        """
        if len(request.locator) != PUBLIC_KEY_BYTES:
            raise InvalidRecord(Reason.MALFORMED, f"a locator has {PUBLIC_KEY_BYTES} bytes")
        now_s = self._ports.clock.wall_ns() // _NS
        found = [(_decode_head(kept), kept.entry) for _, kept in self._scan(request.locator)]
        response = chunk_pb2.GetHeadResponse()
        for head, entry in sorted(found, key=lambda each: each[0].time_s, reverse=True):
            if head.expires_s > now_s and response.ByteSize() + entry.ByteSize() <= MAX_RESPONSE_BYTES:
                response.entries.append(entry)
        return response

    async def sweep(self, now_s: int) -> None:
        """Forgets heads that have expired at Unix time `now_s`."""
        over = [key for key, kept in self._scan() if _decode_head(kept).expires_s <= now_s]
        for locator in dict.fromkeys(key[:PUBLIC_KEY_BYTES] for key in over):
            async with self._locks.hold(locator):
                await run_to_end(self._forget(locator, now_s))

    async def _forget(self, locator: bytes, now_s: int) -> None:
        rows = self._scan(locator)
        stays = {key: _decode_head(kept).expires_s > now_s for key, kept in rows}
        await self._ports.records.commit([Delete(tables.HEADS, key) for key, _ in rows if not stays[key]])
        for key, kept in rows:
            if not stays[key]:
                self._count(kept, -1)
        await self._begin_stream_again(locator, [kept for key, kept in rows if stays[key]])

    async def _keep(
        self, owner: bytes, entry: chunk_pb2.HeadEntry, head: chunk_pb2.Head
    ) -> chunk_pb2.KeptHead:
        key = tables.head_key(head.locator, head.device)
        async with self._locks.hold(head.locator):
            rows = dict(self._scan(head.locator))
            before = rows.get(key)
            if before is not None and not _replaces(entry, head, before):
                return before
            if before is None and len(rows) >= MAX_DEVICES:
                raise Conflict(f"{MAX_DEVICES} devices have heads under this locator already")
            kept = chunk_pb2.KeptHead(entry=entry, owner=owner, stored_ns=self._ports.clock.wall_ns())
            freed = before.ByteSize() if before is not None and before.owner == owner else 0
            if self._used[owner] - freed + kept.ByteSize() > self._owner_bytes:
                raise StoreFull(f"this node keeps heads of at most {self._owner_bytes} bytes for one owner")
            stream = tables.heads_stream(head.locator)
            if self._ports.journal.size(stream) > MAX_STREAM_BYTES:
                await self._begin_stream_again(head.locator, rows.values())
            await self._append(stream, [kept])
            await self._ports.records.commit([Put(tables.HEADS, key, kept.SerializeToString())])
            self._count(before, -1)
            self._count(kept, 1)
            return kept

    async def _append(self, stream: str, heads: Iterable[chunk_pb2.KeptHead]) -> None:
        await self._ports.journal.append(stream, [kept.SerializeToString() for kept in heads])
        await self._ports.journal.sync(stream)

    async def _begin_stream_again(self, locator: bytes, heads: Iterable[chunk_pb2.KeptHead]) -> None:
        stream = tables.heads_stream(locator)
        await self._ports.journal.drop(stream)
        await self._append(stream, heads)

    def _count(self, kept: chunk_pb2.KeptHead | None, sign: int) -> None:
        if kept is not None:
            self._used[kept.owner] += sign * kept.ByteSize()

    def _scan(self, prefix: bytes = b"") -> list[tuple[bytes, chunk_pb2.KeptHead]]:
        """Rows that are intact; those that are not are remade at the next start."""
        rows = []
        for key, value in self._ports.records.scan(tables.HEADS, prefix=prefix, damaged=[]):
            kept = _decode(value)
            if kept is not None:
                rows.append((key, kept))
        return rows

    async def recover(self) -> list[str]:
        """Brings rows and streams in line, after a kill or with an empty index; may be repeated.

        Returns:
            What could not be mended, one line each.
        """
        problems: list[str] = []
        rows = dict(self._scan())
        streams = set(self._ports.journal.streams("heads/"))
        for stream in sorted(streams):
            contents = await self._ports.journal.read(stream)
            if contents.torn_bytes:
                await self._ports.journal.trim(stream)
            problems += [f"journal {stream}: {what}" for what in contents.damaged]
            newest: dict[bytes, chunk_pb2.KeptHead] = {}
            for _, payload in contents.records:
                kept = _decode(payload)
                if kept is not None:
                    head = _decode_head(kept)
                    newest[tables.head_key(head.locator, head.device)] = kept
            missing = [
                Put(tables.HEADS, key, kept.SerializeToString())
                for key, kept in sorted(newest.items(), key=lambda item: item[0])
                if key not in rows and tables.heads_stream(key[:PUBLIC_KEY_BYTES]) == stream
            ]
            await self._ports.records.commit(missing)
        for key in rows:
            locator = key[:PUBLIC_KEY_BYTES]
            if tables.heads_stream(locator) not in streams:
                streams.add(tables.heads_stream(locator))
                await self._append(tables.heads_stream(locator), [kept for _, kept in self._scan(locator)])
        return problems


def _replaces(entry: chunk_pb2.HeadEntry, head: chunk_pb2.Head, before: chunk_pb2.KeptHead) -> bool:
    """True if the head is newer, False if it is the same.

    Raises:
        Conflict: it is older.
        InvalidRecord: NOT_CONSISTENT: another one under the same sequence.
    """
    if entry.head.payload == before.entry.head.payload:
        return False
    known = _decode_head(before).sequence
    if head.sequence == known:
        raise InvalidRecord(Reason.NOT_CONSISTENT, f"the device has another head with sequence {known}")
    if head.sequence < known:
        raise Conflict(f"a head with sequence {known} is known", hint="sign one with a higher sequence")
    return True


def _decode(value: bytes) -> chunk_pb2.KeptHead | None:
    try:
        return chunk_pb2.KeptHead.FromString(value)
    except DecodeError:
        return None


def _decode_head(kept: chunk_pb2.KeptHead) -> chunk_pb2.Head:
    """The head, which was verified when it was taken."""
    try:
        return chunk_pb2.Head.FromString(kept.entry.head.payload)
    except DecodeError as error:
        raise StoreDamaged("a head in the store cannot be decoded") from error
