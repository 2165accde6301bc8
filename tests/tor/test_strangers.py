"""Who comes to an onion service and behaves badly: a thousand mute ones, one that never reads, itself."""

import asyncio
import os
import resource
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from simnet.tor.probe import connect
from tests.process.conftest import wait_for
from tests.tor.nodes import TorPlace, make_tor_place

SILENT = 1000
SILENT_THROUGH_TOR = 60
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
PING = bytes([0, 0, 8, 6, 0, 0, 0, 0, 0]) + b"12345678"
FLOOD_BYTES = 64 << 20
MOST_GROWTH_BYTES = 32 << 20


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, client_options: list[str]) -> Iterator[TorPlace]:
    """A node that listens; it names itself as a peer."""
    with make_tor_place(tmp_path_factory.mktemp("s") / "0", client_options) as place:
        place.start_ready()
        own = place.status().tor.onions[0].address
        place.daemons[-1].stop()
        place.start_ready("--peer", own)
        place.wait_published()
        yield place


def find_socket(place: TorPlace) -> Path:
    """Where Tor brings those who come."""
    [path] = place.home.glob("p-*.sock")
    return path


def count_descriptors(place: TorPlace) -> int:
    return len(list(Path(f"/proc/{place.daemons[-1].process.pid}/fd").iterdir()))


def get_memory(place: TorPlace) -> int:
    """Bytes that the daemon keeps in memory."""
    text = Path(f"/proc/{place.daemons[-1].process.pid}/statm").read_text()
    return int(text.split()[1]) * resource.getpagesize()


def dial(path: Path) -> socket.socket:
    stranger = socket.socket(socket.AF_UNIX)
    stranger.settimeout(60)
    stranger.connect(str(path))
    return stranger


def test_a_node_that_names_its_own_address_is_told_so_and_serves_others(server: TorPlace) -> None:
    own = server.wait_published()
    wait_for(
        lambda: [one["trouble"] for one in server.json("peers")["peers"]] == [f"{own}: this is the same node"]
    )
    assert server.status().peers_connected == 0
    assert server.is_serving()


def test_a_thousand_who_say_nothing_keep_nobody_out_and_are_hung_up_on(
    server: TorPlace, make_nodes: Callable[[int], list[TorPlace]]
) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    [peer] = make_nodes(1)
    before = count_descriptors(server)
    with ExitStack() as stack:
        for _ in range(SILENT):
            stack.enter_context(dial(find_socket(server)))
        peer.start_ready("--peer", server.wait_published())
        peer.wait_connected()
        assert server.is_serving()
        assert server.run("onion", "check").returncode == 0
        wait_for(lambda: count_descriptors(server) < before + 100)
    wait_for(lambda: peer.run("ping", server.wait_published()).returncode == 0)


async def test_who_opens_many_streams_through_tor_and_says_nothing_keeps_nobody_out(server: TorPlace) -> None:
    address = server.wait_published().removeprefix("/onion3/").replace(":", ".onion:")
    tunnel = server.find_tunnel()
    streams = []
    async with asyncio.timeout(120):
        for _ in range(SILENT_THROUGH_TOR):
            with suppress(ConnectionError):  # a circuit takes so many and is closed then
                streams.append(await connect(tunnel, address))
    assert len(streams) > 10
    assert server.run("onion", "check").returncode == 0
    for _, writer in streams:
        writer.close()


def test_who_asks_and_never_reads_the_answers_takes_a_bounded_piece_of_memory(server: TorPlace) -> None:
    before = get_memory(server)
    with dial(find_socket(server)) as stranger:
        stranger.settimeout(5)
        stranger.sendall(PREFACE)
        sent = 0
        with suppress(OSError):  # it blocks, or is hung up on
            while sent < FLOOD_BYTES:
                sent += stranger.send(PING * 4096)
        assert server.run("onion", "check").returncode == 0
        assert get_memory(server) - before < MOST_GROWTH_BYTES
    assert sent


def test_nonsense_over_the_service_changes_nothing(server: TorPlace) -> None:
    for data in (os.urandom(1 << 16), b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", PREFACE + b"\xff" * 1000):
        with dial(find_socket(server)) as stranger, suppress(OSError):
            stranger.sendall(data)
            while stranger.recv(1 << 16):
                pass
    assert server.run("onion", "check").returncode == 0
    assert server.is_serving()
