"""The parameters of a recording.

*genesis*: all nodes must agree; *operational*: each node's own business.
"""

from dataclasses import dataclass

KIB = 1 << 10
MIB = 1 << 20

MAX_CHUNK_BYTES = 16 * MIB
"""Greatest plaintext of a chunk (genesis): the bound that every reader may rely on."""


@dataclass(frozen=True, slots=True)
class SessionPreset:
    """How sessions are recorded.

    Attributes:
        chunk_bytes: plaintext of a full chunk; 64 KiB…16 MiB (operational; product default 8 MiB).
        seal_after_s: a live chunk is sealed so long after its first byte (operational).
        sync_every_s: live frames are made durable at least so often (operational).
        checkpoint_every_s: a live session that changed is checkpointed at least so often (operational).
        chunks_in_flight: chunks of all bulk sessions that are in memory at once (operational): with the work
            on each, up to three times `chunk_bytes` of memory per chunk.
        live_chunks_in_flight: the same for live sessions, which have room of their own (operational).
        max_recordings: sessions that may be recorded at the same time (operational).
    """

    chunk_bytes: int = 8 * MIB
    seal_after_s: float = 30.0
    sync_every_s: float = 1.0
    checkpoint_every_s: float = 5.0
    chunks_in_flight: int = 6
    live_chunks_in_flight: int = 2
    max_recordings: int = 64

    def __post_init__(self) -> None:
        if not 64 * KIB <= self.chunk_bytes <= MAX_CHUNK_BYTES:
            raise ValueError("chunk_bytes must be 64 KiB to 16 MiB")
        if min(self.chunks_in_flight, self.live_chunks_in_flight, self.max_recordings) < 1:
            raise ValueError("chunks in flight and max_recordings must be at least 1")
