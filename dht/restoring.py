"""Brings the owner's sessions back onto a new device, from heads that peers keep. See docs/spec/12-head.md.

    all connected peers asked → per device the highest sequence among all answers → index → per session, facts
    → adopted, one by one

Each step is durable before the next, so a run that was broken off is simply begun again: what is here is
known already. Peers that serve an old head, or one that does not hold, are told of; they cannot hide the
newest as long as one of them is honest. Chunks are not fetched: reading fetches what is missing.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from google.protobuf.message import DecodeError

from dht import tables
from dht.devices import OwnersDevices
from dht.fact_copies import MAX_STRETCH_BYTES, decode_facts
from dht.head_content import open_content
from dht.heads import verify_head_entry
from dht.object_store import LEASE_S
from dht.objects import check_reference, open_object
from dht.ports import FetchBlob, Peer, Peers, Sessions, list_connected
from dht.transfer import describe
from kernel.domains import Network
from kernel.errors import Conflict, InvalidRecord, LucidError, Reason, StoreError, Unavailable
from kernel.ports import Clock, Records
from lucid.v1 import chunk_pb2, head_pb2

MAX_ENTRIES = 64
MAX_INDEX_BYTES = 128 << 20
MAX_SESSION_BYTES = 256 << 20
MAX_PROBLEMS = 1000


@dataclass(slots=True)
class Restored:
    """How far it has come.

    Attributes:
        peers: that answered.
        heads: devices whose heads were found.
        sessions: that heads tell of.
        restored: of these, brought back now.
        known: of these, here or deleted here before.
        problems: what could not be brought back, and who lied; one line each.
    """

    peers: int = 0
    heads: int = 0
    sessions: int = 0
    restored: int = 0
    known: int = 0
    problems: list[str] = field(default_factory=list)

    def report(self, what: str) -> None:
        """Adds a problem."""
        if len(self.problems) < MAX_PROBLEMS and what not in self.problems:
            self.problems.append(what)


@dataclass(frozen=True, slots=True)
class _Found:
    head: chunk_pb2.Head
    entry: chunk_pb2.HeadEntry


class Restorer:
    """Restores sessions."""

    def __init__(
        self,
        network: Network,
        locator: bytes,
        reading: Mapping[bytes, bytes],
        records: Records,
        clock: Clock,
        peers: Peers,
        sessions: Sessions,
        devices: OwnersDevices,
        fetch: FetchBlob,
    ) -> None:
        """`reading`: X25519 private keys of the owner by public key."""
        self._network = network
        self._locator = locator
        self._reading = reading
        self._records = records
        self._clock = clock
        self._peers = peers
        self._sessions = sessions
        self._devices = devices
        self._fetch = fetch
        self._lock = asyncio.Lock()

    async def restore(self, progress: Restored) -> None:
        """Brings back what is not here yet; `progress` is kept true meanwhile.

        Raises:
            StoreError: what was brought back so far is here.
        """
        async with self._lock:
            newest = await self._find_heads(progress)
            copies, deleted = await self._read_indexes(newest, progress)
            for session_id in deleted:
                await self._sessions.adopt_deletion(session_id)
            progress.sessions = len(copies)
            for session_id, told in copies.items():
                await self._restore_session(session_id, told, progress)

    async def catch_up(self, device: bytes, sequence: int, problems: list[str]) -> int:
        """Brings this store up to the newest head of its own device, if that is newer than number `sequence`.

        Open sessions get the facts that they lack; those that are not here are adopted. `problems` gets a
        line for each that can never be brought up, because it contradicts what is here.

        Returns:
            The number of the newest head that peers serve, or `sequence`.

        Raises:
            Unavailable: what a newer head leads to cannot be fetched now.
            StoreError: what was brought up so far is here.
        """
        async with self._lock:
            progress = Restored()
            newest = {found.head.device: found for found in await self._find_heads(progress)}
            found = newest.get(device)
            if found is None or found.head.sequence <= sequence:
                return sequence
            if self._has_lapsed(found.head):
                problems.append(
                    f"what head {found.head.sequence} led to is no longer kept: its leases are over"
                )
                return found.head.sequence
            index = await self._read_index(found.head)
            for session_id in index.deleted:
                await self._sessions.adopt_deletion(session_id)
            for session in index.sessions:
                try:
                    facts = await self._read_facts(session)
                    if not await self._sessions.adopt(session.session_id, facts):
                        await self._sessions.catch_up(session.session_id, facts)
                except (InvalidRecord, Conflict) as error:
                    problems.append(f"session {session.session_id.hex()}: {error}")
            return found.head.sequence

    def _has_lapsed(self, head: chunk_pb2.Head) -> bool:
        """Have all leases ended under which peers keep what a head leads to?"""
        return head.time_s + LEASE_S < self._clock.wall_ns() // 10**9

    # Heads ----------------------------------------------------------------------------------------------

    async def _find_heads(self, progress: Restored) -> list[_Found]:
        """The newest head of each device, by device."""
        connected = list_connected(self._peers)
        answers = await asyncio.gather(*(self._ask(peer, progress) for peer in connected))
        newest: dict[bytes, _Found] = {}
        for found in (one for answer in answers for one in answer):
            best = newest.get(found.head.device)
            if best is None or _age(found) > _age(best):
                newest[found.head.device] = found
        for peer, answer in zip(connected, answers, strict=True):
            for found in answer:
                self._compare(peer, found, newest[found.head.device], progress)
        for found in newest.values():
            await self._devices.add(found.entry.grant)
        progress.heads = len(newest)
        return [newest[device] for device in sorted(newest)]

    async def _ask(self, peer: Peer, progress: Restored) -> list[_Found]:
        try:
            response = await peer.get_head(chunk_pb2.GetHeadRequest(locator=self._locator))
        except LucidError as error:
            progress.report(f"{describe(peer)} does not say which heads it keeps: {error}")
            return []
        progress.peers += 1
        found: dict[bytes, _Found] = {}
        now_s = self._clock.wall_ns() // 10**9
        for entry in response.entries[:MAX_ENTRIES]:
            try:
                head = verify_head_entry(entry, self._network, locator=self._locator, now_s=now_s)
            except InvalidRecord as error:
                progress.report(f"{describe(peer)} serves a head that does not hold: {error}")
                continue
            one = _Found(head, entry)
            if head.device not in found or _age(one) > _age(found[head.device]):
                found[head.device] = one
        return list(found.values())

    def _compare(self, peer: Peer, served: _Found, newest: _Found, progress: Restored) -> None:
        """Tells of a peer that serves less than others do, or than it promised to keep."""
        device = served.head.device.hex()
        if served.head.sequence < newest.head.sequence:
            progress.report(
                f"{describe(peer)} serves an old head of device {device}: number {served.head.sequence},"
                f" the newest is {newest.head.sequence}"
            )
        elif served.entry.head.payload != newest.entry.head.payload:
            progress.report(f"device {device} signed two heads with the number {served.head.sequence}")
        value = self._records.get(tables.OBJECTS, tables.HEAD_KEY)
        if value is None:
            return
        own = head_pb2.PublishedHead.FromString(value)
        head = chunk_pb2.Head.FromString(own.entry.head.payload)
        promised = any(receipt.public_key == peer.identity.device for receipt in own.receipts)
        if head.device == served.head.device and promised and served.head.sequence < head.sequence:
            progress.report(f"{describe(peer)} acknowledged head {head.sequence}, and serves an older one")

    # Indexes --------------------------------------------------------------------------------------------

    async def _read_indexes(
        self, heads: Sequence[_Found], progress: Restored
    ) -> tuple[dict[bytes, list[chunk_pb2.HeadSession]], Sequence[bytes]]:
        """What all heads together tell: sessions, the longest copy first, and deletions."""
        copies: dict[bytes, list[chunk_pb2.HeadSession]] = {}
        deleted: dict[bytes, None] = {}
        for found in heads:
            try:
                index = await self._read_index(found.head)
                for signed in index.devices:
                    await self._devices.add(signed)
            except (InvalidRecord, Unavailable) as error:
                progress.report(f"the head of device {found.head.device.hex()} leads nowhere: {error}")
                continue
            for session in index.sessions:
                copies.setdefault(session.session_id, []).append(session)
            deleted |= dict.fromkeys(index.deleted)
        for told in copies.values():
            told.sort(key=lambda session: session.fact_count, reverse=True)
        alive = {session_id: copies[session_id] for session_id in sorted(copies) if session_id not in deleted}
        return alive, list(deleted)

    async def _read_index(self, head: chunk_pb2.Head) -> chunk_pb2.HeadIndex:
        content = open_content(head, self._reading)
        try:
            return chunk_pb2.HeadIndex.FromString(await self._read_object(content.index, MAX_INDEX_BYTES))
        except DecodeError as error:
            raise InvalidRecord(Reason.MALFORMED, "an index cannot be decoded") from error

    async def _read_object(self, reference: chunk_pb2.ObjectRef, max_bytes: int) -> bytes:
        check_reference(reference, max_bytes)
        blobs = [await self._fetch(part.chunk_id, part.size_bytes) for part in reference.parts]
        return open_object(reference, blobs)

    # Sessions -------------------------------------------------------------------------------------------

    async def _restore_session(
        self, session_id: bytes, told: Sequence[chunk_pb2.HeadSession], progress: Restored
    ) -> None:
        """Adopts the longest copy that holds."""
        failure = ""
        for session in told:
            try:
                is_new = await self._sessions.adopt(session_id, await self._read_facts(session))
            except StoreError:
                raise
            except LucidError as error:
                failure = failure or str(error)
                continue
            progress.restored += is_new
            progress.known += not is_new
            return
        progress.report(f"session {session_id.hex()}: {failure}")

    async def _read_facts(self, session: chunk_pb2.HeadSession) -> list[bytes]:
        payloads: list[bytes] = []
        left = MAX_SESSION_BYTES
        for reference in session.facts:
            content = await self._read_object(reference, min(left, MAX_STRETCH_BYTES))
            left -= len(content)
            payloads += decode_facts(content)
        if len(payloads) != session.fact_count:
            raise InvalidRecord(Reason.NOT_CONSISTENT, "the copies of its facts are not as many as told")
        return payloads


def _age(found: _Found) -> tuple[int, bytes]:
    """Orders heads of one device; of two with one number, always the same one wins."""
    return found.head.sequence, found.entry.head.payload
