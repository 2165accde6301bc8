"""The parameters of spreading.

*genesis*: all nodes must agree; *operational*: each node's own business.
"""

from dataclasses import dataclass

DAY_S = 86_400.0

REPLICAS = 3
"""Copies of each chunk, and of each part of an object, on nodes of others (genesis)."""


@dataclass(frozen=True, slots=True)
class SpreadPreset:
    """How an owner's node spreads its chunks.

    Attributes:
        replicas: copies of each chunk on nodes of others; 1…16 (genesis).
        group_chunks: so many chunks in a row are placed together (genesis).
        lease_s: a lease holds so long; at most 90 days. Renewed when half of it is over (operational).
        chunks_in_flight: chunks that are in memory at once while they are sent (operational).
        chunks_per_peer: of these, so many at one peer: a slow one leaves room for others (operational).
        fetches_in_flight: chunks that are in memory at once while they are fetched (operational).
        sources: peers from which one chunk is fetched at the same time (operational).
        hedge_s: when a source has not begun after so long, the next one is asked, too (operational).
        meet_s: a fetch waits so long for the first peer to connect; after a start, for more (operational).
        first_backoff_s: a peer that failed is left alone so long, then twice as long, … (operational).
        longest_backoff_s: … up to this; at once if it broke the rules (operational).
        grace_s: the replicas of a peer that was not seen for so long are made again elsewhere (operational).
    """

    replicas: int = REPLICAS
    group_chunks: int = 64
    lease_s: float = 30 * DAY_S
    chunks_in_flight: int = 4
    chunks_per_peer: int = 2
    fetches_in_flight: int = 4
    sources: int = 3
    hedge_s: float = 1.0
    meet_s: float = 10.0
    first_backoff_s: float = 5.0
    longest_backoff_s: float = 600.0
    grace_s: float = DAY_S

    def __post_init__(self) -> None:
        if not 1 <= self.replicas <= 16 or not 1 <= self.group_chunks <= 1024:
            raise ValueError("a chunk has 1 to 16 replicas, a group 1 to 1024 chunks")
        if not 60.0 <= self.lease_s <= 90 * DAY_S:
            raise ValueError("a lease holds for a minute to 90 days")
        if min(self.chunks_in_flight, self.chunks_per_peer, self.fetches_in_flight, self.sources) < 1:
            raise ValueError("at least one chunk must be in flight, from at least one source")


@dataclass(frozen=True, slots=True)
class WitnessPreset:
    """How checkpoints are co-signed.

    Attributes:
        witnesses: nodes that co-sign a session's checkpoints; 1…16 (genesis).
        attest_every_s: a growing session is co-signed at most so often (operational).
        retry_every_s: a session that lacks witnesses looks for them so often (operational).
        meet_s: peers have so long to connect after a start before they count as away (operational).
        answer_s: witnesses that are asked before a session goes on may take so long (operational).
        sessions_at_once: sessions whose checkpoints are on their way at the same time (operational).
        lines_per_owner: (session, device) lines that a witness keeps for one owner (operational).
        lines: the same for all owners together (operational).
        stream_bytes: a line's stream is written anew when it is longer (operational).
    """

    witnesses: int = 5
    attest_every_s: float = 5.0
    retry_every_s: float = 60.0
    meet_s: float = 3.0
    answer_s: float = 10.0
    sessions_at_once: int = 8
    lines_per_owner: int = 16_384
    lines: int = 131_072
    stream_bytes: int = 4 << 10

    def __post_init__(self) -> None:
        if not 1 <= self.witnesses <= 16:
            raise ValueError("a session has 1 to 16 witnesses")
        if min(self.sessions_at_once, self.lines_per_owner, self.lines, self.stream_bytes) < 1:
            raise ValueError("bounds of witnesses must be at least 1")
