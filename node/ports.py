"""What the node asks of the world, beside the ports of the kernel."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from kernel.multiaddr import Multiaddr
from kernel.ports import Blobs, Clock, Entropy, Journal, Offload, Records, Rng

if TYPE_CHECKING:
    import grpc

    from kernel.onion import OnionKey
    from lucid.v1 import control_pb2


class OwnedOffload(Offload, Protocol):
    """An `Offload` that somebody must close."""

    def close(self) -> None:
        """Lets its threads end."""
        ...


class Dialler(Protocol):
    """The only source of gRPC channels to other nodes.

    Attributes:
        connect_timeout_s: seconds that a connection may take to come about.
        ping_every_s: seconds after which the other end of a connection is asked whether it is there.
        ping_timeout_s: seconds without an answer, or anything else from there, that end a connection.
    """

    connect_timeout_s: float
    ping_every_s: float
    ping_timeout_s: float

    def dial(self, address: Multiaddr) -> "grpc.aio.Channel":
        """A channel of its own; it connects when it is first used.

        Raises:
            UsageError: such an address is not dialled.
            Unavailable: nothing can be dialled now.
        """
        ...

    async def relearn(self, address: Multiaddr) -> None:
        """Nobody answered there: has what is known of the way learnt anew, if that can be done soon."""
        ...


class Transport(Dialler, Protocol):
    """The only source of gRPC servers and channels between nodes: whoever has none reaches nobody.

    An address that it does not serve is refused before anything is opened: fail closed.
    """

    def listen(
        self, address: Multiaddr, interceptors: "Sequence[grpc.aio.ServerInterceptor]"
    ) -> "tuple[grpc.aio.Server, Multiaddr]":
        """A server that is bound, but not started, and the address that others dial.

        Raises:
            UsageError: nothing listens on such an address.
            Conflict: the port is taken.
        """
        ...


class OnionPublisher(Dialler, Protocol):
    """Makes onion services known to the network.

    Attributes:
        is_ready: can it dial and publish now?
    """

    @property
    def is_ready(self) -> bool:
        """See the class."""
        ...

    async def publish(self, key: "OnionKey", port: int) -> None:
        """Publishes the service of a key, whose address is listened on, now or when that can be done."""
        ...

    async def withdraw(self, host: str) -> None:
        """Publishes a service no longer. Connections through it stay until its server closes them."""
        ...

    def is_published(self, host: str) -> bool:
        """Can clients find the service?"""
        ...

    async def wait_changed(self) -> None:
        """Returns when what is published, or whether that can be done, has changed."""
        ...

    def explain(self) -> str:
        """Why it is not ready, in words; empty if it is."""
        ...

    def describe(self) -> "control_pb2.TorStatus":
        """How it is doing, for people; without services."""
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
        rng: randomness for samples.
    """

    clock: Clock
    entropy: Entropy
    offload_cpu: Offload
    offload_io: Offload
    records: Records
    blobs: Blobs
    journal: Journal
    measure: Callable[[], Usage]
    rng: Rng
