"""What a recording asks of the world, beside the ports of the kernel."""

from dataclasses import dataclass
from typing import Protocol

from kernel.ports import Blobs, Clock, Entropy, Journal, Offload, Records


class Source(Protocol):
    """Where the bytes of a bulk recording come from, in order, from the recording's position on."""

    async def read(self, size_bytes: int) -> bytes:
        """The next bytes: as many as asked for; fewer only at the end; b"" at the end."""
        ...


class Sink(Protocol):
    """Where the plaintext of a recording goes.

    Attributes:
        random_access: True if `write` may be called for several places at once and in any order.
    """

    @property
    def random_access(self) -> bool:
        """See the class."""
        ...

    async def write(self, offset: int, data: bytes | memoryview) -> None:
        """Writes all of `data` at `offset` bytes from the start."""
        ...


@dataclass(frozen=True, slots=True)
class SessionPorts:
    """The world as the session room sees it."""

    clock: Clock
    entropy: Entropy
    offload: Offload
    records: Records
    blobs: Blobs
    journal: Journal
