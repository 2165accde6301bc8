"""Where nodes are reached, before they run."""

import asyncio
from pathlib import Path

import pytest

from kernel.errors import NotFound
from lucid.v1 import node_pb2
from node.adapters import ThreadOffload
from node.identity.keystore import open_keystore
from node.identity.unlock import read_passphrase_file
from node.onions import STREAM
from simnet.addresses import OnionAddress
from simnet.homes import ensure_home, prepare_passphrase
from simnet.layout import Layout
from simnet.transports import make_transport
from storage.journal import FileJournal
from storage.os_files import OsFiles
from storage.quota import Quota


async def write_state(layout: Layout, *entries: node_pb2.OnionEntry) -> None:
    """As the node in home 0 writes its onion services down."""
    offload = ThreadOffload("test", 1)
    layout.home(0).store.mkdir(exist_ok=True)
    journal = await FileJournal.open(OsFiles(layout.home(0).store), offload, Quota())
    await journal.append(STREAM, [node_pb2.OnionState(onions=entries).SerializeToString()])
    await journal.sync(STREAM)
    offload.close()


async def test_an_onion_address_is_known_before_the_node_has_run_and_after_a_rotation(tmp_path: Path) -> None:
    layout, transport = Layout(tmp_path), make_transport("tor", Layout(tmp_path))
    with pytest.raises(NotFound):
        prepare_passphrase(layout)
        await transport.locate(0)
    await ensure_home(layout, 0)
    device = open_keystore(layout.home(0).keystore, read_passphrase_file(layout.passphrase)).device
    assert await transport.locate(0) == OnionAddress(device.onion(0).host, 4001)
    first, second = (node_pb2.OnionEntry(index=index, since_s=7) for index in range(2))
    await write_state(layout, first, node_pb2.OnionEntry(index=1))  # the next one is not published yet
    assert await transport.locate(0) == OnionAddress(device.onion(0).host, 4001)
    first.until_s = 8
    await write_state(layout, first, second)
    assert await transport.locate(0) == OnionAddress(device.onion(1).host, 4001)


async def test_a_port_of_loopback_stays_until_the_end(tmp_path: Path) -> None:
    transport = make_transport("loopback", Layout(tmp_path))
    first, second, again = await asyncio.gather(*map(transport.locate, (0, 1, 0)))
    assert first == again != second
    assert transport.make_options(first) == ["--transport", "loopback", "--listen", first.multiaddr]
    assert transport.tor_options == []
    await transport.stop()


async def test_a_tor_that_knew_an_earlier_network_forgets_it(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    (layout.home(0).tor / "data").mkdir(parents=True)
    layout.home(0).keystore.touch()
    for _ in range(2):
        make_transport("tor", layout).prepare(0)
        assert [path.name for path in layout.home(0).root.iterdir()] == ["keystore"]
