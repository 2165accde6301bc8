"""Checking a recording: all that was signed about it against all that is stored of it.

What is checked, in this order; each finding is kept and the checks go on:

1. the opening: a device of the owner signed the control policy, for this session and its retention; who can
   read the session also checks its metadata and its key;
2. the checkpoints: an unbroken series of signatures over chunk IDs, the last one over the live frames too;
3. the chunks as the index lists them: gaps, and one final chunk at the end of a complete session;
4. the manifest of a complete session: signed by the same device for the same owner, over what is stored;
5. the bytes: every chunk against its ID and, for who can read, decrypted. What is missing or damaged here is
   fetched from peers; if that succeeds, it is told and the recording is valid.
"""

from blake3 import blake3

from kernel.domains import Domain, Label
from kernel.errors import InvalidRecord, Locked, Reason, StoreDamaged
from kernel.merkle import EMPTY_ROOT
from kernel.signing import verify_signed
from lucid.v1 import control_pb2, data_pb2, session_pb2
from session.access import RecorderKeys, decrypt_message, derive_session_key, load_secret
from session.catalog import Catalog
from session.checkpoint import CheckpointSeries, compute_checkpoint_hash
from session.control_policy import compute_policy_hash, decode_policy
from session.encryptor import ChunkFlag
from session.healing import Healer
from session.live_tail import find_tail_damage
from session.manifest import MAX_GAPS, decode_manifest
from session.ports import SessionPorts
from session.reader import Copier, OnProgress

CHECKPOINTS_AT_ONCE = 1000


class NullSink:
    """Takes everything and keeps nothing."""

    random_access = True

    async def write(self, offset: int, data: bytes | memoryview) -> None:
        """Forgets `data`."""


class Verifier:
    """Verifies sessions."""

    def __init__(
        self, ports: SessionPorts, keys: RecorderKeys, catalog: Catalog, healer: Healer, parallel: int
    ) -> None:
        """`parallel`: chunks in memory at once."""
        self._ports = ports
        self._keys = keys
        self._catalog = catalog
        self._healer = healer
        self._parallel = parallel

    async def verify(self, session_id: bytes, on_progress: OnProgress) -> control_pb2.VerifyResult:
        """Checks everything; what is wrong stands in `findings`, and `valid` is true if nothing is any more.

        Args:
            session_id: the session.
            on_progress: called with plaintext bytes done and in all.
        """
        row = self._catalog.row(session_id)
        result = control_pb2.VerifyResult(
            session_id=session_id,
            state=row.state,
            root=EMPTY_ROOT,
            chunks=row.chunk_count,
            plaintext_bytes=row.plaintext_bytes,
            gaps=len(row.gaps) + row.pending_gap,
        )
        secret = await self._open(session_id, result)
        for check in (
            self._check_opening,
            self._check_checkpoints,
            self._check_chunk_list,
            self._check_manifest,
        ):
            try:
                await check(session_id, row, secret, result)
            except (InvalidRecord, StoreDamaged) as error:
                result.findings.append(data_pb2.Finding(what=str(error)))
        copier = Copier(
            self._ports, self._catalog, self._healer, session_id, secret, NullSink(), partial=True
        )
        await copier.copy_chunks(row.chunk_count, self._parallel, row.plaintext_bytes, on_progress)
        await copier.copy_frames()
        result.findings.extend(copier.findings)
        result.valid = not result.findings
        result.findings.extend(sorted(copier.healed, key=lambda finding: finding.index))
        return result

    async def _open(self, session_id: bytes, result: control_pb2.VerifyResult) -> bytes | None:
        """The session secret; None if this device may not read."""
        try:
            return await load_secret(self._ports.journal, self._keys, session_id)
        except Locked:
            result.sealed = True
        except (InvalidRecord, StoreDamaged) as error:
            result.sealed = True
            result.findings.append(data_pb2.Finding(what=f"the sealed secret: {error}"))
        return None

    async def _check_opening(
        self, session_id: bytes, row: session_pb2.SessionRow, secret: bytes | None, _: object
    ) -> None:
        opened = row.opened
        if opened.session_id != session_id:
            raise InvalidRecord(Reason.WRONG_SESSION, "the index holds another session in its place")
        self._keys.check_recorder(opened.policy.public_key)
        policy = decode_policy(
            verify_signed(opened.policy, Domain.POLICY, self._keys.network, signer=opened.policy.public_key)
        )
        if policy.session_id != session_id:
            raise InvalidRecord(Reason.WRONG_SESSION, "the control policy belongs to another session")
        if policy.retain_until_s != opened.retain_until_s:
            raise InvalidRecord(Reason.NOT_CONSISTENT, "the retention is not that of the control policy")
        if secret is not None:
            decrypt_message(secret, Label.METADATA, session_id, opened.metadata, session_pb2.Metadata)
            if derive_session_key(secret, session_id).public_key != opened.session_key:
                raise InvalidRecord(Reason.NOT_CONSISTENT, "the session key is not that of the session")

    async def _check_checkpoints(
        self,
        session_id: bytes,
        row: session_pb2.SessionRow,
        _: object,
        result: control_pb2.VerifyResult,
    ) -> None:
        chunk_ids = [entry.chunk_id for entry in self._catalog.chunks(session_id, row.chunk_count)]
        series = CheckpointSeries(session_id, self._keys.network, row.opened.policy.public_key)
        while result.checkpoints < row.checkpoint_count:
            page = self._catalog.checkpoints(session_id, result.checkpoints, CHECKPOINTS_AT_ONCE)
            if not page:
                raise StoreDamaged(f"checkpoint {result.checkpoints} is missing")
            for signed in page[: row.checkpoint_count - result.checkpoints]:
                last = series.add(signed, chunk_ids)
                result.checkpoints += 1
                result.root, result.checkpoint_ns = last.root, last.time_ns
            await self._ports.clock.sleep(0)
        signed_count = series.last.chunk_count if series.last else 0
        if signed_count != row.chunk_count:
            raise InvalidRecord(
                Reason.NOT_CONSISTENT, f"{row.chunk_count} chunks are stored, {signed_count} were signed"
            )
        if row.root != result.root or (
            series.last and series.last_hash != compute_checkpoint_hash(row.last_checkpoint.payload)
        ):
            raise InvalidRecord(Reason.NOT_CONSISTENT, "the index tells of another last checkpoint")
        if series.last is not None:
            damage = await find_tail_damage(self._ports.journal, session_id, series.last)
            # Sealed meanwhile: a newer checkpoint covers these bytes as a chunk.
            if damage and self._catalog.row(session_id).chunk_count == row.chunk_count:
                raise InvalidRecord(Reason.WRONG_HASH, damage)

    async def _check_chunk_list(
        self, session_id: bytes, row: session_pb2.SessionRow, _secret: object, _: object
    ) -> None:
        entries = self._catalog.chunks(session_id, row.chunk_count)
        if [entry.index for entry in entries if entry.flags & ChunkFlag.GAP] != list(row.gaps):
            raise InvalidRecord(Reason.NOT_CONSISTENT, "the index tells of other gaps than the chunks do")
        totals = (sum(e.plaintext_bytes for e in entries), sum(e.stored_bytes for e in entries))
        if totals != (row.plaintext_bytes, row.stored_bytes):
            raise InvalidRecord(Reason.NOT_CONSISTENT, "the index tells of other sizes than the chunks do")
        final = [entry.index for entry in entries if entry.flags & ChunkFlag.FINAL]
        complete = row.state == session_pb2.STATE_COMPLETE
        if final not in ([row.chunk_count - 1], *([] if complete else [[]])):
            raise InvalidRecord(Reason.NOT_CONSISTENT, "the session does not end with its one final chunk")

    async def _check_manifest(
        self, session_id: bytes, row: session_pb2.SessionRow, secret: bytes | None, _: object
    ) -> None:
        if row.HasField("closed") != (row.state == session_pb2.STATE_COMPLETE):
            raise InvalidRecord(Reason.NOT_CONSISTENT, "the session is complete without a manifest")
        if not row.HasField("closed"):
            return
        device, opened, closed = row.opened.policy.public_key, row.opened, row.closed
        manifest = decode_manifest(
            verify_signed(closed.manifest, Domain.MANIFEST, self._keys.network, signer=device)
        )
        expected = {
            "session ID": (manifest.session_id, session_id),
            "network": (manifest.network, self._keys.network.id),
            "device": (manifest.device, device),
            "owner": (manifest.owner, self._keys.owner),
            "session key": (manifest.session_key, opened.session_key),
            "start": (manifest.started_ms, opened.started_ns // 1_000_000),
            "number of chunks": (manifest.chunk_count, row.chunk_count),
            "root": (manifest.root, row.root),
            "list of gaps": (manifest.gaps, tuple(row.gaps[:MAX_GAPS])),
            "control policy": (manifest.policy_hash, compute_policy_hash(opened.policy.payload)),
            "metadata": (manifest.metadata_hash, blake3(opened.metadata).digest()),
            "ending": (manifest.ending_hash, blake3(closed.ending).digest()),
            "last checkpoint": (
                manifest.checkpoint_hash,
                compute_checkpoint_hash(row.last_checkpoint.payload),
            ),
            "number of checkpoints": (manifest.checkpoint_count, row.checkpoint_count),
        }
        for what, (signed, stored) in expected.items():
            if signed != stored:
                raise InvalidRecord(
                    Reason.NOT_CONSISTENT, f"the manifest was signed over another {what} than is stored"
                )
        if secret is not None:
            decrypt_message(secret, Label.ENDING, session_id, closed.ending, session_pb2.Ending)
