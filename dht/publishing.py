"""An owner's node publishes its head: copies of all facts, an index over them, a head that leads to it.

    1  new facts of each session → stretches; what is replaced is retired, in the same commit
    2  index over all of it; the head's sequence and signature are durable
    3  objects at peers, then the head at up to R + 2 peers, whose receipts are kept
    4  once every keeper that was asked has acknowledged it, what was retired before it was made is released

A head goes out when a session was opened, has ended, was adopted or was deleted, and every 30 s while
sessions grow; what failed is tried again sooner. Nothing here is waited for by a recording, but a session
counts as replicated only when a head tells of it (`count_keepers`). A kill between any two steps costs
nothing: the next round finds what is missing. The sequence is at least the Unix time: it rises even if the
index was lost.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from blake3 import blake3

from dht import tables
from dht.fact_copies import cut_stretches, encode_facts
from dht.head_content import seal_content
from dht.heads import sign_head, verify_head_receipt
from dht.object_store import MadeObject, ObjectStore, decode_stored, rank
from dht.ports import Peer, Peers, Sessions, list_connected
from dht.preset import REPLICAS
from dht.transfer import blaming
from kernel.domains import Network
from kernel.errors import LucidError, NotFound
from kernel.gathering import gather_all
from kernel.ports import Clock, Delete, Entropy, Operation, Put, Records
from kernel.signing import SigningKey
from kernel.waiting import wait_for_event
from lucid.v1 import chunk_pb2, head_pb2, identity_pb2

EVERY_S = 30.0
HEAD_TTL_S = 365 * 86_400
LEAST_GAP_S = 0.1
FIRST_RETRY_S = 1.0
KEEPERS = REPLICAS + 2
MEET_S = 3.0
_NOT_KEPT = "the newest head is not kept by other nodes yet"

FindNewer = Callable[[int], Awaitable[int]]
"""Number of this store's head → number of the newest that peers keep, to which the store was brought up."""


@dataclass(frozen=True, slots=True)
class HeadKeys:
    """With what a node publishes.

    Attributes:
        network: where signatures hold.
        device: signs heads.
        grant: of the owner's locator for this device.
        reader: X25519 seal key of the owner.
    """

    network: Network
    device: SigningKey
    grant: identity_pb2.Signed
    reader: bytes

    @property
    def locator(self) -> bytes:
        """Where the heads are found."""
        return self.grant.public_key


class HeadPublisher:
    """Publishes the head of one node.

    Attributes:
        problem: why the newest head is not kept as it should be; empty if it is.
        on_kept: called when `count_keepers` may have risen.
    """

    def __init__(
        self,
        keys: HeadKeys,
        records: Records,
        clock: Clock,
        entropy: Entropy,
        objects: ObjectStore,
        peers: Peers,
        sessions: Sessions,
        find_newer: FindNewer | None = None,
    ) -> None:
        """`find_newer` is called before the first head of this process; None: nobody needs to be asked."""
        self._keys = keys
        self._records = records
        self._clock = clock
        self._entropy = entropy
        self._objects = objects
        self._peers = peers
        self._sessions = sessions
        self._find_newer = find_newer
        self._is_newest = find_newer is None
        self._newest = 0
        self._looked_ns: int | None = None
        self._changed = asyncio.Event()
        self._lock = asyncio.Lock()
        self._kept: dict[bytes, tuple[int, int]] = {}
        self.problem = ""
        self.on_kept: Callable[[], None] = lambda: None

    def on_change(self) -> None:
        """Sessions came, ended or went: the next head goes out soon."""
        self._changed.set()

    async def run(self) -> None:
        """Publishes whenever there is something to publish, until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch_peers())
            pause_s = FIRST_RETRY_S
            while True:
                self._changed.clear()
                if self._peers.known():  # without anybody to leave it with, a head would only take space
                    is_done = False
                    with suppress(LucidError):  # a full disk: `problem` tells of it
                        is_done = await self.publish() and not self._objects.has_failed
                    pause_s = EVERY_S if is_done else min(pause_s * 2, EVERY_S)
                    await self._clock.sleep(LEAST_GAP_S)
                most_s = EVERY_S if self._is_newest else MEET_S
                await wait_for_event(self._changed, self._clock, min(pause_s, most_s))
                pause_s = FIRST_RETRY_S if self._changed.is_set() else pause_s

    async def _watch_peers(self) -> None:
        while True:
            await self._peers.wait_changed()
            self._changed.set()

    def count_keepers(self, session_id: bytes) -> int:
        """How many nodes keep a head that names a session with its present facts, and all it leads to."""
        count, keepers = self._kept.get(session_id, (0, 0))
        return keepers if count == self._sessions.count_facts(session_id) else 0

    async def publish(self) -> bool:
        """One round.

        Returns:
            True if the newest head tells of everything and all keepers that were asked acknowledged it.

        Raises:
            LucidError: nothing was lost; the next round goes on.
        """
        async with self._lock:
            try:
                return await self._publish()
            except LucidError as error:
                self.problem = f"no head could be made: {error}"
                raise

    async def _publish(self) -> bool:
        if not self._is_newest and not await self._look_for_newer():
            self.problem = _NOT_KEPT
            return False
        self._objects.begin_round()
        await self._copy_sessions()
        retired = await self._list_retired()
        head = await self._make_head()
        await self._spread()
        is_kept = await self._send(head)
        self._note_keepers()
        if is_kept:
            for key, stored in retired:
                await self._objects.release(stored)
                await self._objects.drop(stored)
                await self._records.commit([Delete(tables.OBJECTS, key)])
        self.problem = "" if is_kept else _NOT_KEPT
        if is_kept and self._objects.has_failed:
            self.problem = "a node does not take copies of what the newest head leads to"
        return is_kept

    def _note_keepers(self) -> None:
        """Takes down who keeps what. What an older head leads to is kept until all have the newer one."""
        head, kept = self._load_head(), {}
        least = 0 if head is None else min(len(head.receipts), self._objects.count_replicas(head.index))
        for session_id, row in self._scan_sessions():
            count, (before, known) = _count_facts(row), self._kept.get(session_id, (0, 0))
            found = [self._objects.count_replicas(one.stored) for one in row.stretches]
            keepers = min([least, *found])
            kept[session_id] = count, max(keepers, known if before == count else 0)
        self._kept = kept
        self.on_kept()

    def list_stretches(self, session_id: bytes, count: int) -> list[chunk_pb2.ObjectRef]:
        """Where copies of the first `count` facts of a session are; empty if they are nowhere yet."""
        row = dict(self._scan_sessions()).get(session_id)
        if row is None or _count_facts(row) != count:
            return []
        if any(not self._objects.count_replicas(stretch.stored) for stretch in row.stretches):
            return []
        return [stretch.stored.object for stretch in row.stretches]

    # 1 --------------------------------------------------------------------------------------------------

    async def _copy_sessions(self) -> None:
        known = dict(self._scan_sessions())
        listed = dict(self._sessions.list())
        for session_id, row in known.items():
            if session_id not in listed:
                operations = [_retire(stretch.stored) for stretch in row.stretches]
                await self._records.commit([*operations, Delete(tables.OBJECTS, _session_key(session_id))])
        for session_id, count in listed.items():
            row = known.get(session_id, head_pb2.PublishedSession())
            with suppress(NotFound):  # deleted meanwhile
                await self._copy_facts(session_id, count, row)

    async def _copy_facts(self, session_id: bytes, count: int, row: head_pb2.PublishedSession) -> None:
        """Brings the copies of one session up to date: whole stretches stay, all behind them is new."""
        good = 0
        for stretch in row.stretches:
            if not self._objects.is_kept(stretch.stored):
                break
            good += 1
        if good == len(row.stretches) and _count_facts(row) == count:
            return
        finished = min(good, max(len(row.stretches) - 1, 0))
        old = list(row.stretches[finished:])
        first = old[0].first_fact if old else 0
        payloads = await self._sessions.read_facts(session_id, first, count)
        if not payloads or (good == len(row.stretches) and first + len(payloads) == _count_facts(row)):
            return  # what is behind is damaged, and cannot be copied
        del row.stretches[finished:]
        made: list[MadeObject] = []
        for facts in cut_stretches(payloads):
            content = encode_facts(facts)
            made.append(self._objects.make(content))
            row.stretches.add(
                first_fact=first, facts=len(facts), size_bytes=len(content), stored=made[-1].row
            )
            first += len(facts)
        operations = [_retire(stretch.stored) for stretch in old]
        value = row.SerializeToString()
        await self._records.commit([*operations, Put(tables.OBJECTS, _session_key(session_id), value)])
        for one in made:
            await self._objects.keep(one)

    async def _look_for_newer(self) -> bool:
        """Makes sure that no newer head is replaced: an old copy of the store, put back, is brought up first.

        Returns:
            False while peers may still come.
        """
        connected = list_connected(self._peers)
        now_ns = self._clock.monotonic_ns()
        self._looked_ns = now_ns if self._looked_ns is None else self._looked_ns
        waited = now_ns - self._looked_ns >= MEET_S * 1e9
        are_all = len(connected) == len(self._peers.known())
        if self._find_newer is None or not connected or not (waited or are_all):
            return False
        self._newest = await self._find_newer(_get_sequence(self._load_head()))
        self._is_newest = True
        return True

    def _scan_sessions(self) -> list[tuple[bytes, head_pb2.PublishedSession]]:
        found = self._records.scan(tables.OBJECTS, prefix=tables.SESSION_PREFIX, damaged=[])
        return [(key[1:], head_pb2.PublishedSession.FromString(value)) for key, value in found]

    # 2 --------------------------------------------------------------------------------------------------

    async def _make_head(self) -> head_pb2.PublishedHead:
        """The newest head; a new one if what is there is another than the last one tells."""
        content = self._build_index()
        index_hash = blake3(content).digest()
        old = self._load_head()
        newest = max(self._newest, _get_sequence(old))
        if old is not None and old.index_hash == index_hash and self._is_usable(old, newest):
            return old
        made = self._objects.make(content)
        now_s = self._clock.wall_ns() // 10**9
        sequence = max(now_s, newest + 1)
        head = chunk_pb2.Head(
            locator=self._keys.locator,
            device=self._keys.device.public_key,
            sequence=sequence,
            time_s=now_s,
            expires_s=now_s + HEAD_TTL_S,
        )
        sealed = chunk_pb2.HeadContent(index=made.row.object, sessions=len(self._sessions.list()))
        head.sealed = seal_content(sealed, head, self._keys.reader, self._entropy)
        signed = sign_head(self._keys.device, self._keys.network, head)
        row = head_pb2.PublishedHead(
            entry=chunk_pb2.HeadEntry(head=signed, grant=self._keys.grant),
            index=made.row,
            index_hash=index_hash,
        )
        operations: list[Operation] = [] if old is None else [_retire(old.index)]
        await self._records.commit(
            [*operations, Put(tables.OBJECTS, tables.HEAD_KEY, row.SerializeToString())]
        )
        await self._objects.keep(made)
        return row

    def _build_index(self) -> bytes:
        index = chunk_pb2.HeadIndex(deleted=self._sessions.deleted())
        for session_id, row in self._scan_sessions():
            references = [stretch.stored.object for stretch in row.stretches]
            index.sessions.add(session_id=session_id, fact_count=_count_facts(row), facts=references)
        for _, value in self._records.scan(tables.DEVICES, damaged=[]):
            index.devices.append(identity_pb2.Signed.FromString(value))
        return index.SerializeToString(deterministic=True)

    def _is_usable(self, row: head_pb2.PublishedHead, newest: int) -> bool:
        """False if its index is gone here, half of its life is over, or peers keep a newer one."""
        head = chunk_pb2.Head.FromString(row.entry.head.payload)
        if head.sequence < newest:
            return False
        half_s = head.time_s + HEAD_TTL_S // 2
        return self._objects.is_kept(row.index) and self._clock.wall_ns() // 10**9 < half_s

    def _load_head(self) -> head_pb2.PublishedHead | None:
        value = self._records.get(tables.OBJECTS, tables.HEAD_KEY)
        return None if value is None else head_pb2.PublishedHead.FromString(value)

    async def _list_retired(self) -> list[tuple[bytes, head_pb2.StoredObject]]:
        """What the next head will no longer lead to. Replaced indexes are retired by it: those come later."""
        found = self._records.scan(tables.OBJECTS, prefix=tables.RETIRED_PREFIX, damaged=[])
        return [(key, stored) for key, value in found if (stored := decode_stored(value)) is not None]

    # 3 --------------------------------------------------------------------------------------------------

    async def _spread(self) -> None:
        for session_id, row in self._scan_sessions():
            changed = False
            for stretch in row.stretches:
                if self._objects.is_due(stretch.stored):
                    changed |= await self._objects.spread(stretch.stored)
            if changed:
                key = _session_key(session_id)
                await self._records.commit([Put(tables.OBJECTS, key, row.SerializeToString())])
        head = self._load_head()
        if head is not None and self._objects.is_due(head.index) and await self._objects.spread(head.index):
            await self._records.commit([Put(tables.OBJECTS, tables.HEAD_KEY, head.SerializeToString())])

    async def _send(self, head: head_pb2.PublishedHead) -> bool:
        """Leaves the head with its keepers; True if all that were asked have it, and at least one."""
        head = self._load_head() or head
        acknowledged = {receipt.public_key for receipt in head.receipts}
        asked = [peer for peer in self._choose_keepers() if peer.identity.device not in acknowledged]
        sent = await gather_all(self._send_to(peer, head) for peer in asked)
        return all(sent) and bool(head.receipts)

    async def _send_to(self, peer: Peer, head: head_pb2.PublishedHead) -> bool:
        try:
            response = await peer.put_head(chunk_pb2.PutHeadRequest(entry=head.entry))
            with blaming(peer):
                verify_head_receipt(
                    response.receipt, self._keys.network, head.entry.head, peer.identity.device
                )
        except LucidError:
            return False
        head.receipts.append(response.receipt)
        await self._records.commit([Put(tables.OBJECTS, tables.HEAD_KEY, head.SerializeToString())])
        return True

    def _choose_keepers(self) -> Sequence[Peer]:
        """Always the same ones first: so old heads are replaced where they are."""
        connected = list_connected(self._peers)
        return sorted(connected, key=lambda peer: rank(self._keys.locator, peer.identity.device))[:KEEPERS]


def _count_facts(row: head_pb2.PublishedSession) -> int:
    return sum(stretch.facts for stretch in row.stretches)


def _get_sequence(row: head_pb2.PublishedHead | None) -> int:
    return chunk_pb2.Head.FromString(row.entry.head.payload).sequence if row is not None else 0


def _session_key(session_id: bytes) -> bytes:
    return tables.SESSION_PREFIX + session_id


def _retire(stored: head_pb2.StoredObject) -> Operation:
    key = tables.RETIRED_PREFIX + stored.object.parts[0].chunk_id
    return Put(tables.OBJECTS, key, stored.SerializeToString())
