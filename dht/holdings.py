"""Chunks that this node keeps for others: taken, given, audited, let go. Rules: docs/spec/10-transfer.md.

A receipt is signed when blob, journal and index hold the chunk durably, in the order of `holding_store`. A
chunk is kept as long as anybody leases it. Everything that changes a chunk holds its lock and runs to its
end, whatever becomes of the caller.
"""

from collections.abc import AsyncIterator, Callable

from google.protobuf.message import DecodeError

from dht.bandwidth import Pace
from dht.check_budget import CheckLimits
from dht.holding_store import HoldingStore
from dht.hosting_quota import HostingQuota
from dht.incoming import IncomingChunks, IncomingLimits, Turn
from dht.lease import sign_receipt, verify_lease, verify_release
from dht.ports import KeepingPorts, OwnBlobs, PeerIdentity
from dht.serving import ServedChunks
from dht.transfer import MAX_LEAVES_BYTES
from kernel.domains import Network
from kernel.errors import Conflict, InvalidRecord, LucidError, Reason, StoreDamaged, StoreFull
from kernel.keyed_locks import KeyedLocks
from kernel.signing import SigningKey
from kernel.uninterrupted import run_to_end
from lucid.v1 import chunk_pb2, identity_pb2

MAX_LEASES = 16
"""Leases of one chunk, of different keys."""

_NS = 1_000_000_000


class Holdings:
    """All chunks that are held for others.

    Args:
        ports: the store and the clock.
        network: where leases count.
        device: signs receipts.
        quota: limits; gets the sums when `start` has found what is held.
        own: what this node needs blobs for itself.
        pace: limits on speed and silence of peers.
        limits: bounds of what is on its way.
        check_limits: bounds of what is read and hashed for callers.

    Attributes:
        served: gives and audits what is held.
        problems: what `start` could not mend, one line each.
    """

    def __init__(
        self,
        ports: KeepingPorts,
        network: Network,
        device: SigningKey,
        *,
        quota: HostingQuota,
        own: OwnBlobs,
        pace: Pace,
        limits: IncomingLimits | None = None,
        check_limits: CheckLimits | None = None,
    ) -> None:
        self._ports = ports
        self._network = network
        self._device = device
        self._quota = quota
        self._own = own
        self._pace = pace
        self._store = HoldingStore(ports)
        self._incoming = IncomingChunks(ports.clock, limits or IncomingLimits())
        self._locks: KeyedLocks[bytes] = KeyedLocks()
        self._storing: set[bytes] = set()
        self.served = ServedChunks(ports, self._store, pace, check_limits)
        self.problems: list[str] = []

    async def start(self) -> None:
        """Makes whole what a killed process left, and counts what is held. Once, before anything else."""
        self.problems = await self._store.recover()
        start: bytes | None = b""
        while start is not None:
            holdings, _, start = await self._store.scan(start)
            for holding in holdings:
                self._quota.replace(None, holding)

    @property
    def held_bytes(self) -> int:
        """Length of all held chunks."""
        return self._quota.held_bytes

    @property
    def quota(self) -> HostingQuota:
        """What is counted."""
        return self._quota

    def is_held(self, chunk_id: bytes) -> bool:
        """True if a blob must stay whoever else lets it go: it is leased, or being stored, or may be."""
        try:
            return chunk_id in self._storing or self._store.get(chunk_id) is not None
        except StoreDamaged:
            return True

    async def put_chunk(
        self, caller: PeerIdentity, requests: AsyncIterator[chunk_pb2.PutChunkRequest]
    ) -> AsyncIterator[chunk_pb2.PutChunkResponse]:
        """Takes a chunk, or a new lease of one; see `ChunkService.PutChunk`.

        Args:
            caller: who brings it: its owner's quota counts.
            requests: an opening, and frames once it is said from where.

        Raises:
            InvalidRecord: lease, leaf hashes or a frame break a rule.
            StoreFull: quota or disk.
            Conflict: a newer lease is known, or another call goes on with this transfer.
            Unavailable: there is no room for another transfer, or the caller moves nothing.
        """
        opening = await self._read_opening(requests)
        lease = verify_lease(
            opening.lease, self._network, holder=self._device.public_key, now_s=self._now_ns() // _NS
        )
        add_lease(self._store.get(lease.chunk_id), opening.lease, lease, caller.owner, 0)
        self._quota.check(self._store.get(lease.chunk_id), caller.owner, lease.size_bytes)
        turn = await self._incoming.begin(caller.owner, lease.chunk_id, lease.size_bytes, opening.leaves)
        is_stored = False
        try:
            receiver = turn.transfer.receiver
            if await self.served.is_intact(caller.owner, lease.chunk_id, receiver.leaves):
                yield chunk_pb2.PutChunkResponse(offset=lease.size_bytes)
                parts = None
            else:
                yield chunk_pb2.PutChunkResponse(offset=receiver.position)
                await self._receive(turn, requests)
                parts = receiver.parts
            keeping = self._keep(opening.lease, lease, caller.owner, opening.leaves, parts)
            receipt = await run_to_end(keeping)
            is_stored = True
            yield chunk_pb2.PutChunkResponse(receipt=receipt)
        finally:
            await self._incoming.end(turn, keep=not is_stored)

    async def _read_opening(self, requests: AsyncIterator[chunk_pb2.PutChunkRequest]) -> chunk_pb2.PutOpen:
        async with self._pace.patience():
            async for request in requests:
                if request.WhichOneof("kind") != "open" or len(request.open.leaves) > MAX_LEAVES_BYTES:
                    break
                return request.open
        raise InvalidRecord(Reason.MALFORMED, "PutChunk does not begin with a lease and leaf hashes")

    async def _receive(self, turn: Turn, requests: AsyncIterator[chunk_pb2.PutChunkRequest]) -> None:
        receiver = turn.transfer.receiver
        async with self._pace.patience() as patience:
            while not receiver.is_complete:
                request = await anext(requests, None)
                if request is None or request.WhichOneof("kind") != "frame":
                    raise InvalidRecord(
                        Reason.MALFORMED,
                        f"the frames of PutChunk end at {receiver.position} of {receiver.end}",
                    )
                frame = request.frame  # each look at it makes a copy
                turn.take(frame)
                await self._pace.receive(len(frame), patience)

    async def _keep(
        self,
        signed: identity_pb2.Signed,
        lease: chunk_pb2.Lease,
        owner: bytes,
        leaves: bytes,
        parts: list[bytes] | None,
    ) -> identity_pb2.Signed:
        """Makes chunk and lease durable; `parts`: the bytes, None if they are there. Returns the receipt."""
        chunk_id = lease.chunk_id
        async with self._locks.hold(chunk_id):
            self._storing.add(chunk_id)
            try:
                before = self._store.get(chunk_id)
                after, held = add_lease(before, signed, lease, owner, self._now_ns())
                if parts is None and self._ports.blobs.size(chunk_id) is not None:
                    await self._ports.blobs.settle(chunk_id)  # a process that died may have left it
                if parts is not None or before != after:
                    self._quota.check(before, owner, lease.size_bytes)
                    self._quota.replace(before, after)
                    try:
                        await self._make_durable(before, after, leaves, parts)
                    except BaseException:
                        self._quota.replace(after, before)
                        raise
            finally:
                self._storing.discard(chunk_id)
        return sign_receipt(self._device, self._network, signed, held.stored_ns)

    async def _make_durable(
        self,
        before: chunk_pb2.Holding | None,
        after: chunk_pb2.Holding,
        leaves: bytes,
        parts: list[bytes] | None,
    ) -> None:
        chunk_id = after.chunk_id
        had_blob = self._ports.blobs.size(chunk_id) is not None
        try:
            await self._store.note(after, leaves)
            if parts is not None:
                if had_blob:  # it was found damaged
                    await self._ports.blobs.remove([chunk_id])
                await self._ports.blobs.put(chunk_id, parts)
            elif not had_blob:
                raise Conflict("the chunk went away while it was leased", hint="send it again")
            await self._store.index(after)
        except LucidError:
            if before is None:
                await self._undo(chunk_id)
            raise

    async def _undo(self, chunk_id: bytes) -> None:
        """Takes back what was never acknowledged. What fails here, a start finds."""
        try:
            await self._remove_blob(chunk_id)
            await self._store.drop(chunk_id)
        except LucidError as error:
            self.problems.append(f"chunk {chunk_id.hex()}, which could not be taken, is left over: {error}")

    async def release_chunk(self, request: chunk_pb2.ReleaseChunkRequest) -> chunk_pb2.ReleaseChunkResponse:
        """Ends a lease; see `ChunkService.ReleaseChunk`. Once more does no harm.

        Raises:
            InvalidRecord: the release breaks a rule.
            StoreError: the lease did not end, or will end when it is released again.
        """
        holder = self._device.public_key
        release = verify_release(request.release, self._network, holder=holder)
        key = request.release.public_key

        def stays(held: chunk_pb2.HeldLease) -> bool:
            return held.lease.public_key != key or decode_lease(held).sequence > release.sequence

        freed = await run_to_end(self._let_go(release.chunk_id, stays))
        return chunk_pb2.ReleaseChunkResponse(freed_bytes=freed)

    async def forget_broken_transfers(self) -> None:
        """Frees the memory of those for which nobody came back in time."""
        await self._incoming.expire()

    async def sweep(self, now_s: int) -> int:
        """Ends leases that are over at Unix time `now_s`; returns bytes freed. Goes through all of them.

        Raises:
            StoreError: the store failed; the next sweep goes on.
        """

        def stays(held: chunk_pb2.HeldLease) -> bool:
            return decode_lease(held).until_s > now_s

        freed = 0
        start: bytes | None = b""
        while start is not None:
            holdings, _, start = await self._store.scan(start)
            for holding in holdings:
                if not all(map(stays, holding.leases)):
                    freed += await run_to_end(self._let_go(holding.chunk_id, stays))
        return freed

    async def _let_go(self, chunk_id: bytes, stays: Callable[[chunk_pb2.HeldLease], bool]) -> int:
        """Ends leases of a chunk; with the last one it goes. Returns bytes freed."""
        async with self._locks.hold(chunk_id):
            before = self._store.get(chunk_id)
            kept = [] if before is None else [held for held in before.leases if stays(held)]
            if before is None or len(kept) == len(before.leases):
                return 0
            after = chunk_pb2.Holding(chunk_id=chunk_id, size_bytes=before.size_bytes, leases=kept)
            if kept:
                await self._store.note(after)
                await self._store.index(after)
                self._quota.replace(before, after)
                return 0
            # From here on whoever else needed the blob removes it with its own need, and so do we: see `own`.
            await self._store.unindex(chunk_id)
            self._quota.replace(before, None)
            freed = await self._remove_blob(chunk_id)
            await self._store.drop(chunk_id)
            return freed

    async def _remove_blob(self, chunk_id: bytes) -> int:
        """Removes a blob unless this node needs it itself; returns its length."""
        if await self._own.needs(chunk_id):
            return 0
        size_bytes = self._ports.blobs.size(chunk_id) or 0
        await self._ports.blobs.remove([chunk_id])
        return size_bytes

    def _now_ns(self) -> int:
        return self._ports.clock.wall_ns()


def add_lease(
    holding: chunk_pb2.Holding | None,
    signed: identity_pb2.Signed,
    lease: chunk_pb2.Lease,
    owner: bytes,
    stored_ns: int,
) -> tuple[chunk_pb2.Holding, chunk_pb2.HeldLease]:
    """What is held of a chunk with one more lease, or a renewed one.

    Args:
        holding: what is held so far.
        signed: the lease, verified.
        lease: the same, decoded.
        owner: who brings it.
        stored_ns: Unix time in nanoseconds.

    Returns:
        The new holding, and the lease in it; as they were if it is known already.

    Raises:
        Conflict: a newer lease of the same key is known.
        InvalidRecord: NOT_CONSISTENT: the key has signed another lease under the same sequence.
        StoreFull: the chunk has as many leases as it can have.
    """
    others = []
    for held in holding.leases if holding else ():
        if held.lease.public_key != signed.public_key:
            others.append(held)
        elif held.lease.payload == signed.payload:
            return (holding or chunk_pb2.Holding()), held
        elif decode_lease(held).sequence == lease.sequence:
            message = f"another lease of this key has sequence {lease.sequence} too"
            raise InvalidRecord(Reason.NOT_CONSISTENT, message, hint="sign a new one with a higher one")
        elif decode_lease(held).sequence > lease.sequence:
            raise Conflict("a newer lease of this key is known", hint="sign one with a higher sequence")
    if len(others) >= MAX_LEASES:
        raise StoreFull(f"the chunk has {MAX_LEASES} leases already", hint="ask another node")
    added = chunk_pb2.HeldLease(lease=signed, owner=owner, stored_ns=stored_ns)
    new = chunk_pb2.Holding(chunk_id=lease.chunk_id, size_bytes=lease.size_bytes, leases=[*others, added])
    return new, new.leases[-1]


def decode_lease(held: chunk_pb2.HeldLease) -> chunk_pb2.Lease:
    """The lease, which was verified when it was taken.

    Raises:
        StoreDamaged: it is none.
    """
    try:
        return chunk_pb2.Lease.FromString(held.lease.payload)
    except DecodeError as error:
        raise StoreDamaged("a lease in the store cannot be decoded") from error
