"""An owner's node with peers: sessions, heads, restoring and sharing, on simulated disks."""

import io
from collections.abc import Sequence

from dht.bandwidth import Pace
from dht.ports import PeerIdentity
from dht.restoring import Restored
from dht.tables import TABLES as DHT_TABLES
from kernel.domains import NETWORKS
from kernel.grants import sign_grant_list
from kernel.head_grants import sign_head_grant
from kernel.keys import DeviceKeys, OwnerKeys
from kernel.sealing import compute_x25519_public
from lucid.v1 import identity_pb2
from node.identity.peer_keys import PeerKeys
from node.logs import make_logger
from node.owner_heads import OwnerHeads
from session.access import RecorderKeys
from session.session_manager import SessionManager
from session.tables import TABLES
from storage.memory_records import MemoryRecords
from tests.scenarios.world import ListSource, World, ending, ignore, plaintext, request
from tests.unit.dht.holder import Holder
from tests.unit.dht.memory_peer import MemoryPeer, MemoryPeers

DEV = NETWORKS["dev"]
ROLES = [identity_pb2.ROLE_RECORD, identity_pb2.ROLE_READ, identity_pb2.ROLE_WORK]


class OwnerWorld(World):
    """One device of an owner, and the peers that it knows."""

    def __init__(
        self, owner: bytes = b"o", device: bytes = b"d", *, seed: int = 1, has_head_grant: bool = True
    ) -> None:
        super().__init__(seed)
        self.records = MemoryRecords((*TABLES, *DHT_TABLES), self.faults)
        self.owner_keys = OwnerKeys.from_root(owner * 32)
        device_keys = DeviceKeys.from_root(device * 32)
        name = device_keys.identity.public_key
        grant = identity_pb2.Grant(device=name, roles=ROLES)
        seal = self.owner_keys.seal(0)
        reader = compute_x25519_public(seal)
        grants = sign_grant_list(self.owner_keys.identity, DEV, seed, [grant], 0, reader)
        head_grant = sign_head_grant(self.owner_keys.head_locator, DEV, name) if has_head_grant else None
        self.peer_keys = PeerKeys(DEV, device_keys, grants, head_grant)
        box = compute_x25519_public(device_keys.box)
        reading = {reader: seal, box: device_keys.box}
        self.identity = PeerIdentity(name, self.owner_keys.identity.public_key, box)
        self.keys = RecorderKeys(DEV, device_keys.identity, self.identity.owner, reader, reading, {name})
        self.peers = MemoryPeers([])
        self.pace = Pace(self.clock)
        self.heads: OwnerHeads

    async def boot(self) -> SessionManager:
        self.keys.others.clear()
        await super().boot()
        log = make_logger("debug", "json", io.StringIO())
        self.heads = OwnerHeads(
            self.ports, self.keys, self.peer_keys, self.manager, self.peers, self.pace, log
        )
        assert await self.heads.start() == []
        return self.manager

    def meet(self, holders: Sequence[Holder]) -> list[MemoryPeer]:
        """Connects to nodes that keep things."""
        self.peers.peers = [
            MemoryPeer(holder.identity, holder.holdings, holder.heads, self.identity) for holder in holders
        ]
        return self.peers.peers

    async def publish(self) -> bool:
        assert self.heads.publisher is not None
        return await self.heads.publisher.publish()

    async def restore(self) -> Restored:
        progress = Restored()
        await self.heads.restore(progress)
        return progress

    async def record(self, size: int = 1000, seed: int = 5) -> bytes:
        recording = await self.manager.open_recording(request(live=False))
        await recording.copy(ListSource(plaintext(size, seed)), ignore)
        return (await recording.finish(ending())).session_id


async def make_holders(count: int = 4) -> list[Holder]:
    return [await Holder(f"holder {number}", seed=number + 50).boot() for number in range(count)]
