"""Looking into the index: which sessions there are, what they hold, what their owner sees of them."""

import re
from collections.abc import Sequence

from kernel.domains import Label
from kernel.errors import InvalidRecord, LocalError, NotFound, StoreDamaged, UsageError
from kernel.ports import Journal, Records
from lucid.v1 import control_pb2, data_pb2, identity_pb2, session_pb2
from session import tables
from session.access import RecorderKeys, decrypt_message, load_secret
from session.manifest import compute_manifest_hash
from session.witnessed import is_behind

_HEX = re.compile(r"[0-9a-f]{0,32}")


class Catalog:
    """Read access to the index of sessions."""

    def __init__(self, records: Records, journal: Journal, keys: RecorderKeys) -> None:
        self._records = records
        self._journal = journal
        self._keys = keys

    def row(self, session_id: bytes) -> session_pb2.SessionRow:
        """The index row.

        Raises:
            NotFound: there is no such session, or it was deleted.
            StoreDamaged: the row is.
        """
        value = self._records.get(tables.SESSIONS, session_id)
        if value is None and self.tombstone(session_id) is not None:
            raise NotFound(f"session {format_session_id(session_id)} was deleted")
        if value is None:
            raise NotFound(f"there is no session {format_session_id(session_id)}")
        return session_pb2.SessionRow.FromString(value)

    def rows(self, damaged: list[bytes]) -> list[tuple[bytes, session_pb2.SessionRow]]:
        """All rows by session ID; the IDs of damaged ones are added to `damaged`."""
        return [
            (session_id, session_pb2.SessionRow.FromString(value))
            for session_id, value in self._records.scan(tables.SESSIONS, damaged=damaged)
        ]

    def chunk(self, session_id: bytes, index: int) -> session_pb2.ChunkEntry:
        """One chunk's entry.

        Raises:
            StoreDamaged: the entry is damaged or missing.
        """
        value = self._records.get(tables.CHUNKS, tables.chunk_key(session_id, index))
        if value is None:
            raise StoreDamaged(f"the index has no entry for chunk {index}", hint=REBUILD_HINT)
        return session_pb2.ChunkEntry.FromString(value)

    def chunks(self, session_id: bytes, count: int) -> list[session_pb2.ChunkEntry]:
        """The entries of the first `count` chunks.

        Raises:
            StoreDamaged: one is damaged or missing.
        """
        found = self._records.scan(tables.CHUNKS, prefix=session_id, limit=count)
        entries = [session_pb2.ChunkEntry.FromString(value) for _, value in found]
        if [entry.index for entry in entries] != list(range(count)):
            raise StoreDamaged("the index does not have all chunks of the session", hint=REBUILD_HINT)
        return entries

    def checkpoints(self, session_id: bytes, start: int, limit: int) -> list[identity_pb2.Signed]:
        """Up to `limit` checkpoints from sequence `start` on.

        Raises:
            StoreDamaged: one is damaged.
        """
        key = tables.checkpoint_key(session_id, start)
        found = self._records.scan(tables.CHECKPOINTS, prefix=session_id, start=key, limit=limit)
        return [identity_pb2.Signed.FromString(value) for _, value in found]

    def checkpoint(self, session_id: bytes, sequence: int) -> identity_pb2.Signed | None:
        """One checkpoint; None if there is none with this sequence number.

        Raises:
            StoreDamaged: it is damaged.
        """
        value = self._records.get(tables.CHECKPOINTS, tables.checkpoint_key(session_id, sequence))
        return None if value is None else identity_pb2.Signed.FromString(value)

    def tombstone(self, session_id: bytes) -> session_pb2.Tombstone | None:
        """What remains of a deleted session; None if it was not deleted."""
        value = self._records.get(tables.TOMBSTONES, session_id)
        return None if value is None else session_pb2.Tombstone.FromString(value)

    def tombstones(self) -> list[session_pb2.Tombstone]:
        """All of them, by session ID."""
        return [
            session_pb2.Tombstone.FromString(value)
            for _, value in self._records.scan(tables.TOMBSTONES, damaged=[])
        ]

    def find(self, text: str) -> bytes:
        """The session that `text`, an ID or the beginning of one, means.

        Raises:
            UsageError: no session ID begins like that, or several do.
            NotFound: none does.
        """
        digits = text.strip().lower().replace("-", "")
        if not digits or not _HEX.fullmatch(digits):
            raise UsageError(f"{text!r} is no session ID", hint="`lucid-node session list` shows them")
        prefix = bytes.fromhex(digits[: len(digits) // 2 * 2])
        found = {
            key: None
            for table in (tables.SESSIONS, tables.TOMBSTONES)
            for key, _ in self._records.scan(table, prefix=prefix, damaged=[])
            if key.hex().startswith(digits)
        }
        if not found:
            raise NotFound(f"there is no session {text}", hint="`lucid-node session list` shows them")
        if len(found) > 1:
            raise UsageError(f"{len(found)} sessions begin with {text}", hint="give more of the ID")
        return next(iter(found))

    async def describe(
        self, session_id: bytes, row: session_pb2.SessionRow, state: "session_pb2.State.ValueType"
    ) -> control_pb2.SessionInfo:
        """The session as its owner sees it. `state`: what it is now, which the index may not know yet."""
        opened = row.opened
        info = control_pb2.SessionInfo(
            session_id=session_id,
            state=state,
            kind=opened.kind,
            started_ns=opened.started_ns,
            last_change_ns=row.last_change_ns,
            chunks=row.chunk_count,
            plaintext_bytes=row.plaintext_bytes,
            stored_bytes=row.stored_bytes,
            lost_bytes=row.lost_bytes,
            gaps=len(row.gaps) + row.pending_gap,
            root=row.root,
            checkpoints=row.checkpoint_count,
            held=row.held,
            retain_until_s=opened.retain_until_s,
            reason=row.reason if row.state == state else "its recorder is gone",
            policy=opened.policy.payload.decode(errors="replace"),
            device=opened.policy.public_key,
            incidents=row.incidents,
            behind=is_behind(row),
            owner=row.adopted.owner,
            sharer=row.adopted.sharer,
            adopted=row.HasField("adopted"),
        )
        if state == session_pb2.STATE_RECORDING:
            info.reason = ""
        if row.HasField("closed"):
            info.manifest = row.closed.manifest.payload.decode(errors="replace")
            info.manifest_hash = compute_manifest_hash(row.closed.manifest.payload)
        try:
            await self._describe_secrets(info, session_id, row)
        except (InvalidRecord, LocalError, StoreDamaged):
            info.unreadable = True
        return info

    async def _describe_secrets(
        self, info: control_pb2.SessionInfo, session_id: bytes, row: session_pb2.SessionRow
    ) -> None:
        secret = await load_secret(self._journal, self._keys, session_id)
        metadata = decrypt_message(
            secret, Label.METADATA, session_id, row.opened.metadata, session_pb2.Metadata
        )
        info.metadata.CopyFrom(metadata)
        if row.HasField("closed"):
            ending = decrypt_message(secret, Label.ENDING, session_id, row.closed.ending, session_pb2.Ending)
            info.ended_ns = ending.ended_ns
            info.has_exit_status, info.exit_status = ending.has_exit_status, ending.exit_status


REBUILD_HINT = "stop the node and run `lucid-node doctor --rebuild`"


def describe_done(session_id: bytes, row: session_pb2.SessionRow) -> data_pb2.RecordingDone:
    """What the client of a session is told when it is complete."""
    return data_pb2.RecordingDone(
        session_id=session_id,
        state=row.state,
        root=row.root,
        chunks=row.chunk_count,
        plaintext_bytes=row.plaintext_bytes,
        stored_bytes=row.stored_bytes,
    )


def describe_tombstone(tombstone: session_pb2.Tombstone) -> control_pb2.SessionInfo:
    """What is still known of a deleted session."""
    return control_pb2.SessionInfo(
        session_id=tombstone.session_id,
        state=session_pb2.STATE_DELETED,
        last_change_ns=tombstone.deleted_ns,
        chunks=tombstone.chunk_count,
        root=tombstone.root,
        manifest_hash=tombstone.manifest_hash,
        unreadable=True,
    )


def matches(
    info: control_pb2.SessionInfo,
    *,
    since_ns: int,
    tags: Sequence[str],
    state: "session_pb2.State.ValueType",
    search: str,
) -> bool:
    """True if a session is among those that a list asks for."""
    metadata = info.metadata
    words = " ".join(
        (metadata.name, metadata.source, *metadata.command, metadata.user, metadata.host)
    ).casefold()
    return (
        info.started_ns >= since_ns
        and set(tags) <= set(metadata.tags)
        and state in (session_pb2.STATE_UNSPECIFIED, info.state)
        and search.casefold() in words
    )


def format_session_id(session_id: bytes) -> str:
    """A session ID as text (RFC 9562): 8-4-4-4-12 hex digits."""
    text = session_id.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))
