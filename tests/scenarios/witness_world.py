"""Witnesses on simulated disks, and owners who talk to them without a network."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from dht import tables
from dht.ports import Peer, PeerIdentity
from dht.preset import WitnessPreset
from dht.witnessing import Witnesses
from kernel.checkpoint import EMPTY_TAIL_HASH, compute_checkpoint_hash
from kernel.domains import NETWORKS, Domain
from kernel.errors import LucidError, Unavailable
from kernel.merkle import Frontier, compute_consistency_proof, compute_leaf
from kernel.signing import SigningKey
from lucid.v1 import identity_pb2, session_pb2, witness_pb2
from storage.faults import Faults
from storage.inline import InlineOffload
from storage.journal import FileJournal
from storage.memory_files import MemoryFiles
from storage.memory_records import MemoryRecords
from storage.quota import Quota
from tests.scenarios.world import ManualClock, SeededRng

NETWORK = NETWORKS["dev"]
SESSION = bytes(range(16))


def make_identity(name: str, owner: str = "") -> tuple[SigningKey, PeerIdentity]:
    """A node that is made of its name."""
    key = SigningKey.from_seed(name.encode().ljust(32, b"."))
    return key, PeerIdentity(key.public_key, (owner or name).encode().ljust(32, b"o"), bytes(32))


class Series:
    """A device that signs checkpoints, honest by default."""

    def __init__(self, device: SigningKey, session_id: bytes = SESSION, salt: bytes = b"") -> None:
        self.device = device
        self.session_id = session_id
        self.signed: list[identity_pb2.Signed] = []
        self.chunks: list[bytes] = []
        self._salt = salt

    def grow(self, chunks: int = 1, **lie: object) -> identity_pb2.Signed:
        """The next checkpoint, over so many chunks more."""
        for _ in range(chunks):
            number = len(self.chunks).to_bytes(4, "big")
            self.chunks.append((number + self._salt).ljust(32, b"c"))
        fields: dict[str, object] = {
            "session_id": self.session_id,
            "sequence": len(self.signed),
            "chunk_count": len(self.chunks),
            "root": Frontier(compute_leaf(each) for each in self.chunks).root(),
            "tail_hash": EMPTY_TAIL_HASH,
            "time_ns": 7,
            "previous": compute_checkpoint_hash(self.signed[-1].payload) if self.signed else b"",
        }
        checkpoint = session_pb2.Checkpoint(**{**fields, **lie})  # type: ignore[arg-type]
        signed = self.device.sign(Domain.CHECKPOINT, NETWORK, checkpoint.SerializeToString())
        self.signed.append(signed)
        return signed

    def copy(self, salt: bytes = b"") -> "Series":
        """The same so far; what follows differs by `salt`."""
        twin = Series(self.device, self.session_id, salt)
        twin.signed, twin.chunks = list(self.signed), list(self.chunks)
        return twin

    def request(self, old_count: int, signed: identity_pb2.Signed | None = None) -> witness_pb2.AttestRequest:
        """Asks for the last checkpoint, with the proof from `old_count` chunks on."""
        signed = signed or self.signed[-1]
        count = session_pb2.Checkpoint.FromString(signed.payload).chunk_count
        leaves = [compute_leaf(each) for each in self.chunks[:count]]
        proof = compute_consistency_proof(leaves, old_count) if old_count <= count else []
        return witness_pb2.AttestRequest(checkpoint=signed, consistency=proof, old_count=old_count)

    # Port `Checkpoints`, for one session.

    def session_ids(self) -> Sequence[bytes]:
        return [self.session_id]

    def newest(self, session_id: bytes) -> identity_pb2.Signed | None:
        return self.signed[-1] if self.signed and session_id == self.session_id else None

    def get(self, session_id: bytes, sequence: int) -> identity_pb2.Signed | None:
        return self.signed[sequence] if sequence < len(self.signed) else None

    def chunk_ids(self, session_id: bytes, count: int) -> Sequence[bytes]:
        return self.chunks[:count]


class WitnessNode:
    """A witness: a simulated disk that survives its processes."""

    def __init__(self, name: str = "witness", preset: WitnessPreset | None = None, seed: int = 3) -> None:
        self.key, self.identity = make_identity(name)
        self.clock = ManualClock()
        self.preset = preset or WitnessPreset()
        rng = SeededRng(seed)
        self.faults = Faults(rng)
        self.files = MemoryFiles(rng, self.faults)
        self.records = MemoryRecords(tables.TABLES, self.faults)
        self.problems: list[str] = []
        self.journal: FileJournal
        self.witnesses: Witnesses

    async def boot(self) -> Witnesses:
        """A process starts on this disk."""
        self.journal = await FileJournal.open(self.files, InlineOffload(), Quota(None))
        self.witnesses = Witnesses(self.clock, self.records, self.journal, self.key, NETWORK, self.preset)
        self.problems = await self.witnesses.start()
        return self.witnesses

    def lose_index(self) -> None:
        """The index is gone; the journals are there."""
        self.records = MemoryRecords(tables.TABLES, self.faults)


@dataclass
class WitnessPeer:
    """A witness as an owner's node reaches it.

    Attributes:
        node: behind it.
        caller: as whom it is called.
        failure: every call raises this.
        lie: changes every answer.
        calls: names of the calls so far.
    """

    node: WitnessNode
    caller: PeerIdentity
    failure: LucidError | None = None
    lie: Callable[[object], object] | None = None
    calls: list[str] = field(default_factory=list)

    @property
    def identity(self) -> PeerIdentity:
        return self.node.identity

    async def attest(self, request: witness_pb2.AttestRequest) -> witness_pb2.AttestResponse:
        self._called("attest")
        answer = await self.node.witnesses.attest(request, self.caller)
        return self.lie(answer) if self.lie else answer  # type: ignore[return-value]

    async def get_attested(self, request: witness_pb2.GetAttestedRequest) -> witness_pb2.GetAttestedResponse:
        self._called("get_attested")
        answer = await self.node.witnesses.get_attested(request)
        return self.lie(answer) if self.lie else answer  # type: ignore[return-value]

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if self.failure is not None:
            raise self.failure


class WitnessPeers:
    """Port `Peers` over witnesses; those in `away` are known and not connected."""

    def __init__(self, peers: Sequence[WitnessPeer]) -> None:
        self.peers = {peer.identity.device: peer for peer in peers}
        self.away: set[bytes] = set()

    def known(self) -> Sequence[PeerIdentity]:
        return [self.peers[device].identity for device in sorted(self.peers)]

    def find(self, device: bytes) -> Peer | None:
        return None if device in self.away else self.peers.get(device)  # type: ignore[return-value]

    async def wait_changed(self) -> None:
        raise Unavailable("nobody waits in these tests")


async def make_witnesses(count: int, caller: PeerIdentity) -> tuple[list[WitnessNode], WitnessPeers]:
    """So many witnesses, running, and how `caller` reaches them."""
    nodes = [WitnessNode(f"witness {number}") for number in range(count)]
    for node in nodes:
        await node.boot()
    return nodes, WitnessPeers([WitnessPeer(node, caller) for node in nodes])
