"""Two real nodes that know each other by onion addresses alone."""

import asyncio
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from simnet.tor.probe import connect
from tests.process.conftest import wait_for
from tests.tor.nodes import TorPlace, is_kept

Pair = tuple[TorPlace, TorPlace]
BYTES = 3 << 20
DIAL_TIMEOUT_S = 20.0


def list_blobs(place: TorPlace) -> list[Path]:
    return [path for path in (place.home / "store" / "blobs").rglob("*") if path.is_file()]


def test_what_one_records_is_kept_by_the_other_and_comes_back(pair: Pair) -> None:
    keeper, owner = pair
    data = os.urandom(BYTES)
    session = owner.record(data)
    wait_for(lambda: is_kept(owner, session))
    assert keeper.status().held_bytes > BYTES
    assert owner.json("session", "verify", session, "--remote")["valid"]
    for blob in list_blobs(owner):
        blob.unlink()
    output = owner.root / "back"
    owner.json("session", "get", session, str(output))
    assert output.read_bytes() == data
    assert owner.json("session", "verify", session)["valid"]


def test_a_service_is_replaced_while_something_runs_over_it(pair: Pair) -> None:
    keeper, owner = pair
    before = keeper.wait_published()
    owner.wait_connected()
    seen = len(owner.daemons[-1].events())
    session = owner.record(os.urandom(BYTES))
    assert not is_kept(owner, session)
    keeper.json("onion", "rotate", "--grace", "8s")
    after = keeper.wait_published()
    assert [one.address for one in keeper.status().tor.onions if one.role == "old"] == [before] != [after]
    wait_for(lambda: is_kept(owner, session))
    assert get_address(owner) == before
    assert "peer lost" not in [event["event"] for event in owner.daemons[-1].events()[seen:]]
    # The peer was told, dials the new address when the old one is cut, and finds it.
    keeper.wait_status(lambda status: [one.address for one in status.tor.onions] == [after])
    wait_for(lambda: get_address(owner) == after, owner.daemons[-1].log.read_text)
    owner.wait_connected()
    assert owner.json("session", "verify", session, "--remote")["valid"]
    assert "onion service withdrawn" in [event["event"] for event in keeper.daemons[-1].events()]
    assert not reaches(owner, before) and reaches(owner, after)


@pytest.mark.slow
def test_a_peer_that_the_node_does_not_dial_hears_of_a_move_by_its_own_pings(
    make_nodes: Callable[[int], list[TorPlace]],
) -> None:
    keeper, owner = make_nodes(2)
    keeper.start_ready()
    before = keeper.wait_published()
    owner.start_ready("--peer", before)
    owner.wait_connected()
    keeper.json("onion", "rotate", "--grace", "45s")
    after = keeper.wait_published()
    keeper.wait_status(lambda status: [one.address for one in status.tor.onions] == [after])
    wait_for(lambda: get_address(owner) == after, owner.daemons[-1].log.read_text)
    owner.daemons[-1].stop()
    owner.start_ready("--peer", before)  # a move survives a restart
    owner.wait_connected()
    assert get_address(owner) == after


def get_address(place: TorPlace) -> str:
    """Where the one configured peer was dialled last."""
    [peer] = place.json("peers")["peers"]
    address: str = peer["address"]
    return address


def reaches(place: TorPlace, address: str) -> bool:
    """Does an onion service answer whoever dials it anew through a node's Tor?"""
    host, _, port = address.removeprefix("/onion3/").rpartition(":")
    name = f"{host}.onion:{port}"

    async def dial() -> bool:
        try:
            async with asyncio.timeout(DIAL_TIMEOUT_S):
                _, writer = await connect(place.find_tunnel(), name)
        except (ConnectionError, TimeoutError):
            return False
        writer.close()
        return True

    return asyncio.run(dial())


def test_a_tor_that_is_killed_is_missed_while_it_is_gone_and_no_node_is_started_anew(pair: Pair) -> None:
    keeper, owner = pair
    keeper.wait_published()
    owner.wait_connected()
    for place in (keeper, owner):
        with place.holding_tor():
            killed = place.kill_tor()
            wait_for(place.is_not_serving)
            status = place.status()
            assert not status.serving
            assert re.match(
                "Tor is (starting; before that|not ready): Tor was killed by SIGKILL$", status.problems[0]
            )
            done = place.run("onion", "show")
            assert done.returncode == 1
            assert b"killed by SIGKILL" in done.stdout
            session = place.record(b"recorded while there is no Tor")
        place.wait_published()
        assert place.get_tor_pid() != killed
        wait_for(place.is_serving)
        wait_for(lambda: owner.run("ping", get_address(owner)).returncode == 0)
        assert place.json("session", "verify", session)["valid"]
    wait_for(lambda: is_kept(owner, session))  # what waited was done
    assert [place.daemons[-1].process.poll() for place in pair] == [None, None]
