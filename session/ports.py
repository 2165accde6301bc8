"""What a recording asks of the world, beside the ports of the kernel."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from kernel.ports import Blobs, Clock, Entropy, Journal, Offload, Records
from lucid.v1 import identity_pb2


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
class Fetched:
    """A blob that somebody else kept. Unchecked: the caller compares it with the chunk ID.

    Attributes:
        blob: its bytes.
        source: who gave it, in words.
    """

    blob: bytes
    source: str


class Fetch(Protocol):
    """Where chunks come from that are missing or damaged here."""

    async def fetch(self, session_id: bytes, index: int, chunk_id: bytes, size_bytes: int) -> Fetched | None:
        """The blob of a chunk; None if nobody has it.

        Raises:
            Unavailable: somebody may have it, and does not give it just now.
        """
        ...


class FetchNothing:
    """`Fetch` of a node without peers."""

    async def fetch(self, session_id: bytes, index: int, chunk_id: bytes, size_bytes: int) -> Fetched | None:
        """See `Fetch`."""
        return None


NO_FETCH = FetchNothing()


class Witnesses(Protocol):
    """Nodes that co-sign the checkpoints of this node's recordings."""

    @property
    def exist(self) -> bool:
        """Are any known? If not, nobody needs to be asked before a session goes on."""
        ...

    async def find_ahead(self, session_id: bytes, device: bytes, count: int) -> identity_pb2.Signed | None:
        """The newest checkpoint that a witness has seen, if this store does not have it; the signature holds.

        Args:
            session_id: the session.
            device: Ed25519 key of the recording device.
            count: how many checkpoints this store has.

        Raises:
            Unavailable: no witness answers, although some are known.
        """
        ...

    def attestations(self, session_id: bytes) -> Sequence[tuple[int, identity_pb2.Signed]]:
        """(sequence of the checkpoint, attestation): the newest of each witness, by sequence."""
        ...


class NoWitnesses:
    """`Witnesses` of a node without peers."""

    exist = False

    async def find_ahead(self, session_id: bytes, device: bytes, count: int) -> identity_pb2.Signed | None:
        """See `Witnesses`."""
        return None

    def attestations(self, session_id: bytes) -> Sequence[tuple[int, identity_pb2.Signed]]:
        """See `Witnesses`."""
        return ()


NO_WITNESSES = NoWitnesses()


def ignore_change(session_id: bytes) -> None:
    """Tells nobody."""


@dataclass(frozen=True, slots=True)
class SessionPorts:
    """The world as the session room sees it.

    Attributes:
        fetch: brings chunks back that are missing or damaged.
        witnesses: co-sign checkpoints.
        on_changed: is told the ID of a session when its facts are durable, or it is deleted; returns at once.
    """

    clock: Clock
    entropy: Entropy
    offload: Offload
    records: Records
    blobs: Blobs
    journal: Journal
    fetch: Fetch = NO_FETCH
    on_changed: Callable[[bytes], None] = ignore_change
    witnesses: Witnesses = NO_WITNESSES
