"""What processes ask of the kernel about the network, written down by strace."""

import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.process.conftest import wait_for

LINE = re.compile(r"(?P<pid>\d+) +(?:<\.\.\. )?(?P<call>\w+)(?P<rest>[( ].*)")
HOST = re.compile(r'inet_addr\("([^"]*)"\)|inet_pton\(AF_INET6, "([^"]*)"')
PORT = re.compile(r"sin6?_port=htons\((\d+)\)")
STRACE = shutil.which("strace")
NEW_PROCESS = ("clone", "clone3", "fork", "vfork")
ENDS = "socket,connect,bind,sendto"
"""What each look-up of a name and each connection begins with; to trace what passes then takes much time."""
EVERYTHING = "network"
LOCAL_SOCKETS = frozenset(
    {
        "AF_UNIX SOCK_STREAM",
        "AF_UNIX SOCK_DGRAM",
        "AF_INET SOCK_STREAM",
        "AF_INET6 SOCK_STREAM",
        "AF_NETLINK SOCK_RAW",
    }
)
"""No datagram leaves by one of these: nothing is looked up."""
RELAY_SOCKETS = LOCAL_SOCKETS | {"AF_INET SOCK_DGRAM"}
"""A relay of Tor opens one for name servers, and asks them nothing."""


@dataclass
class Trace:
    """What one program, with all its threads, did with IP sockets."""

    sockets: set[str] = field(default_factory=set)
    connected: set[tuple[str, int]] = field(default_factory=set)
    bound: set[tuple[str, int]] = field(default_factory=set)
    sent: set[str] = field(default_factory=set)


def trace_into(path: Path, calls: str = ENDS) -> list[str]:
    """Words before a command that have it traced, with all that it starts, behind what is there already.

    It keeps its process ID.
    """
    assert STRACE is not None, "make setup installs it"
    traced = f"trace={calls},execve,{','.join(NEW_PROCESS)}"
    quiet = ["-qq", "-e", "signal=none"]
    return [STRACE, "-D", "-f", "--seccomp-bpf", *quiet, "-e", traced, "-A", "-o", str(path)]


def read_traces(path: Path) -> dict[str, Trace]:
    """What was done, by "node" and "tor", when all of them have ended."""
    wait_for(lambda: not _is_open(path))
    traces = {"node": Trace(), "tor": Trace()}
    roles: dict[str, str] = {}
    for pid, call, rest in _parse(path):
        role = roles.setdefault(pid, "node")
        if call == "execve" and re.search(r'^\("[^"]*/tor", \["/?\S*tor"', rest):
            role = roles[pid] = "tor"
        child = re.search(r"= (\d+)$", rest)
        if call in NEW_PROCESS and child is not None:
            roles[child[1]] = role
        else:
            _take(traces[role], call, rest)
    return traces


def check_local(path: Path, sockets: frozenset[str] = LOCAL_SOCKETS) -> None:
    """Nothing was connected with, listened on or looked up outside this machine."""
    for trace in read_traces(path).values():
        assert trace.sockets <= sockets
        assert not trace.sent
        assert {host for host, _ in trace.connected | trace.bound} <= {"127.0.0.1", "::1"}


def _is_open(trace: Path) -> bool:
    """Does a tracer still write it?"""
    for entry in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):
            if entry.readlink() == trace:
                return True
    return False


def _parse(path: Path) -> Iterator[tuple[str, str, str]]:
    for line in path.read_text(errors="replace").splitlines():
        if (match := LINE.match(line)) is not None:
            yield match["pid"], match["call"], match["rest"]


def _take(trace: Trace, call: str, rest: str) -> None:
    if call == "socket":
        kind = re.findall(r"AF_\w+|SOCK_(?:STREAM|DGRAM|RAW)", rest)
        trace.sockets |= {" ".join(kind)} if kind else set()  # a line that only tells how it ended has none
    host, port = HOST.search(rest), PORT.search(rest)
    if host is None or port is None:
        return
    place = ((host[1] or host[2]).removeprefix("::ffff:"), int(port[1]))
    if call == "connect":
        trace.connected.add(place)
    elif call == "bind":
        trace.bound.add(place)
    elif call.startswith("send"):
        trace.sent.add(rest)
