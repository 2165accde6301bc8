"""Real daemons that meet, and strangers who call them: grpcurl, and people who say nothing."""

import json
import resource
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from node.cli.fields import COMMAND_FIELDS

ROOT = Path(__file__).parents[2]
GRPCURL = ROOT / ".venv/bin/grpcurl"
SILENT = 1000
LISTEN = ("--listen", "/ip4/127.0.0.1/tcp/0")
Eventually = Callable[..., None]


def listen_address(place: Any) -> str:
    address: str = place.json("status")["listen"]
    return address


def get_host(address: str) -> str:
    """HOST:PORT of a multiaddr of this machine."""
    _, _, host, _, port, *_ = address.split("/")
    return f"{host}:{port}"


@pytest.fixture
def pair(make_places: Callable[[int], list[Any]], eventually: Eventually) -> Iterator[tuple[Any, Any]]:
    """Two daemons, the second of which was told of the first."""
    first, second = make_places(2)
    first.start_ready(*LISTEN)
    second.start_ready(*LISTEN, "--peer", listen_address(first))
    eventually(lambda: second.json("status")["peers_connected"] == 1)
    yield first, second


def test_peers_are_listed_and_answer(pair: tuple[Any, Any]) -> None:
    first, second = pair
    [shown] = second.json("peers")["peers"]
    assert shown["peer_id"] == first.json("id")["peer_id"]
    assert shown["owner_id"] == first.json("id")["owner_id"]
    assert listen_address(first) == f"{shown['address']}/p2p/{shown['peer_id']}"
    assert (shown["connected"], shown["trouble"], shown["protocol"]) == (True, "", 1)
    assert shown["software"].startswith("lucid-node ")
    assert shown["latency_ms"] > 0
    answer = second.json("ping", shown["peer_id"][:20])
    assert list(answer) == list(COMMAND_FIELDS["ping"])
    assert 0 < answer["round_trip_ms"] < 10_000
    text = second.run("peers").stdout.decode()
    assert "connected" in text and shown["peer_id"] in text
    assert "1 of 1 connected" in second.run("status").stdout.decode()
    [visitor] = first.json("peers")["peers"]  # served, and no more
    assert visitor["peer_id"] == second.json("id")["peer_id"]
    assert "it came by itself" in visitor["trouble"]
    assert [first.json("status")[name] for name in ("peers_connected", "peers_known")] == [0, 0]
    assert first.json("ping", visitor["peer_id"])["connected"]  # by the owner's word it is dialled
    assert [first.json("status")[name] for name in ("peers_connected", "peers_known")] == [0, 0]
    checks = {check["name"]: check for check in second.json("doctor")["checks"]}
    assert checks["peers"]["state"] == "ok"


def test_a_peer_that_is_killed_is_missed_and_met_again(pair: tuple[Any, Any], eventually: Eventually) -> None:
    first, second = pair
    address = listen_address(first)
    first.daemons[-1].stop(signal.SIGKILL)
    eventually(lambda: second.json("status")["peers_connected"] == 0)
    done = second.run("ping", address, "--json")
    assert done.returncode == 5
    document = json.loads(done.stdout)
    assert (document["round_trip_ms"], document["connected"]) == (None, False)
    assert "cannot be reached" in document["trouble"]
    assert second.run("ping", "nobody").returncode == 4
    done = second.run("doctor", "--json")
    assert done.returncode == 1
    assert "0 of 1 are connected" in done.stdout.decode()
    first.start_ready("--listen", address.split("/p2p/")[0])
    assert second.json("ping", address)["connected"]


def test_a_port_that_is_taken_is_told(make_places: Callable[[int], list[Any]]) -> None:
    [place] = make_places(1)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        daemon = place.start("--listen", f"/ip4/127.0.0.1/tcp/{port}")
        assert daemon.process.wait(60) == 1
    assert f"port {port} of 127.0.0.1 cannot be listened on: it is taken" in daemon.log.read_text()
    place.start_ready("--listen", f"/ip4/127.0.0.1/tcp/{port}")


def test_addresses_beyond_the_transport_are_refused(make_places: Callable[[int], list[Any]]) -> None:
    [place] = make_places(1)
    onion = "/onion3/hnvcppgow2sc2yvdvdicu3ynonsteflxdxrehjr2ybekdc2z3iu63yid:1"
    for arguments, why in (
        (("--listen", "/ip4/0.0.0.0/tcp/1"), "no loopback address"),
        (("--peer", "/ip4/192.0.2.1/tcp/1"), "no loopback address"),
        (("--peer", onion), "not reached over the transport loopback"),
        (("--transport", "tor", *LISTEN), "does not go with the transport tor"),
    ):
        daemon = place.start(*arguments)
        assert daemon.process.wait(60) == 2
        assert why in daemon.log.read_text()


def call(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [GRPCURL, "-plaintext", "-max-time", "30", *arguments], capture_output=True, timeout=60, check=False
    )


def test_grpcurl_looks_around_and_calls_with_a_token(shared_listener: Any) -> None:
    place = shared_listener
    token = place.json("grpc-token")
    assert list(token) == list(COMMAND_FIELDS["grpc-token"])
    host = token["address"]
    assert host == get_host(listen_address(place))
    listed = call(host, "list").stdout.decode().split()
    assert {"lucid.v1.NodeService", "grpc.health.v1.Health"} <= set(listed)
    assert b"rpc Hello" in call(host, "describe", "lucid.v1.NodeService").stdout
    assert b"client_nonce" in call(host, "describe", "lucid.v1.HandshakeProof").stdout
    assert b"SERVING" in call(host, "grpc.health.v1.Health/Check").stdout
    refused = call(host, "lucid.v1.NodeService/GetInfo")
    assert refused.returncode != 0
    assert b"PermissionDenied" in refused.stderr
    header = place.run("grpc-token").stdout.decode().strip()
    done = call("-H", header, host, "lucid.v1.NodeService/GetInfo")
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout)["peer_id"] == place.json("id")["peer_id"]
    payload = '{"payload": "aGVsbG8="}'
    done = call("-H", header, "-d", payload, host, "lucid.v1.NodeService/Ping")
    assert json.loads(done.stdout)["payload"] == "aGVsbG8="
    refused = call("-H", header[:-6] + "AAAAA=", host, "lucid.v1.NodeService/GetInfo")
    assert b"PermissionDenied" in refused.stderr


@pytest.fixture
def shared_listener(make_places: Callable[[int], list[Any]]) -> Any:
    [place] = make_places(1)
    place.start_ready(*LISTEN)
    return place


def test_a_thousand_who_say_nothing_keep_nobody_out(
    make_places: Callable[[int], list[Any]], eventually: Eventually
) -> None:
    first, second = make_places(2)
    first.start_ready(*LISTEN)
    address = listen_address(first)
    host, port = get_host(address).split(":")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    before = count_descriptors(first)
    with ExitStack() as stack:
        for _ in range(SILENT):
            stack.enter_context(socket.create_connection((host, int(port)), timeout=60))
        second.start_ready("--peer", address)
        eventually(lambda: second.json("status")["peers_connected"] == 1)
        assert second.json("ping", address)["connected"]
        header = first.run("grpc-token").stdout.decode().strip()
        assert call("-H", header, f"{host}:{port}", "lucid.v1.NodeService/GetInfo").returncode == 0
        assert first.json("status")["serving"]
        # Whoever does not even begin to speak HTTP/2 is hung up on.
        eventually(lambda: count_descriptors(first) < before + 100)
    assert second.json("ping", address)["connected"]


def count_descriptors(place: Any) -> int:
    return len(list(Path(f"/proc/{place.daemons[-1].process.pid}/fd").iterdir()))
