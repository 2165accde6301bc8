"""What the node asks of the world, beside the ports of the kernel."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from kernel.ports import Blobs, Clock, Entropy, Journal, Offload, Records


class OwnedOffload(Offload, Protocol):
    """An `Offload` that somebody must close."""

    def close(self) -> None:
        """Lets its threads end."""
        ...


@dataclass(frozen=True, slots=True)
class Usage:
    """Space, in bytes.

    Attributes:
        blob_bytes: exact sum of the lengths of all blob files.
        journal_bytes: exact sum of the lengths of all journal files.
        index_bytes: what the index takes on disk.
        free_bytes: what is free on the disk of the store.
    """

    blob_bytes: int
    journal_bytes: int
    index_bytes: int
    free_bytes: int


@dataclass(frozen=True, slots=True)
class NodePorts:
    """The world as one node sees it.

    Attributes:
        clock: time.
        entropy: randomness for keys.
        offload_cpu: compresses, encrypts, hashes; as many threads as cores.
        offload_io: short blocking calls.
        records: the index.
        blobs: sealed chunks.
        journal: facts and live frames.
        measure: the space that is used and free now.
    """

    clock: Clock
    entropy: Entropy
    offload_cpu: Offload
    offload_io: Offload
    records: Records
    blobs: Blobs
    journal: Journal
    measure: Callable[[], Usage]
