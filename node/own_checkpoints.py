"""The checkpoints of this node's recordings, as those see them who have them co-signed."""

from collections.abc import Sequence

from kernel.errors import NotFound, StoreDamaged
from kernel.ports import Journal, Records
from lucid.v1 import identity_pb2
from session.access import RecorderKeys
from session.catalog import Catalog


class OwnCheckpoints:
    """`dht.ports.Checkpoints` over the index of sessions."""

    def __init__(self, records: Records, journal: Journal, keys: RecorderKeys) -> None:
        self._catalog = Catalog(records, journal, keys)
        self._device = keys.device.public_key

    def session_ids(self) -> Sequence[bytes]:
        """See `Checkpoints`."""
        return [
            session_id
            for session_id, row in self._catalog.rows([])
            if row.opened.policy.public_key == self._device
        ]

    def newest(self, session_id: bytes) -> identity_pb2.Signed | None:
        """See `Checkpoints`."""
        try:
            row = self._catalog.row(session_id)
        except (NotFound, StoreDamaged):
            return None
        return row.last_checkpoint if row.checkpoint_count else None

    def get(self, session_id: bytes, sequence: int) -> identity_pb2.Signed | None:
        """See `Checkpoints`."""
        try:
            return self._catalog.checkpoint(session_id, sequence)
        except StoreDamaged:
            return None

    def chunk_ids(self, session_id: bytes, count: int) -> Sequence[bytes]:
        """See `Checkpoints`."""
        return [entry.chunk_id for entry in self._catalog.chunks(session_id, count)]
