"""How the nodes of a cluster reach each other: over loopback, or as onion services on a private Tor network.

Over Tor, a node's address grows from its keys, which the cluster's passphrase opens, and from how often its
service was replaced, which its journal tells. It is read while the node does not run, or of one that does.
"""

import asyncio
import shutil
from typing import Protocol

from kernel.uninterrupted import end_task
from node.adapters import ThreadOffload
from node.identity.keystore import open_keystore
from node.identity.unlock import read_passphrase_file
from node.onions import STREAM, decode_onions
from node.setting_values import DEFAULT_PORT
from simnet.addresses import Address, NodeAddress, OnionAddress, reserve_address
from simnet.layout import Layout
from simnet.progress import Report
from simnet.tor.keys import get_cache_folder
from simnet.tor.network import TorNetwork
from storage.journal import FileJournal
from storage.os_files import OsFiles
from storage.quota import Quota

TRANSPORTS = ("loopback", "tor")
FIRST_ONION = 0  # of a node that has not run yet


class SimTransport(Protocol):
    """What carries the bytes between nodes.

    Attributes:
        name: as in the setting `transport`.
        ready_timeout_s: within which a node is connected with all others, if the machine is fast.
    """

    name: str
    ready_timeout_s: float

    @property
    def tor_options(self) -> list[str]:
        """Torrc lines with which a Tor reaches the nodes; none over loopback."""
        ...

    async def start(self, report: Report) -> None:
        """Brings up what nodes need to reach each other.

        Raises:
            LucidError: it cannot be; nothing of it runs.
        """
        ...

    async def stop(self) -> None:
        """Ends it. Does nothing if it was not started."""
        ...

    def prepare(self, index: int) -> None:
        """Makes a home ready for what was started; nobody uses it."""
        ...

    async def locate(self, index: int) -> NodeAddress:
        """Where a node is reached, whose home is there.

        Raises:
            LucidError: its home cannot be read.
        """
        ...

    def make_options(self, address: NodeAddress) -> list[str]:
        """Options of `lucid-node run` with which a node is reached at its address."""
        ...


def make_transport(name: str, layout: Layout) -> SimTransport:
    """The transport of that name, of `TRANSPORTS`."""
    return TorTransport(layout) if name == "tor" else LoopbackTransport()


class LoopbackTransport:
    """Reserved ports of 127.0.0.1; see `SimTransport`."""

    name = "loopback"
    ready_timeout_s = 60.0

    def __init__(self) -> None:
        self._reserved: dict[int, Address] = {}

    @property
    def tor_options(self) -> list[str]:
        """None."""
        return []

    async def start(self, report: Report) -> None:
        """Nothing is needed."""

    async def stop(self) -> None:
        """Gives the ports back."""
        for address in self._reserved.values():
            address.reservation.close()

    def prepare(self, index: int) -> None:
        """Nothing is needed."""

    async def locate(self, index: int) -> NodeAddress:
        """The port that is reserved for it, from the first time on."""
        if index not in self._reserved:
            self._reserved[index] = reserve_address()
        return self._reserved[index]

    def make_options(self, address: NodeAddress) -> list[str]:
        """See `SimTransport`."""
        return ["--transport", self.name, "--listen", address.multiaddr]


class TorTransport:
    """A private Tor network, on which each node has a Tor of its own; see `SimTransport`."""

    name = "tor"
    ready_timeout_s = 180.0

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._network = TorNetwork(layout.tor, get_cache_folder())
        self._watching: asyncio.Task[None] | None = None

    @property
    def tor_options(self) -> list[str]:
        """Those of the network; set while it runs."""
        return self._network.client_options

    async def start(self, report: Report) -> None:
        """Starts the network; tells, from then on, which of its processes ended by itself."""
        await self._network.start(report)
        self._watching = asyncio.create_task(self._network.watch(report))

    async def stop(self) -> None:
        """Kills all processes of the network."""
        if self._watching is not None:
            await end_task(self._watching)
        await self._network.stop()

    def prepare(self, index: int) -> None:
        """Lets the node's Tor forget an earlier network: the relays were the same, at other ports."""
        shutil.rmtree(self._layout.home(index).tor, ignore_errors=True)

    async def locate(self, index: int) -> NodeAddress:
        """The address of its current onion service."""
        home = self._layout.home(index)
        passphrase = read_passphrase_file(self._layout.passphrase)
        keystore = await asyncio.to_thread(open_keystore, home.keystore, passphrase)
        offload = ThreadOffload("locate", 1)
        try:
            journal = await FileJournal.open(OsFiles(home.store), offload, Quota())
            onions = decode_onions((await journal.read(STREAM)).records)
        finally:
            offload.close()
        index = next((onion.index for onion in onions if onion.is_current), FIRST_ONION)
        return OnionAddress(keystore.device.onion(index).host, DEFAULT_PORT)

    def make_options(self, address: NodeAddress) -> list[str]:
        """See `SimTransport`; the node finds its address by itself."""
        lines = [word for line in self.tor_options for word in ("--tor-option", line)]
        return ["--transport", self.name, "--listen", "onion", *lines]
