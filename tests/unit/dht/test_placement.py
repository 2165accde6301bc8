"""Where replicas go, by the golden vectors."""

import json
from pathlib import Path

from dht.placement import compute_node_place, compute_replica_place, is_eligible, rank_peers
from dht.ports import PeerIdentity

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "placement.json").read_text())
PEERS = [
    PeerIdentity(bytes.fromhex(node["device"]), bytes.fromhex(node["owner"]), b"")
    for node in VECTORS["nodes"]
]


def test_places_of_nodes() -> None:
    for node in VECTORS["nodes"]:
        assert compute_node_place(bytes.fromhex(node["device"])).hex() == node["place"]


def test_places_and_ranks_of_replicas() -> None:
    for case in VECTORS["replicas"]:
        place = (bytes.fromhex(case["session_id"]), case["group"], case["replica"])
        assert compute_replica_place(*place).hex() == case["place"]
        ranked = rank_peers(reversed(PEERS), *place)
        assert [PEERS.index(peer) for peer in ranked] == case["ranks"]


def test_holders_of_a_group() -> None:
    """Each replica at its first rank that is eligible, one after the other."""
    for case in VECTORS["groups"]:
        own = PEERS[case["own"]]
        holders: list[PeerIdentity] = []
        for replica in range(3):
            ranks = rank_peers(PEERS, bytes.fromhex(case["session_id"]), case["group"], replica)
            refused = case["refuse"]
            holders += [
                peer
                for peer in ranks
                if is_eligible(peer, holders, own=own) and PEERS.index(peer) not in refused
            ][:1]
        assert [PEERS.index(peer) for peer in holders] == case["holders"]
