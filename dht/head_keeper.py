"""Heads that this node keeps for others: the newest one of each device. Rules: docs/spec/12-head.md."""

from collections import Counter
from collections.abc import Mapping

from dht import tables
from dht.head_store import HeadStore, decode_head
from dht.heads import sign_head_receipt, verify_head_entry
from dht.ports import KeepingPorts, PeerIdentity
from kernel.domains import Network
from kernel.errors import Conflict, InvalidRecord, Reason, StoreFull
from kernel.keyed_locks import KeyedLocks
from kernel.signing import PUBLIC_KEY_BYTES, SigningKey
from kernel.uninterrupted import run_to_end
from lucid.v1 import chunk_pb2

MAX_DEVICES = 16
"""Devices under one locator."""

MAX_RESPONSE_BYTES = 900 << 10
OWNER_BYTES = 4 << 20
"""Heads of one owner, together."""

TOTAL_BYTES = 256 << 20
"""Heads of all owners, together: owners cost nothing to make up."""

_NS = 1_000_000_000


class HeadKeeper:
    """The newest head of each device, under its locator.

    Attributes:
        problems: what `start` could not mend, one line each.
    """

    def __init__(
        self,
        ports: KeepingPorts,
        network: Network,
        device: SigningKey,
        *,
        owner_bytes: int = OWNER_BYTES,
        total_bytes: int = TOTAL_BYTES,
    ) -> None:
        self._clock = ports.clock
        self._store = HeadStore(ports)
        self._network = network
        self._device = device
        self._owner_bytes = owner_bytes
        self._total_bytes = total_bytes
        self._used_bytes = 0
        self._used: Counter[bytes] = Counter()
        self._locks: KeyedLocks[bytes] = KeyedLocks()
        self.problems: list[str] = []

    async def start(self) -> None:
        """Makes whole what a killed process left, and counts. Once, before anything else."""
        self.problems = await self._store.recover()
        for kept in self._store.scan().values():
            self._count(kept, 1)

    async def put_head(
        self, caller: PeerIdentity, request: chunk_pb2.PutHeadRequest
    ) -> chunk_pb2.PutHeadResponse:
        """Keeps a head; see `ChunkService.PutHead`. The same one again does no harm.

        Raises:
            InvalidRecord: head or grant break a rule; or NOT_CONSISTENT: the device has signed another head
                under the same sequence.
            Conflict: a newer head of the device is known, or younger ones of as many devices as are kept.
            StoreFull: quota or disk.
        """
        entry = request.entry
        head = verify_head_entry(entry, self._network, now_s=self._now_ns() // _NS)
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
        now_s = self._now_ns() // _NS
        found = [(decode_head(kept), kept.entry) for kept in self._store.scan(request.locator).values()]
        response = chunk_pb2.GetHeadResponse()
        for head, entry in sorted(found, key=lambda each: each[0].time_s, reverse=True):
            if head.expires_s > now_s and response.ByteSize() + entry.ByteSize() <= MAX_RESPONSE_BYTES:
                response.entries.append(entry)
        return response

    async def sweep(self, now_s: int) -> None:
        """Forgets heads that have expired at Unix time `now_s`.

        Raises:
            StoreError: the store failed; the next sweep goes on.
        """
        over = [key for key, kept in self._store.scan().items() if decode_head(kept).expires_s <= now_s]
        for locator in dict.fromkeys(key[:PUBLIC_KEY_BYTES] for key in over):
            await run_to_end(self._forget(locator, now_s))

    async def _forget(self, locator: bytes, now_s: int) -> None:
        async with self._locks.hold(locator):
            rows = self._store.scan(locator)
            over = {key: kept for key, kept in rows.items() if decode_head(kept).expires_s <= now_s}
            await self._delete(over)

    async def _keep(
        self, owner: bytes, entry: chunk_pb2.HeadEntry, head: chunk_pb2.Head
    ) -> chunk_pb2.KeptHead:
        key = tables.head_key(head.locator, head.device)
        async with self._locks.hold(head.locator):
            rows = self._store.scan(head.locator)
            before = rows.get(key)
            if before is not None and not _replaces(entry, head, before):
                return before
            crowded_out = _choose_crowded_out(rows, head) if before is None else {}
            kept = chunk_pb2.KeptHead(entry=entry, owner=owner, stored_ns=self._now_ns())
            freed = before.ByteSize() if before is not None and before.owner == owner else 0
            if self._used[owner] - freed + kept.ByteSize() > self._owner_bytes:
                raise StoreFull(f"this node keeps heads of at most {self._owner_bytes} bytes for one owner")
            grows = kept.ByteSize() - (before.ByteSize() if before is not None else 0)
            if grows > 0 and self._used_bytes + grows > self._total_bytes:
                raise StoreFull(f"this node keeps heads of at most {self._total_bytes} bytes")
            self._replace(before, kept)  # first: others may be checked meanwhile
            try:
                await self._store.put(key, kept)
            except BaseException:
                self._replace(kept, before)
                raise
            await self._delete(crowded_out)
            return kept

    async def _delete(self, rows: Mapping[bytes, chunk_pb2.KeptHead]) -> None:
        if not rows:
            return
        try:
            await self._store.delete(rows)
        finally:  # rows go first; a stream that could not be begun again is mended by the next start
            for key, kept in rows.items():
                if not self._store.scan(key):
                    self._count(kept, -1)

    def _replace(self, before: chunk_pb2.KeptHead | None, after: chunk_pb2.KeptHead | None) -> None:
        self._count(before, -1)
        self._count(after, 1)

    def _count(self, kept: chunk_pb2.KeptHead | None, sign: int) -> None:
        if kept is not None:
            self._used[kept.owner] += sign * kept.ByteSize()
            self._used_bytes += sign * kept.ByteSize()
            if not self._used[kept.owner]:
                del self._used[kept.owner]

    def _now_ns(self) -> int:
        return self._clock.wall_ns()


def _choose_crowded_out(
    rows: Mapping[bytes, chunk_pb2.KeptHead], head: chunk_pb2.Head
) -> dict[bytes, chunk_pb2.KeptHead]:
    """What makes way for the head of one more device: the oldest. Each restore makes a device.

    Raises:
        Conflict: the head itself is the oldest, such as one that somebody kept and brings again.
    """
    by_age = sorted(rows, key=lambda key: (decode_head(rows[key]).time_s, key))
    over = by_age[: max(len(rows) + 1 - MAX_DEVICES, 0)]
    if any(decode_head(rows[key]).time_s >= head.time_s for key in over):
        raise Conflict(f"{MAX_DEVICES} devices have younger heads under this locator")
    return {key: rows[key] for key in over}


def _replaces(entry: chunk_pb2.HeadEntry, head: chunk_pb2.Head, before: chunk_pb2.KeptHead) -> bool:
    """True if the head is newer, False if it is the same.

    Raises:
        Conflict: it is older.
        InvalidRecord: NOT_CONSISTENT: another one under the same sequence.
    """
    if entry.head.payload == before.entry.head.payload:
        return False
    known = decode_head(before).sequence
    if head.sequence == known:
        raise InvalidRecord(Reason.NOT_CONSISTENT, f"the device has another head with sequence {known}")
    if head.sequence < known:
        raise Conflict(f"a head with sequence {known} is known", hint="sign one with a higher sequence")
    return True
