"""How many replicas a session has. Those of its chunks are not enough: without a head nobody finds it."""

from dataclasses import dataclass

from dht import tables
from dht.ports import SpreadPorts
from dht.replicas import is_counting, iterate_replicas, parse_replica_key


@dataclass(frozen=True, slots=True)
class ReplicaCount:
    """How far the spreading of a session has come.

    Attributes:
        replicas: complete replicas of the whole session: the least of all its chunks, and of its heads.
        wanted: how many there are to be.
        held: replicas of single chunks that count.
        pending: how many of these, and of heads, are missing.
        heads: how many nodes keep a head that leads to the session as it is.
    """

    replicas: int
    wanted: int
    held: int
    pending: int
    heads: int

    @property
    def pending_chunks(self) -> int:
        """Replicas of single chunks that are missing."""
        return self.pending - (self.wanted - self.heads)


def count_replicas(ports: SpreadPorts, session_id: bytes, wanted: int, *, complete: int) -> ReplicaCount:
    """Looks at the rows of a session; its first `complete` chunks are known to have all replicas."""
    now_s = ports.clock.wall_ns() / 1e9
    chunks = ports.recordings.chunk_count(session_id)
    complete = min(complete, chunks)
    counts = [0] * (chunks - complete)
    start = tables.replica_key(session_id, complete, 0)
    for page in iterate_replicas(ports.records, session_id, start):
        for key, row in page:
            _, index, replica = parse_replica_key(key)
            if index < chunks and replica < wanted and is_counting(row, now_s):
                counts[index - complete] += 1
    held = complete * wanted + sum(counts)
    replicas = min(counts, default=wanted) if chunks else 0
    heads = min(ports.recordings.count_heads(session_id), wanted)
    pending = (chunks + 1) * wanted - held - heads
    return ReplicaCount(min(replicas, heads), wanted, held, pending, heads)
