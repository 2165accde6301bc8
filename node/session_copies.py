"""What heads and sharing need of the sessions of this node: the ports of `dht`, over the session room."""

from collections.abc import Callable, Sequence

from dht.sharing import Shareable
from kernel import aead
from kernel.errors import Conflict, NotFound, StoreDamaged
from kernel.sealing import seal
from lucid.v1 import session_pb2
from session import tables
from session.access import RecorderKeys, load_secret
from session.adoption import Copy
from session.catalog import Catalog
from session.ports import SessionPorts
from session.session_manager import SessionManager
from session.state import name_of

MAX_DELETED = 10_000


class SessionCopies:
    """`dht.ports.Sessions` and `dht.sharing.SharedSessions`."""

    def __init__(
        self,
        ports: SessionPorts,
        keys: RecorderKeys,
        manager: SessionManager,
        trust: Callable[[bytes], None],
    ) -> None:
        """`trust` makes a device one of the owner's that recorded."""
        self._ports = ports
        self._keys = keys
        self._manager = manager
        self._catalog = Catalog(ports.records, ports.journal, keys)
        self._trust = trust

    def list(self) -> Sequence[tuple[bytes, int]]:
        """See `Sessions`."""
        rows = self._catalog.rows([])
        return [(session_id, row.fact_count) for session_id, row in rows if not row.adopted.owner]

    def count_facts(self, session_id: bytes) -> int:
        """See `Sessions`."""
        try:
            return self._catalog.row(session_id).fact_count
        except (NotFound, StoreDamaged):
            return 0

    def deleted(self) -> Sequence[bytes]:
        """See `Sessions`."""
        newest = sorted(self._catalog.tombstones(), key=lambda one: one.deleted_ns)[-MAX_DELETED:]
        return sorted(tombstone.session_id for tombstone in newest)

    async def read_facts(self, session_id: bytes, first: int, end: int) -> Sequence[bytes]:
        """See `Sessions`."""
        contents = await self._ports.journal.read(tables.facts_stream(session_id))
        payloads: list[bytes] = []
        for number, payload in contents.records:
            if first <= number < end:
                if number != first + len(payloads):
                    break
                payloads.append(payload)
        return payloads

    async def adopt(self, session_id: bytes, payloads: Sequence[bytes]) -> bool:
        """See `Sessions`."""
        return await self._manager.adopt(Copy(session_id, payloads, session_pb2.Adopted()))

    async def catch_up(self, session_id: bytes, payloads: Sequence[bytes]) -> bool:
        """See `Sessions`."""
        return await self._manager.catch_up(Copy(session_id, payloads, session_pb2.Adopted()))

    async def adopt_deletion(self, session_id: bytes) -> None:
        """See `Sessions`."""
        await self._manager.adopt_deletion(session_id)

    def trust(self, device: bytes) -> None:
        """See `Sessions`."""
        self._trust(device)

    def get_shareable(self, session_id: bytes) -> Shareable:
        """See `SharedSessions`."""
        row = self._catalog.row(session_id)
        if row.adopted.owner:
            raise Conflict("the session belongs to another owner, who alone may share it")
        if row.state == session_pb2.STATE_RECORDING:
            raise Conflict(f"the session is {name_of(row.state)}", hint="Share it when it has ended.")
        return Shareable(row.opened.policy.public_key, row.fact_count)

    async def seal_for(self, session_id: bytes, reader: bytes) -> session_pb2.SealedSecret:
        """See `SharedSessions`."""
        secret = await load_secret(self._ports.journal, self._keys, session_id)
        draw = self._ports.entropy.draw
        return seal(secret, reader, session_id, draw(32), draw(aead.NONCE_BYTES))

    def count_shared(self, owner: bytes) -> tuple[int, int]:
        """See `SharedSessions`."""
        owners = [row.adopted.owner for _, row in self._catalog.rows([]) if row.adopted.owner]
        return owners.count(owner), len(owners)

    async def adopt_shared(
        self, session_id: bytes, payloads: Sequence[bytes], adopted: session_pb2.Adopted
    ) -> bool:
        """See `SharedSessions`."""
        return await self._manager.adopt(Copy(session_id, payloads, adopted))
