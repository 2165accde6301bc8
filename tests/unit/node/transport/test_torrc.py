"""What an owner may add to the torrc of the node's Tor, and that no line of it can become another one."""

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.errors import UsageError
from node.setting_values import parse_lines, parse_tor_options
from node.transport.tor.torrc import (
    MAX_LINES,
    TorSettings,
    check_lines,
    check_options,
    make_arguments,
    make_torrc,
)
from simnet.tor.programs import find_tor

REFUSED = [
    # Listeners, relays, exits, other services.
    "SocksPort 9050",
    "socksport auto",
    "HTTPTunnelPort 0.0.0.0:80",
    "TransPort 1",
    "NATDPort 1",
    "DNSPort 53",
    "ORPort 9001",
    "ExtORPort 1",
    "DirPort 80",
    "MetricsPort 1",
    "HiddenServiceDir /tmp/x",
    "HiddenServicePort 80",
    "HiddenServiceSingleHopMode 1",
    "HiddenServiceNonAnonymousMode 1",
    "ExitRelay 1",
    # Control, and what Tor keeps and writes.
    "ControlPort 9051",
    "ControlSocket /tmp/x",
    "CookieAuthentication 0",
    "CookieAuthFile /tmp/x",
    "HashedControlPassword x",
    "DataDirectory /tmp/x",
    "CacheDirectory /tmp/x",
    "KeyDirectory /tmp/x",
    "PidFile /tmp/x",
    "Log debug file /tmp/x",
    "DebugLogFile /tmp/x",
    "SafeLogging 0",
    # The process.
    "User nobody",
    "RunAsDaemon 1",
    "Sandbox 0",
    "DisableNetwork 0",
    "__OwningControllerProcess 1",
    "__DisablePredictedCircuits 1",
    "__ReloadTorrcOnSIGHUP 1",
    # Names and places.
    "AutomapHostsOnResolve 1",
    "MapAddress a b",
    "ServerDNSResolvConfFile /tmp/x",
    "ClientOnionAuthDir /tmp/x",
    "ClientTransportPlugin x exec /bin/sh",
    "Bridge 1.2.3.4:5",
    # No options at all.
    "%include /tmp/x",
    "+EntryNodes x",
    "/EntryNodes",
    "EntryNodes",
    "# EntryNodes x",
    '"EntryNodes" x',
    "",
]


@pytest.mark.parametrize("line", REFUSED)
def test_what_could_open_log_or_take_over_is_refused(line: str) -> None:
    with pytest.raises(UsageError):
        check_options([line])


@pytest.mark.parametrize(
    "line",
    [
        "EntryNodes {de}\nSocksPort 9050",
        "EntryNodes {de}\rSocksPort 9050",
        "EntryNodes {de}\x0bSocksPort 9050",
        "EntryNodes {de}\x85SocksPort 9050",
        "EntryNodes {de}\u2028SocksPort 9050",
        "EntryNodes {de} \\",
        "EntryNodes x\0",
        "EntryNodes\tx",
        "EntryNodes é",
        "EntryNodes " + "x" * 2000,
    ],
)
def test_what_cannot_stand_in_a_line_is_refused(line: str) -> None:
    with pytest.raises(UsageError):
        check_options([line])


def test_lines_are_bounded() -> None:
    check_lines(["NumCPUs 1"] * MAX_LINES)
    with pytest.raises(UsageError, match="are the most"):
        check_lines(["NumCPUs 1"] * (MAX_LINES + 1))


def test_every_line_of_a_text_is_looked_at() -> None:
    assert parse_tor_options("NumCPUs 1\n\n  ConnLimit 1000  \n") == ("NumCPUs 1", "ConnLimit 1000")
    for text in ("NumCPUs 1\nSocksPort 1", "NumCPUs 1\u2028SocksPort 1", "NumCPUs 1\x1cSocksPort 1"):
        with pytest.raises(UsageError, match="SocksPort cannot be set"):
            parse_tor_options(text)
    with pytest.raises(UsageError, match="cannot stand in a torrc"):
        parse_lines("obfs4 1.2.3.4:5 \\ \nSocksPort 1")


@given(st.lists(st.text(max_size=30), max_size=5), st.lists(st.text(max_size=30), max_size=5))
def test_whatever_is_taken_stays_a_line_of_its_own(bridges: list[str], options: list[str]) -> None:
    try:
        check_lines(bridges)
        check_options(options)
    except UsageError:
        return
    settings = TorSettings(bridges=tuple(bridges), options=tuple(options))
    plain = make_torrc(Path("/h/tor"), Path("/h/tor.sock"), TorSettings())
    lines = make_torrc(Path("/h/tor"), Path("/h/tor.sock"), settings).removeprefix(plain).splitlines()
    assert lines == [*(["UseBridges 1"] if bridges else []), *(f"Bridge {one}" for one in bridges), *options]


@pytest.mark.parametrize(
    "name", ["plain", "with space", 'with "quotes"', "back\\slash", "é", "#hash", "%include"]
)
def test_tor_finds_its_directory_whatever_the_home_is_called(tmp_path: Path, name: str) -> None:
    home = tmp_path / name
    (home / "tor").mkdir(parents=True, mode=0o700)
    torrc = make_torrc(home / "tor", home / "tor.sock", TorSettings())
    words = [find_tor(), *make_arguments(os.getpid())]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as tor:
        assert tor.stdin is not None and tor.stdout is not None
        tor.stdin.write(torrc.encode())
        tor.stdin.close()
        said = []
        for line in tor.stdout:
            said.append(line)
            if b"Bootstrapped 0%" in line:
                break
        tor.kill()
    assert (home / "tor.sock").is_socket(), said
    assert (home / "tor" / "data").is_dir()


@pytest.mark.parametrize("torrc", ["", "DataDirectory /nowhere/at/all", "Sock"])
def test_a_torrc_that_does_not_come_whole_opens_nothing(tmp_path: Path, torrc: str) -> None:
    words = [find_tor(), *make_arguments(1), "--dump-config", "full"]
    environment = {"HOME": str(tmp_path), "PATH": os.defpath}
    done = subprocess.run(words, input=torrc, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode or {"DisableNetwork 1", "SocksPort 0"} <= set(done.stdout.splitlines())


@pytest.mark.slow
def test_a_tor_without_a_torrc_ends_when_its_node_has_ended(tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    words = [find_tor(), *make_arguments(ended.pid)]
    done = subprocess.run(
        words,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env={"HOME": str(tmp_path)},
        timeout=60,
        check=False,
    )
    assert b"process has vanished" in done.stdout, done.stdout
