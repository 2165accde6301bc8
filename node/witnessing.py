"""Everything about witnesses of one node, put together: those of its sessions, and itself as one."""

import asyncio

from dht.attesting import Attester
from dht.ports import Peers
from dht.witnessing import Witnesses
from kernel.errors import LucidError
from kernel.peer_id import encode_peer_id
from node.logs import Logger
from node.own_checkpoints import OwnCheckpoints
from node.ports import NodePorts
from session.access import RecorderKeys
from session.session_manager import SessionManager


class Witnessing:
    """The witnesses of one node.

    Attributes:
        witnesses: co-signs checkpoints of others.
        attester: has those of this node co-signed; the session room's `Witnesses`.
    """

    def __init__(
        self, keys: RecorderKeys, ports: NodePorts, peers: Peers, log: Logger, *, expects_peers: bool
    ) -> None:
        """`expects_peers`: peers are configured; they may not have been met yet."""
        self._log = log
        self.witnesses = Witnesses(ports.clock, ports.records, ports.journal, keys.device, keys.network)
        self.attester = Attester(
            ports.clock,
            ports.records,
            peers,
            OwnCheckpoints(ports.records, ports.journal, keys),
            keys.device.public_key,
            keys.network,
            self._on_trouble,
            expects_peers=expects_peers,
        )

    async def run(self, manager: SessionManager) -> None:
        """Has checkpoints co-signed, until it is cancelled; also settles what had to wait for witnesses."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._settle(manager))
            group.create_task(self.attester.run())

    async def _settle(self, manager: SessionManager) -> None:
        if self.attester.exist:
            await manager.settle_frames()

    def _on_trouble(self, session_id: bytes, witness: bytes, error: LucidError) -> None:
        who = encode_peer_id(witness) if witness else ""
        self._log.warning("not co-signed", session=session_id.hex(), witness=who, why=str(error))
