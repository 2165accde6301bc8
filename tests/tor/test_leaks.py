"""What a node and its Tor ask of the kernel: whatever the environment names, the node reaches Tor alone."""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from node.transport.options import PROXY_VARIABLES
from tests.process.conftest import wait_for
from tests.tor.nodes import LISTENING, TorPlace, find_sockets, is_kept
from tests.tor.traces import EVERYTHING, read_traces, trace_into


@contextmanager
def listening() -> Iterator[tuple[socket.socket, int]]:
    """Who must not be called, and its port."""
    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.setblocking(False)
        yield trap, trap.getsockname()[1]


def make_hostile(port: int) -> dict[str, str]:
    """Variables with which somebody leads a program astray; all lead to a port."""
    proxy = f"http://127.0.0.1:{port}"
    named = dict.fromkeys(PROXY_VARIABLES, proxy) | {name.upper(): proxy for name in PROXY_VARIABLES}
    return named | {
        "no_proxy": "*,.onion,onion,127.0.0.1",
        "NO_PROXY": ".onion",
        "no_grpc_proxy": "onion",
        "GRPC_ADDRESS_HTTP_PROXY": f"127.0.0.1:{port}",
        "GRPC_ADDRESS_HTTP_PROXY_ENABLED_ADDRESSES": "127.0.0.1/32,0.0.0.0/0",
        "GRPC_DNS_RESOLVER": "native",
        "RES_OPTIONS": "use-vc",
        "LOCALDOMAIN": "example",
        "ALL_PROXY": f"socks5h://127.0.0.1:{port}",
        "ftp_proxy": proxy,
    }


@pytest.fixture
def met(make_nodes: Callable[[int], list[TorPlace]], tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A traced node in a hostile environment, the trace, and the session that it brought to its peer."""
    keeper, owner = make_nodes(2)
    keeper.start_ready()
    address = keeper.wait_published()
    trace = tmp_path / "trace"
    with listening() as (trap, port):
        owner.environment |= make_hostile(port)
        daemon = owner.start_ready("--peer", address, wrapper=trace_into(trace, EVERYTHING))
        session = owner.record(os.urandom(200_000))  # the command line is in that environment, too
        wait_for(lambda: is_kept(owner, session))
        owner.wait_published()
        assert owner.run("onion", "check").returncode == 0
        tunnel = owner.status().tor.tunnel
        assert daemon.stop() == 0
        with pytest.raises(BlockingIOError):
            trap.accept()
    yield trace, tunnel


def test_in_a_hostile_environment_a_node_connects_to_its_tor_alone_and_looks_nothing_up(
    met: tuple[Path, str], shared_network: Any
) -> None:
    traces, tunnel = read_traces(met[0]), met[1]
    node, tor = traces["node"], traces["tor"]
    assert node.connected == {("127.0.0.1", int(tunnel.rpartition(":")[2]))}
    assert node.sockets <= {"AF_UNIX SOCK_STREAM", "AF_INET SOCK_STREAM", "AF_INET6 SOCK_STREAM"}
    assert node.bound <= {("127.0.0.1", 0), ("::1", 0)}  # metrics; gRPC asks if there is IPv6
    assert not node.sent | tor.sent
    relays = {
        ("127.0.0.1", int(one.local.rpartition(":")[2], 16))
        for pid in shared_network["pids"].values()
        for one in find_sockets(pid)
        if one.state == LISTENING
    }
    assert tor.connected and tor.connected <= relays
    assert tor.bound <= {("127.0.0.1", 0)}
    assert tor.sockets <= {"AF_UNIX SOCK_STREAM", "AF_INET SOCK_STREAM", "AF_NETLINK SOCK_RAW"}
