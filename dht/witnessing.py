"""A witness: co-signs how far others' recordings have come. Rules: docs/spec/13-witness.md.

One line is kept per (session, recording device): the last checkpoint that was co-signed, and the attestation.
Only what extends it is co-signed; a smaller or forked checkpoint is refused, whoever brings it. A line is
never forgotten: its owner is the one who would profit from that.

Order of an attestation: journal append → journal sync → index commit → answer. The journal is the truth: it
is read before each attestation, so whatever a killed process left between these steps is known to the next.
A line has two streams that take turns: the full one is dropped after its successor holds the newest record.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from dht import tables
from dht.ports import PeerIdentity
from dht.preset import WitnessPreset
from kernel.attestation import sign_attestation
from kernel.checkpoint import SESSION_ID_BYTES, compute_checkpoint_hash, decode_checkpoint
from kernel.domains import Network
from kernel.errors import Conflict, InvalidRecord, LucidError, Reason, StoreDamaged, StoreFull
from kernel.keyed_locks import KeyedLocks
from kernel.merkle import is_consistent
from kernel.ports import Clock, Journal, Put, Records
from kernel.signing import PUBLIC_KEY_BYTES, SigningKey
from lucid.v1 import session_pb2, witness_pb2

MAX_PROOF_HASHES = 64
"""A consistency proof between trees of less than 2^32 leaves has no more."""

_SLOTS = (0, 1)
_PAGE = 1000


def check_extends(
    kept: witness_pb2.Attested | None,
    new: session_pb2.Checkpoint,
    old_count: int,
    proof: Sequence[bytes],
) -> None:
    """Checks that a checkpoint, whose signature holds, extends what was co-signed before.

    Args:
        kept: what was co-signed last; None if nothing was.
        new: another checkpoint of the same session and device.
        old_count: the chunk count that `proof` begins at.
        proof: consistency proof from there to the new one.

    Raises:
        Conflict: it is older than, or another branch than, what was co-signed; or the proof begins elsewhere.
        InvalidRecord: the proof does not hold.
    """
    if kept is None:
        if old_count or proof:
            raise _refuse("nothing was co-signed yet, so a proof must begin with nothing")
        return
    old = _read_checkpoint(kept)
    known = f"checkpoint {old.sequence} over {old.chunk_count} chunks was co-signed before"
    if new.sequence <= old.sequence:
        raise _refuse(f"{known}: number {new.sequence} does not come after it")
    if new.chunk_count < old.chunk_count:
        raise _refuse(f"{known}: {new.chunk_count} chunks are fewer")
    follows = compute_checkpoint_hash(kept.checkpoint.payload) == new.previous
    if new.sequence == old.sequence + 1 and not follows:
        raise _refuse(f"{known}: number {new.sequence} follows another checkpoint")
    if old_count != old.chunk_count:
        raise _refuse(f"{known}: the proof begins at {old_count} chunks")
    if not is_consistent(old_count, new.chunk_count, old.root, new.root, proof):
        raise InvalidRecord(Reason.NOT_CONSISTENT, "the new chunks do not extend those that were co-signed")


def _refuse(why: str) -> Conflict:
    return Conflict(why, hint="GetAttested tells what was co-signed.")


def _read_checkpoint(kept: witness_pb2.Attested) -> session_pb2.Checkpoint:
    return session_pb2.Checkpoint.FromString(kept.checkpoint.payload)


class Witnesses:
    """Co-signs checkpoints of other nodes' recordings."""

    def __init__(
        self,
        clock: Clock,
        records: Records,
        journal: Journal,
        key: SigningKey,
        network: Network,
        preset: WitnessPreset | None = None,
    ) -> None:
        """`key`: the identity of this node."""
        self._clock = clock
        self._records = records
        self._journal = journal
        self._key = key
        self._network = network
        self._preset = preset or WitnessPreset()
        self._locks: KeyedLocks[bytes] = KeyedLocks()
        self._per_owner: dict[bytes, int] = {}
        self._lines = 0

    async def start(self) -> list[str]:
        """Counts the lines, and remakes those that the index does not have from their journals.

        Returns:
            Lines that cannot be read, one text each: their sessions are co-signed no more.
        """
        damaged: list[bytes] = []
        start: bytes | None = b""
        while start is not None:
            page = self._records.scan(tables.ATTESTED, start=start, limit=_PAGE, damaged=damaged)
            for _, value in page:
                self._count(witness_pb2.Attested.FromString(value).owner)
            start = page[-1][0] + b"\0" if len(page) == _PAGE else None
        problems = []
        for stream in self._journal.streams(tables.ATTESTED_STREAMS):
            line = tables.parse_attested_stream(stream)
            if line is not None and self._read_row(tables.attested_key(*line))[0] is None:
                try:
                    await self._load(*line)
                except LucidError as error:
                    problems.append(f"what was co-signed of session {line[0].hex()}: {error}")
        return problems

    async def attest(
        self, request: witness_pb2.AttestRequest, caller: PeerIdentity
    ) -> witness_pb2.AttestResponse:
        """Co-signs a checkpoint of the caller. The attestation is durable before it is returned.

        Asked again for the same checkpoint, it gives the same attestation.

        Raises:
            InvalidRecord: it is no checkpoint that the caller signed, or the proof does not hold.
            Conflict: it does not extend what was co-signed before.
            StoreFull: the owner of the caller, or all together, have no room left for another session.
            StoreDamaged: what was co-signed before cannot be read.
        """
        checkpoint = self._check_request(request, caller)
        line = (checkpoint.session_id, caller.device)
        async with self._locks.hold(tables.attested_key(*line)):
            kept, slot = await self._load(*line)
            if kept is not None and kept.checkpoint.payload == request.checkpoint.payload:
                return witness_pb2.AttestResponse(attestation=kept.attestation)
            check_extends(kept, checkpoint, request.old_count, request.consistency)
            attestation = sign_attestation(
                self._key, self._network, request.checkpoint, checkpoint.session_id, self._clock.wall_ns()
            )
            new = witness_pb2.Attested(
                checkpoint=request.checkpoint,
                attestation=attestation,
                owner=caller.owner if kept is None else kept.owner,
            )
            with self._taking_room(new.owner, 1 if kept is None else 0):
                await self._keep(line, slot, new)
            return witness_pb2.AttestResponse(attestation=attestation)

    async def get_attested(self, request: witness_pb2.GetAttestedRequest) -> witness_pb2.GetAttestedResponse:
        """What was co-signed last of a session of a device; empty if nothing was.

        Raises:
            InvalidRecord: the request is malformed.
            StoreDamaged: it cannot be read.
        """
        if len(request.session_id) != SESSION_ID_BYTES or len(request.device) != PUBLIC_KEY_BYTES:
            raise InvalidRecord(Reason.MALFORMED, "a session ID has 16 bytes, a device key 32")
        async with self._locks.hold(tables.attested_key(request.session_id, request.device)):
            kept, _ = await self._load(request.session_id, request.device)
        if kept is None:
            return witness_pb2.GetAttestedResponse()
        return witness_pb2.GetAttestedResponse(checkpoint=kept.checkpoint, attestation=kept.attestation)

    def _check_request(
        self, request: witness_pb2.AttestRequest, caller: PeerIdentity
    ) -> session_pb2.Checkpoint:
        if len(request.consistency) > MAX_PROOF_HASHES:
            raise InvalidRecord(Reason.TOO_LARGE, f"a proof of {len(request.consistency)} hashes")
        return decode_checkpoint(request.checkpoint, self._network, caller.device)

    async def _load(self, session_id: bytes, device: bytes) -> tuple[witness_pb2.Attested | None, int]:
        """The line, and the stream that it stands in. Makes durable and indexes what it found."""
        row, row_damaged = self._read_row(tables.attested_key(session_id, device))
        found, slot, damaged = None, 0, False
        for each in _SLOTS:
            stream = tables.attested_stream(session_id, device, each)
            if not self._journal.size(stream):
                continue
            contents = await self._journal.read(stream)
            if contents.torn_bytes:
                await self._journal.trim(stream)
            damaged |= bool(contents.damaged)
            for _, payload in contents.records:
                one = witness_pb2.Attested.FromString(payload)
                if found is None or _read_checkpoint(one).sequence > _read_checkpoint(found).sequence:
                    found, slot = one, each
        if row is None and (damaged or (row_damaged and found is None)):
            raise StoreDamaged("what was co-signed of the session is damaged; it is co-signed no more")
        if found is None or (
            row is not None and _read_checkpoint(found).sequence <= _read_checkpoint(row).sequence
        ):
            return row, slot
        await self._journal.sync(tables.attested_stream(session_id, device, slot))
        await self._index(session_id, device, found)
        if row is None:
            self._count(found.owner)
        return found, slot

    async def _keep(self, line: tuple[bytes, bytes], slot: int, new: witness_pb2.Attested) -> None:
        current, other = (tables.attested_stream(*line, each) for each in (slot, 1 - slot))
        is_full = self._journal.size(current) >= self._preset.stream_bytes
        if is_full:
            await self._journal.drop(other)
        target = other if is_full else current
        await self._journal.append(target, [new.SerializeToString()])
        await self._journal.sync(target)
        await self._index(*line, new)
        if is_full:
            await self._journal.drop(current)

    async def _index(self, session_id: bytes, device: bytes, line: witness_pb2.Attested) -> None:
        key = tables.attested_key(session_id, device)
        await self._records.commit([Put(tables.ATTESTED, key, line.SerializeToString())])

    def _read_row(self, key: bytes) -> tuple[witness_pb2.Attested | None, bool]:
        """The line as the index has it, and whether it is damaged there."""
        try:
            value = self._records.get(tables.ATTESTED, key)
        except StoreDamaged:
            return None, True
        return None if value is None else witness_pb2.Attested.FromString(value), False

    def _count(self, owner: bytes, lines: int = 1) -> None:
        self._per_owner[owner] = self._per_owner.get(owner, 0) + lines
        self._lines += lines

    @contextmanager
    def _taking_room(self, owner: bytes, lines: int) -> Iterator[None]:
        """Around the writing of new lines: they count at once, and not if that fails (`_load` finds out)."""
        if lines and self._lines >= self._preset.lines:
            raise StoreFull("this witness has no room for another session")
        if lines and self._per_owner.get(owner, 0) >= self._preset.lines_per_owner:
            raise StoreFull(
                f"this witness keeps {self._preset.lines_per_owner} sessions of an owner, no more"
            )
        self._count(owner, lines)
        try:
            yield
        except BaseException:
            self._count(owner, -lines)
            raise
