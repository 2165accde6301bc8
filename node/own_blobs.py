"""`dht.ports.OwnBlobs`: is a blob part of a session, or of what this node's heads refer to?"""

from dht import tables as dht_tables
from kernel.errors import InvalidRecord, NotFound, StoreDamaged
from kernel.ports import Blobs, Offload, Records
from lucid.v1 import session_pb2
from session import tables
from session.encryptor import HEADER_BYTES, decode_header


class NodeOwnBlobs:
    """Looks blobs up in the tables of sessions and objects."""

    def __init__(self, records: Records, blobs: Blobs, offload: Offload) -> None:
        self._records = records
        self._blobs = blobs
        self._offload = offload

    async def needs(self, blob_id: bytes) -> bool:
        """See `dht.ports.OwnBlobs`. A session that is being deleted needs nothing any more."""
        try:
            header = decode_header(await self._blobs.read(blob_id, 0, HEADER_BYTES))
        except NotFound:
            return False
        except InvalidRecord:  # no chunk of a session, or a damaged one
            return await self._offload.run(self._is_referred_to, blob_id)
        try:
            key = tables.chunk_key(header.session_id, header.index)
            value = self._records.get(tables.CHUNKS, key)
            if value is None or self._records.get(tables.TOMBSTONES, header.session_id) is not None:
                return False
            return session_pb2.ChunkEntry.FromString(value).chunk_id == blob_id
        except StoreDamaged:
            return True

    def _is_referred_to(self, blob_id: bytes) -> bool:
        """References hold the ID as it is, so whatever holds it refers to it."""
        damaged: list[bytes] = []
        for table in (dht_tables.OBJECTS, tables.CHUNKS):
            rows = self._records.scan(table, damaged=damaged)
            if damaged or any(blob_id in value for _, value in rows):
                return True
        return False
