"""The owner's side of witnesses: has checkpoints co-signed, and asks how far witnesses have seen a session.

    place of a session = BLAKE3("witness" ‖ session ID)

Its witnesses are the five known nodes nearest to that place, by XOR with BLAKE3(device key). What they signed
is kept, the newest per witness. Nothing waits for a witness: sessions that lack attestations are remembered,
and looked at again when peers change, after a minute, and after a restart. Rules: docs/spec/13-witness.md.
"""

import asyncio
from collections.abc import Callable, Iterable

from blake3 import blake3

from dht import tables
from dht.placement import sort_by_distance
from dht.ports import Checkpoints, Peer, PeerIdentity, Peers, list_connected
from dht.preset import WitnessPreset
from dht.witness_call import Newest, Seen, get_seen, request_attestation
from kernel.checkpoint import compute_checkpoint_hash
from kernel.domains import Network
from kernel.errors import Conflict, LucidError, Unavailable
from kernel.ports import Clock, Delete, Operation, Put, Records
from lucid.v1 import identity_pb2, session_pb2

_TAG = b"witness"
_MAX_ASKED = 16
_LOOK_EVERY_S = 0.1

OnTrouble = Callable[[bytes, bytes, LucidError], None]
"""Called with session ID, witness and what went wrong with it."""


def compute_witness_place(session_id: bytes) -> bytes:
    """The place of a session, 32 bytes, to which its witnesses are near."""
    return blake3(_TAG + session_id).digest()


def choose_witnesses(peers: Iterable[PeerIdentity], session_id: bytes, count: int) -> list[PeerIdentity]:
    """The `count` peers that witness a session, the nearest first."""
    return sort_by_distance(peers, compute_witness_place(session_id))[:count]


class Attester:
    """Has the checkpoints of this node co-signed."""

    def __init__(
        self,
        clock: Clock,
        records: Records,
        peers: Peers,
        checkpoints: Checkpoints,
        device: bytes,
        network: Network,
        on_trouble: OnTrouble,
        preset: WitnessPreset | None = None,
        *,
        expects_peers: bool = False,
    ) -> None:
        """See the class.

        Args:
            clock: wall and monotonic time.
            records: keep the attestations.
            peers: of this node.
            checkpoints: of its recordings.
            device: Ed25519 key of this node, which signs the checkpoints.
            network: where signatures count.
            on_trouble: is told what goes wrong with a witness.
            preset: parameters.
            expects_peers: peers are configured; they may not have been met yet.
        """
        self._clock = clock
        self._records = records
        self._peers = peers
        self._checkpoints = checkpoints
        self._device = device
        self._network = network
        self._on_trouble = on_trouble
        self._preset = preset or WitnessPreset()
        self._expects_peers = expects_peers
        self._meet_until_ns = 0
        self._changed: dict[bytes, None] = {}
        self._lacking: dict[bytes, None] = {}

    def begin(self) -> None:
        """The node starts: for a moment, peers that are not connected may just be on their way."""
        self._meet_until_ns = self._clock.monotonic_ns() + round(self._preset.meet_s * 1e9)

    def on_changed(self, session_id: bytes) -> None:
        """Takes note that a session may have a new checkpoint; returns at once."""
        self._changed[session_id] = None

    async def run(self) -> None:
        """Has checkpoints co-signed until it is cancelled; begins with all that lack attestations."""
        try:
            await self._forget_deleted()
        except LucidError as error:  # they do no harm; the next start tries again
            self._on_trouble(b"", b"", error)
        self._changed |= dict.fromkeys(self._checkpoints.session_ids())
        reachable: list[bytes] = []
        retried_ns = self._clock.monotonic_ns()
        while True:
            before, reachable = reachable, self._list_reachable()
            now_ns = self._clock.monotonic_ns()
            work, self._changed = self._changed, {}
            if reachable != before or now_ns - retried_ns >= self._preset.retry_every_s * 1e9:
                work, self._lacking, retried_ns = self._lacking | work, {}, now_ns
            if not reachable:
                self._lacking |= work
            elif work:
                await self._attest_all(list(work))
            await self._clock.sleep(self._preset.attest_every_s)

    async def _attest_all(self, session_ids: list[bytes]) -> None:
        """Some at a time, so that a slow witness of one session holds none of the others up for long."""
        slots = asyncio.Semaphore(self._preset.sessions_at_once)

        async def attest(session_id: bytes) -> None:
            try:
                if not await self.attest(session_id):
                    self._lacking[session_id] = None
            except LucidError as error:
                self._lacking[session_id] = None
                self._on_trouble(session_id, b"", error)
            finally:
                slots.release()

        async with asyncio.TaskGroup() as group:
            for session_id in session_ids:
                await slots.acquire()
                group.create_task(attest(session_id))

    async def attest(self, session_id: bytes) -> bool:
        """Asks the witnesses of a session to co-sign its newest checkpoint, where they have not.

        Returns:
            True if nothing is left to do: as many as there should be have co-signed it, or there is none.

        Raises:
            StoreError: what is needed cannot be read, or what was got cannot be kept.
        """
        signed = self._checkpoints.newest(session_id)
        if signed is None or signed.public_key != self._device:
            return True
        checkpoint = session_pb2.Checkpoint.FromString(signed.payload)
        newest = Newest(session_id, signed, checkpoint, compute_checkpoint_hash(signed.payload))
        have = {witness: sequence for sequence, witness, _ in self._scan(session_id)}
        chosen = choose_witnesses(self._peers.known(), session_id, self._preset.witnesses)
        asked = [
            peer
            for identity in chosen
            if have.get(identity.device) != checkpoint.sequence
            and (peer := self._peers.find(identity.device)) is not None
        ]
        try:
            async with asyncio.TaskGroup() as group:
                for peer in asked:
                    group.create_task(self._ask(peer, newest, have.get(peer.identity.device)))
        except* LucidError as errors:
            raise _first(errors) from None
        done = [sequence for sequence, _, _ in self._scan(session_id) if sequence == checkpoint.sequence]
        return len(done) >= self._preset.witnesses

    async def _ask(self, peer: Peer, newest: Newest, sequence: int | None) -> None:
        """Asks one witness, which signed checkpoint `sequence` before; reports what goes wrong."""
        device = peer.identity.device
        known = None if sequence is None else self._checkpoints.get(newest.session_id, sequence)
        old_count = 0 if known is None else session_pb2.Checkpoint.FromString(known.payload).chunk_count
        try:
            try:
                attestation = await self._request(peer, newest, old_count)
            except Conflict:
                seen = await get_seen(peer, self._network, newest.session_id, self._device)
                attestation = await self._reconcile(peer, newest, seen)
        except LucidError as error:
            self._on_trouble(newest.session_id, device, error)
            return
        await self._keep(newest.session_id, newest.checkpoint.sequence, device, attestation)

    async def _reconcile(self, peer: Peer, newest: Newest, seen: Seen | None) -> identity_pb2.Signed:
        """Goes on from what a witness says it signed, if that is part of this session's series."""
        if seen is None:
            return await self._request(peer, newest, 0)
        sequence = seen.checkpoint.sequence
        own = self._checkpoints.get(newest.session_id, sequence)
        if own is None or own.payload != seen.signed.payload:
            raise Conflict(
                f"a witness signed checkpoint {sequence} of the session, which this store does not have",
                hint="This store was put back from an old copy.",
            )
        if sequence > newest.checkpoint.sequence:  # it was signed since this one was read
            await self._keep(newest.session_id, sequence, peer.identity.device, seen.attestation)
            raise Conflict("a newer checkpoint was co-signed meanwhile")
        return await self._request(peer, newest, seen.checkpoint.chunk_count)

    async def _request(self, peer: Peer, newest: Newest, old_count: int) -> identity_pb2.Signed:
        """Asks for an attestation, with the proof that it extends the first `old_count` chunks."""
        count = newest.checkpoint.chunk_count
        ids = self._checkpoints.chunk_ids(newest.session_id, count) if 0 < old_count < count else ()
        return await request_attestation(peer, self._network, newest, old_count, ids)

    async def find_ahead(self, session_id: bytes, device: bytes, count: int) -> identity_pb2.Signed | None:
        """The newest checkpoint that a witness has seen of a session, if it is beyond this store.

        Args:
            session_id: the session.
            device: Ed25519 key of the recording device.
            count: how many checkpoints this store has; the next one would be number `count`.

        Raises:
            Unavailable: no witness answers, although some are known, or expected.
        """
        await self._let_peers_come(session_id)
        devices = self._list_witnesses(session_id)
        if not devices:
            if self._expects_peers:
                raise Unavailable("none of the peers was ever met")
            return None
        found: dict[bytes, Seen | None] = {}

        async def ask(peer: Peer) -> None:
            try:
                found[peer.identity.device] = await get_seen(peer, self._network, session_id, device)
            except LucidError as error:
                self._on_trouble(session_id, peer.identity.device, error)

        try:
            async with asyncio.timeout(self._preset.answer_s), asyncio.TaskGroup() as group:
                for witness in devices:
                    peer = self._peers.find(witness)
                    if peer is not None:
                        group.create_task(ask(peer))
        except TimeoutError:
            pass  # those that answered count
        if not found:
            raise Unavailable(f"none of the {len(devices)} witnesses of the session answers")
        ahead = [
            seen
            for _, seen in sorted(found.items())
            if seen is not None and seen.checkpoint.sequence >= count
        ]
        return max(ahead, key=lambda seen: seen.checkpoint.sequence).signed if ahead else None

    def _list_witnesses(self, session_id: bytes) -> list[bytes]:
        """Who may know of a session: those that are to witness it, and those that have."""
        known = choose_witnesses(self._peers.known(), session_id, self._preset.witnesses)
        devices = dict.fromkeys(identity.device for identity in known)
        devices |= dict.fromkeys(witness for _, witness, _ in self._scan(session_id))
        return list(devices)[:_MAX_ASKED]

    async def _let_peers_come(self, session_id: bytes) -> None:
        while self._clock.monotonic_ns() < self._meet_until_ns and self.exist:
            devices = self._list_witnesses(session_id)
            if devices and all(self._peers.find(device) is not None for device in devices):
                return
            await self._clock.sleep(_LOOK_EVERY_S)

    @property
    def exist(self) -> bool:
        """Are any witnesses known, or expected?"""
        return self._expects_peers or bool(self._peers.known())

    def attestations(self, session_id: bytes) -> list[tuple[int, identity_pb2.Signed]]:
        """(sequence of the checkpoint, attestation): the newest of each witness, by sequence."""
        return [(sequence, signed) for sequence, _, signed in self._scan(session_id)]

    def _scan(self, session_id: bytes) -> list[tuple[int, bytes, identity_pb2.Signed]]:
        rows = self._records.scan(tables.ATTESTATIONS, prefix=session_id, damaged=[])
        return [
            (*tables.parse_attestation_key(key), identity_pb2.Signed.FromString(value)) for key, value in rows
        ]

    async def _keep(
        self, session_id: bytes, sequence: int, witness: bytes, attestation: identity_pb2.Signed
    ) -> None:
        """Keeps an attestation in place of older ones of the same witness."""
        operations: list[Operation] = [
            Delete(tables.ATTESTATIONS, tables.attestation_key(session_id, old, witness))
            for old, who, _ in self._scan(session_id)
            if who == witness
        ]
        key = tables.attestation_key(session_id, sequence, witness)
        operations.append(Put(tables.ATTESTATIONS, key, attestation.SerializeToString()))
        await self._records.commit(operations)

    async def _forget_deleted(self) -> None:
        """Removes the attestations of sessions that are gone."""
        known = dict.fromkeys(self._checkpoints.session_ids())
        damaged: list[bytes] = []
        keys = [key for key, _ in self._records.scan(tables.ATTESTATIONS, damaged=damaged)]
        gone = [Delete(tables.ATTESTATIONS, key) for key in keys if key[:16] not in known]
        gone += [Delete(tables.ATTESTATIONS, key) for key in damaged]
        if gone:
            await self._records.commit(gone)

    def _list_reachable(self) -> list[bytes]:
        return [peer.identity.device for peer in list_connected(self._peers)]


def _first(errors: BaseExceptionGroup[LucidError]) -> LucidError:
    """One of the errors of a group, which may be nested."""
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if not isinstance(error, LucidError):
        raise error
    return error
