"""Networks that block Tor: entering by a bridge, and through a program that disguises what goes there."""

import asyncio
import re
import sys
from pathlib import Path

import pytest

from node.adapters import SystemEntropy
from node.transport.tor.control import TorControl
from node.transport.tor.torrc import TorSettings, check_lines, check_options
from simnet.tor.client import running_tor, wait_ready

PLUGIN = Path(__file__).with_name("plugin.py")
DEADLINE_S = 60


def find_bridge(client_options: list[str]) -> tuple[str, str]:
    """Address and fingerprint of a node of the network, which any client may enter by."""
    line = next(line for line in client_options if line.startswith("DirAuthority a1 "))
    match = re.fullmatch(r".* orport=(\d+) .* 127\.0\.0\.1:\d+ ([0-9A-F]{40})", line)
    assert match is not None
    return f"127.0.0.1:{match[1]}", match[2]


@pytest.mark.parametrize("disguised", [False, True])
async def test_a_bridge_is_the_only_way_in(
    tmp_path: Path, client_options: list[str], disguised: bool
) -> None:
    address, fingerprint = find_bridge(client_options)
    settings = TorSettings(
        options=tuple(client_options),
        bridges=(f"{'plain ' if disguised else ''}{address} {fingerprint}",),
        plugins=(f"plain exec {sys.executable} -I {PLUGIN}",) if disguised else (),
    )
    check_options(settings.options)
    check_lines((*settings.bridges, *settings.plugins))
    async with asyncio.timeout(DEADLINE_S), running_tor(tmp_path, settings) as tor:
        await wait_ready(tor)
        control = await TorControl.open(tmp_path / "tor.sock", SystemEntropy(), lambda _event: None)
        try:
            [connection] = (await control.get_info("orconn-status")).splitlines()
        finally:
            await control.close()
    assert connection.startswith(f"${fingerprint}") and connection.endswith("CONNECTED")
