"""Where replicas go. Rules: docs/spec/11-lease.md, section "Placement".

    place of a node     = BLAKE3(its 32-byte device key)
    place of a replica  = BLAKE3("placement" ‖ session ID ‖ group, u32 ‖ replica, u8)
    distance            = XOR of the two, as a 256-bit integer

Chunks are placed in groups, so that an owner has few partners per session. Replica r goes to the nearest
node that may hold it; whoever refuses is passed over, and the next nearest is asked.
"""

from collections.abc import Iterable, Sequence

from blake3 import blake3

from dht.ports import PeerIdentity

_TAG = b"placement"


def compute_node_place(device: bytes) -> bytes:
    """The place of a node, 32 bytes."""
    return blake3(device).digest()


def compute_replica_place(session_id: bytes, group: int, replica: int) -> bytes:
    """The place of replica `replica` of the chunks of `group`, 32 bytes."""
    return blake3(_TAG + session_id + group.to_bytes(4, "big") + bytes((replica,))).digest()


def rank_peers(
    peers: Iterable[PeerIdentity], session_id: bytes, group: int, replica: int
) -> list[PeerIdentity]:
    """`peers` in the order in which they are asked to hold a replica, the nearest first."""
    return sort_by_distance(peers, compute_replica_place(session_id, group, replica))


def sort_by_distance(peers: Iterable[PeerIdentity], place: bytes) -> list[PeerIdentity]:
    """`peers` by their distance to a place of 32 bytes, the nearest first."""
    target = int.from_bytes(place, "big")
    return sorted(peers, key=lambda peer: int.from_bytes(compute_node_place(peer.device), "big") ^ target)


def is_eligible(peer: PeerIdentity, holders: Sequence[PeerIdentity], *, own: PeerIdentity) -> bool:
    """May a peer hold a replica, while `holders` hold the others, or are to?

    Never two on one node or with one owner, and none with the owner of the session.
    """
    return all(peer.device != other.device and peer.owner != other.owner for other in (own, *holders))
