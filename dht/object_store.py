"""Objects of this node: made, kept here, spread to peers under leases, released.

An object's row is durable before its blobs are, so that no blob is ever left that no row knows; a row whose
blobs are missing is worthless, and its object is made again. Replicas go to peers in an order that chunk and
peer give, to as many owners as there are; what is there is renewed when half of its lease is over.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from blake3 import blake3
from google.protobuf.message import DecodeError

from dht.bandwidth import Pace
from dht.lease import sign_lease, sign_release
from dht.objects import count_parts, derive_object_lease_key, seal_object
from dht.ports import Peer, Peers
from dht.preset import REPLICAS
from dht.transfer import put_chunk
from kernel import aead
from kernel.domains import Network
from kernel.errors import LucidError, NotFound
from kernel.gathering import gather_all
from kernel.ports import Blobs, Clock, Entropy
from lucid.v1 import chunk_pb2, head_pb2

LEASE_S = 60 * 86_400
PATIENCE_S = 15.0


@dataclass(frozen=True, slots=True)
class MadeObject:
    """An object whose row is to be written before its blobs are."""

    row: head_pb2.StoredObject
    blobs: Sequence[bytes]


class ObjectStore:
    """Makes, spreads and releases objects. One round of spreading at a time."""

    def __init__(
        self, network: Network, blobs: Blobs, clock: Clock, entropy: Entropy, peers: Peers, pace: Pace
    ) -> None:
        """`pace`: limits on speed; a silent peer is given up sooner than with chunks."""
        self._network = network
        self._blobs = blobs
        self._clock = clock
        self._entropy = entropy
        self._peers = peers
        self._pace = replace(pace, patience_s=PATIENCE_S)
        self._failed: set[bytes] = set()

    def begin_round(self) -> None:
        """Peers that failed in the last round are tried again."""
        self._failed.clear()

    @property
    def has_failed(self) -> bool:
        """Did a peer fail in this round?"""
        return bool(self._failed)

    def make(self, content: bytes) -> MadeObject:
        """A new object; nothing is written."""
        key = self._entropy.draw(aead.KEY_BYTES)
        nonces = [self._entropy.draw(aead.NONCE_BYTES) for _ in range(count_parts(len(content)))]
        reference, blobs = seal_object(content, key, nonces)
        return MadeObject(head_pb2.StoredObject(object=reference), blobs)

    async def keep(self, made: MadeObject) -> None:
        """Makes the blobs durable; the row is already."""
        for part, blob in zip(made.row.object.parts, made.blobs, strict=True):
            await self._blobs.put(part.chunk_id, [blob])

    def is_kept(self, stored: head_pb2.StoredObject) -> bool:
        """True if all blobs are here."""
        return all(self._blobs.size(part.chunk_id) == part.size_bytes for part in stored.object.parts)

    async def drop(self, stored: head_pb2.StoredObject) -> None:
        """Removes the blobs here."""
        await self._blobs.remove([part.chunk_id for part in stored.object.parts])

    def is_due(self, stored: head_pb2.StoredObject) -> bool:
        """True if a replica is missing, or should be renewed."""
        return any(
            sum(self._is_fresh(replica) for replica in replicas) < REPLICAS
            for replicas in _group(stored).values()
        )

    def count_replicas(self, stored: head_pb2.StoredObject) -> int:
        """Replicas of the part that has the fewest."""
        return min(sum(map(self._is_alive, replicas)) for replicas in _group(stored).values())

    async def spread(self, stored: head_pb2.StoredObject) -> bool:
        """Brings replicas to connected peers and renews leases, as far as that goes now.

        Returns:
            True if `stored` was changed: its row is to be written.
        """
        changed = False
        for part in stored.object.parts:
            number = sum(chunk_id == part.chunk_id for chunk_id, _ in _list_leases(stored))
            while chosen := self._choose(stored, part.chunk_id):
                blob = await self._blobs.read(part.chunk_id)
                puts = [
                    self._put(stored, part, peer, replica, number + place, blob)
                    for place, (peer, replica) in enumerate(chosen)
                ]
                changed |= any(await gather_all(puts))
                number += len(chosen)
        return changed

    def _choose(
        self, stored: head_pb2.StoredObject, chunk_id: bytes
    ) -> Sequence[tuple[Peer, chunk_pb2.Replica | None]]:
        """Whom to send a part to now, and which replica that renews; nobody if enough are fresh."""
        replicas = {replica.holder: replica for replica in _group(stored)[chunk_id]}
        fresh = {holder for holder, replica in replicas.items() if self._is_fresh(replica)}
        owners = {peer.owner for peer in self._peers.known() if peer.device in fresh}
        ranked = sorted(
            self._peers.known(), key=lambda peer: (peer.device not in replicas, rank(chunk_id, peer.device))
        )
        chosen: dict[bytes, tuple[Peer, chunk_pb2.Replica | None]] = {}
        for may_repeat_owner in (False, True):
            for identity in ranked:
                device = identity.device
                if len(fresh) + len(chosen) >= REPLICAS:
                    break
                peer = self._peers.find(device)
                if peer is None or device in self._failed or device in fresh or device in chosen:
                    continue
                if identity.owner in owners and not may_repeat_owner:
                    continue
                owners.add(identity.owner)
                chosen[device] = peer, replicas.get(device)
        return list(chosen.values())

    async def _put(
        self,
        stored: head_pb2.StoredObject,
        part: chunk_pb2.ObjectPart,
        peer: Peer,
        replica: chunk_pb2.Replica | None,
        number: int,
        blob: bytes,
    ) -> bool:
        holder = peer.identity.device
        lease = chunk_pb2.Lease(
            chunk_id=part.chunk_id,
            size_bytes=part.size_bytes,
            replica=number % 256,
            holder=holder,
            sequence=self._clock.wall_ns() // 1_000_000,  # higher than that of one whose receipt was lost
            until_s=self._now_s() + LEASE_S,
        )
        if replica is not None:
            old = chunk_pb2.Lease.FromString(replica.lease.payload)
            lease.replica, lease.sequence = old.replica, max(old.sequence + 1, lease.sequence)
        signed = sign_lease(derive_object_lease_key(stored.object), self._network, lease)
        try:
            receipt = await put_chunk(peer, self._network, signed, blob, pace=self._pace)
        except LucidError:
            self._failed.add(holder)
            return False
        if replica is None:
            replica = stored.replicas.add(holder=holder)
        replica.lease.CopyFrom(signed)
        replica.receipt.CopyFrom(receipt)
        return True

    async def release(self, stored: head_pb2.StoredObject) -> None:
        """Ends the leases at those holders that are connected; what others hold ends by itself."""
        key = derive_object_lease_key(stored.object)
        for _, replica in _list_leases(stored):
            peer = self._peers.find(replica.holder)
            if peer is None or replica.holder in self._failed:
                continue
            lease = chunk_pb2.Lease.FromString(replica.lease.payload)
            release = sign_release(key, self._network, lease.chunk_id, replica.holder, lease.sequence)
            try:
                await peer.release_chunk(chunk_pb2.ReleaseChunkRequest(release=release))
            except NotFound:
                continue
            except LucidError:
                self._failed.add(replica.holder)

    def _is_alive(self, replica: chunk_pb2.Replica) -> bool:
        return chunk_pb2.Lease.FromString(replica.lease.payload).until_s > self._now_s()

    def _is_fresh(self, replica: chunk_pb2.Replica) -> bool:
        until_s = chunk_pb2.Lease.FromString(replica.lease.payload).until_s
        return until_s > self._now_s() + LEASE_S // 2

    def _now_s(self) -> int:
        return self._clock.wall_ns() // 10**9


def rank(name: bytes, device: bytes) -> bytes:
    """Where a peer stands in the order for `name`; the least comes first."""
    return blake3(name + device).digest()


def decode_stored(value: bytes) -> head_pb2.StoredObject | None:
    """A row of a retired object; None if it is none."""
    try:
        return head_pb2.StoredObject.FromString(value)
    except DecodeError:
        return None


def _list_leases(stored: head_pb2.StoredObject) -> list[tuple[bytes, chunk_pb2.Replica]]:
    return [
        (chunk_pb2.Lease.FromString(replica.lease.payload).chunk_id, replica) for replica in stored.replicas
    ]


def _group(stored: head_pb2.StoredObject) -> dict[bytes, list[chunk_pb2.Replica]]:
    """Replicas by chunk ID; every part is there."""
    groups: dict[bytes, list[chunk_pb2.Replica]] = {part.chunk_id: [] for part in stored.object.parts}
    for chunk_id, replica in _list_leases(stored):
        groups.setdefault(chunk_id, []).append(replica)
    return groups
