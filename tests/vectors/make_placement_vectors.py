"""Writes `placement.json`: `python -m tests.vectors.make_placement_vectors`. Format: tests/vectors/FORMAT.md.

Shares no code with `dht.placement`: it follows docs/spec/11-lease.md.
"""

import json
from pathlib import Path
from typing import Any

from blake3 import blake3

NODES = [
    {"device": blake3(b"device %d" % number).hexdigest(), "owner": blake3(b"owner %d" % owner).hexdigest()}
    for number, owner in enumerate([0, 0, 1, 2, 2, 3, 4, 5])
]
SESSIONS = [bytes(range(16)), bytes(range(240, 256))]


def place_replica(session_id: bytes, group: int, replica: int) -> bytes:
    return blake3(b"placement" + session_id + group.to_bytes(4, "big") + replica.to_bytes(1, "big")).digest()


def rank(place: bytes) -> list[int]:
    def distance(number: int) -> bytes:
        node = blake3(bytes.fromhex(NODES[number]["device"])).digest()
        return bytes(left ^ right for left, right in zip(node, place, strict=True))

    return sorted(range(len(NODES)), key=distance)


def choose(session_id: bytes, group: int, own: int, refuse: list[int]) -> list[int]:
    holders: list[int] = []
    for replica in range(3):
        for number in rank(place_replica(session_id, group, replica)):
            owners = [NODES[other]["owner"] for other in (own, *holders)]
            if number not in refuse and NODES[number]["owner"] not in owners:
                holders.append(number)
                break
    return holders


def build() -> dict[str, Any]:
    """The document."""
    places = [
        (session_id, group, replica)
        for session_id in SESSIONS
        for group, replica in ((0, 0), (0, 1), (0, 2), (1, 0), (2**32 - 1, 255))
    ]
    return {
        "nodes": [node | {"place": blake3(bytes.fromhex(node["device"])).hexdigest()} for node in NODES],
        "replicas": [
            {
                "session_id": session_id.hex(),
                "group": group,
                "replica": replica,
                "place": place_replica(session_id, group, replica).hex(),
                "ranks": rank(place_replica(session_id, group, replica)),
            }
            for session_id, group, replica in places
        ],
        "groups": [
            {
                "session_id": session_id.hex(),
                "group": group,
                "own": own,
                "refuse": refuse,
                "holders": choose(session_id, group, own, refuse),
            }
            for session_id in SESSIONS
            for group, own, refuse in ((0, 0, []), (0, 5, []), (7, 3, []), (7, 3, [0, 6]))
        ],
    }


if __name__ == "__main__":
    (Path(__file__).parent / "placement.json").write_text(json.dumps(build(), indent=2) + "\n")
