"""The recordings of a node as the room that spreads them sees them: `dht.ports.Recordings` over the index."""

from collections.abc import Callable, Sequence

from dht.lease import derive_lease_key
from dht.ports import OwnChunk
from kernel.errors import InvalidRecord, NotFound, StoreDamaged
from kernel.ports import Journal, Records
from kernel.signing import SigningKey
from lucid.v1 import session_pb2
from session import tables
from session.access import RecorderKeys, load_secret
from session.catalog import Catalog

ANY_NUMBER = 1 << 16


class SessionRecordings:
    """Sessions that devices of this node's owner recorded.

    Attributes:
        count_keepers: see `HeadPublisher`; a node that publishes no heads has as many as there can be.
    """

    def __init__(self, records: Records, journal: Journal, keys: RecorderKeys) -> None:
        self._records = records
        self._journal = journal
        self._keys = keys
        self._catalog = Catalog(records, journal, keys)
        self.count_keepers: Callable[[bytes], int] = lambda _: ANY_NUMBER

    def session_ids(self) -> Sequence[bytes]:
        """See `dht.ports.Recordings`."""
        return [session_id for session_id, row in self._catalog.rows([]) if self._is_ours(row)]

    def chunk_count(self, session_id: bytes) -> int:
        """See `dht.ports.Recordings`."""
        row = self._find(session_id)
        return row.chunk_count if row is not None else 0

    def chunks(self, session_id: bytes, start: int, limit: int) -> Sequence[OwnChunk]:
        """See `dht.ports.Recordings`."""
        key = tables.chunk_key(session_id, start)
        found = self._records.scan(tables.CHUNKS, prefix=session_id, start=key, limit=limit, damaged=[])
        entries = [session_pb2.ChunkEntry.FromString(value) for _, value in found]
        return [
            OwnChunk(session_id, entry.index, entry.chunk_id, entry.stored_bytes)
            for entry in entries
            if entry.index < start + limit
        ]

    def is_own(self, session_id: bytes) -> bool:
        """See `dht.ports.Recordings`."""
        row = self._find(session_id)
        return row is not None and self._is_ours(row)

    def is_deleted(self, session_id: bytes) -> bool:
        """See `dht.ports.Recordings`."""
        return self._catalog.tombstone(session_id) is not None

    def count_heads(self, session_id: bytes) -> int:
        """See `dht.ports.Recordings`."""
        return self.count_keepers(session_id)

    async def lease_key(self, session_id: bytes) -> SigningKey:
        """See `dht.ports.Recordings`."""
        return derive_lease_key(await load_secret(self._journal, self._keys, session_id), session_id)

    def _find(self, session_id: bytes) -> session_pb2.SessionRow | None:
        try:
            return self._catalog.row(session_id)
        except (NotFound, StoreDamaged):
            return None

    def _is_ours(self, row: session_pb2.SessionRow) -> bool:
        try:
            self._keys.check_recorder(row.opened.policy.public_key)
        except InvalidRecord:
            return False
        return True
