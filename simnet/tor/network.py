"""Starts the network, and says when onion services can be reached through it.

Order: tor looked for → keys → ports reserved → authorities started, which listen → relays started → every
authority has the descriptors of all nodes → the authorities' vote is called → every node has the consensus,
and each is good for circuits in it. Each wait is for something that can be seen in a node's data directory,
ends with an error as soon as any process ends, and has a limit. The kernel ends all processes with ours
(`node/child.py`).
"""

import asyncio
import shutil
from collections.abc import Callable
from math import ceil
from pathlib import Path
from time import monotonic, time

from kernel.errors import LocalError, Unavailable
from simnet.addresses import Address, reserve_address
from simnet.process import Child, describe_end
from simnet.progress import Report
from simnet.tor.directory import explain_entry, parse_consensus, parse_descriptors
from simnet.tor.keys import NodeKeys, load_keys
from simnet.tor.programs import find_tor, read_tail, start_tor
from simnet.tor.torrc import (
    BANDWIDTH_FILE,
    DIST_DELAY_S,
    VOTE_DELAY_S,
    VOTING_INTERVAL_S,
    TorNode,
    write_bandwidths,
    write_client_lines,
    write_node_lines,
)

AUTHORITIES = ("a0", "a1", "a2")
RELAYS = ("r0", "r1", "r2", "r3", "r4")
POLL_S = 0.05
LISTEN_TIMEOUT_S = 20.0
UPLOAD_TIMEOUT_S = 40.0
# A vote begins both delays before its consensus is valid. Who reloads later votes at once, and is heard.
VOTE_LEAD_S = VOTE_DELAY_S + DIST_DELAY_S + 0.5
CONSENSUS_TIMEOUT_S = 20.0
SPREAD_TIMEOUT_S = 20.0
MAX_FILE_BYTES = 4 << 20


class TorNetwork:
    """A private Tor network. Started on an event loop of the main thread; `node/child.py` says why.

    Args:
        directory: where its processes live: data directories and logs of an earlier network are replaced.
        cache: where its keys are kept, see `simnet/tor/keys.py`.
    """

    def __init__(self, directory: Path, cache: Path) -> None:
        self._directory = directory
        self._cache = cache
        self._tor = ""
        self._reservations: list[Address] = []
        self._authorities: list[TorNode] = []
        self._relays: list[TorNode] = []  # only they are counted on as hops: authorities carry no weight
        self._children: dict[str, Child] = {}

    @property
    def _nodes(self) -> list[TorNode]:
        return self._authorities + self._relays

    @property
    def client_options(self) -> list[str]:
        """The torrc lines with which a tor process uses this network and no other; set while it runs."""
        return write_client_lines(self._nodes)

    @property
    def pids(self) -> dict[str, int]:
        """Process IDs by name, of what was started."""
        return {name: child.pid for name, child in self._children.items()}

    async def start(self, report: Report) -> None:
        """Starts it, and waits until onion services can be reached through it.

        Args:
            report: is told what is being done.

        Raises:
            Unavailable: tor is missing or too old, or the network is not usable in time.
            LocalError: a process ended, or keys or data directories cannot be made. Nothing runs then, in
                either case.
        """
        try:
            self._tor = find_tor()
            report("Tor network: keys", False)
            self._lay_out(await load_keys(self._cache, self._tor, AUTHORITIES, RELAYS))
            await self._gather_descriptors(report)
            await self._agree(report)
        except OSError as error:
            await self.stop()
            raise LocalError(f"the Tor network cannot be started in {self._directory}: {error}") from error
        except BaseException:
            await self.stop()
            raise

    def _lay_out(self, keys: list[NodeKeys]) -> None:
        """Gives every node its ports and its data directory."""
        self._authorities = [
            TorNode(one, self._directory / one.name, self._reserve(), self._reserve())
            for one in keys
            if one.name in AUTHORITIES
        ]
        self._relays = [
            TorNode(one, self._directory / one.name, self._reserve(), None)
            for one in keys
            if one.name in RELAYS
        ]
        far_s = int(time()) + VOTING_INTERVAL_S - 1
        for node in self._nodes:
            self._prepare(node, far_s)

    async def _gather_descriptors(self, report: Report) -> None:
        """Starts all, and waits until every authority knows every relay."""
        report("Tor network: authorities", False)
        for node in self._authorities:
            self._spawn(node)
        await self._wait("listen", LISTEN_TIMEOUT_S, self._authorities, find_not_listening)
        report("Tor network: relays", False)
        for node in self._relays:
            self._spawn(node)
        await self._wait("have all descriptors", UPLOAD_TIMEOUT_S, self._authorities, self._find_not_uploaded)

    async def _agree(self, report: Report) -> None:
        """Calls the vote, and waits until all have its outcome."""
        report("Tor network: vote", False)
        valid_s = ceil(time() + VOTE_LEAD_S)
        for node in self._authorities:
            self._write_torrc(node, valid_s)
            self._children[node.keys.name].reload()
        await self._wait("have a consensus", CONSENSUS_TIMEOUT_S, self._authorities, self._explain_consensus)
        report("Tor network: consensus", False)
        for node in self._relays:
            self._children[node.keys.name].reload()  # asks for it now, not when it thought to
        await self._wait("have the consensus", SPREAD_TIMEOUT_S, self._nodes, self._explain_consensus)

    async def watch(self, report: Report) -> None:
        """Tells of each process that ends by itself; returns when none runs any more."""

        async def follow(name: str, child: Child) -> None:
            await child.ended.wait()
            report(f"{name} of the Tor network {describe_end(child.returncode or 0)}", True)

        async with asyncio.TaskGroup() as group:
            for name, child in self._children.items():
                group.create_task(follow(name, child))

    async def stop(self) -> None:
        """Kills all processes; ports are free again. Does nothing the second time.

        Nothing of them is kept; and asked to end, tor 0.4.9 now and then waits for a lock of its own worker
        threads for ever.
        """
        for child in self._children.values():
            child.kill()
        await asyncio.gather(*(child.ended.wait() for child in self._children.values()))
        for reserved in self._reservations:
            reserved.reservation.close()
        self._reservations.clear()
        self._children.clear()

    def _reserve(self) -> int:
        self._reservations.append(reserve_address())
        return self._reservations[-1].port

    def _prepare(self, node: TorNode, vote_at_s: int) -> None:
        """A data directory with nothing in it but keys and settings."""
        shutil.rmtree(node.folder, ignore_errors=True)
        (node.folder / "keys").mkdir(mode=0o700, parents=True)
        node.folder.chmod(0o700)
        for name, data in node.keys.files.items():
            (node.folder / "keys" / name).write_bytes(data)
        if node.dir_port is not None:
            (node.folder / BANDWIDTH_FILE).write_text(write_bandwidths(self._nodes, int(time())))
        self._write_torrc(node, vote_at_s)

    def _write_torrc(self, node: TorNode, vote_at_s: int) -> None:
        lines = write_node_lines(node, self.client_options, vote_at_s)
        (node.folder / "torrc").write_text("\n".join([*lines, ""]))

    def _spawn(self, node: TorNode) -> None:
        torrc, log = node.folder / "torrc", self._get_log(node.keys.name)
        self._children[node.keys.name] = start_tor(self._tor, torrc, log)

    def _get_log(self, name: str) -> Path:
        return self._directory / f"{name}.log"

    async def _wait(
        self, what: str, timeout_s: float, nodes: list[TorNode], explain: Callable[[TorNode], str]
    ) -> None:
        """Waits until `explain` says nothing of any node.

        Raises:
            LocalError: a process ended.
            Unavailable: the time is up.
        """
        deadline = monotonic() + timeout_s
        while True:
            for name, child in self._children.items():
                if child.returncode is not None:
                    how = f"{describe_end(child.returncode)}\n{read_tail(self._get_log(name))}"
                    raise LocalError(f"{name} of the Tor network {how}")
            missing = {node.keys.name: why for node in nodes if (why := explain(node))}
            if not missing:
                return
            if monotonic() > deadline:
                reasons = "; ".join(f"{name} {why}" for name, why in missing.items())
                raise Unavailable(
                    f"the Tor network does not {what} after {timeout_s:.0f} s: {reasons}\n"
                    + read_tail(self._get_log(next(iter(missing)))),
                    hint=f"Its logs are in {self._directory}.",
                )
            await asyncio.sleep(POLL_S)

    def _find_not_uploaded(self, authority: TorNode) -> str:
        """Says whose descriptors an authority has not got yet."""
        files = (authority.folder / "cached-descriptors", authority.folder / "cached-descriptors.new")
        there = parse_descriptors("\n".join(map(_read_text, files)))
        missing = [node.keys.name for node in self._relays if node.keys.fingerprint not in there]
        return f"has no descriptor of {', '.join(missing)}" if missing else ""

    def _explain_consensus(self, node: TorNode) -> str:
        """Says what a node's consensus lacks."""
        text = _read_text(node.folder / "cached-microdesc-consensus")
        if not text:
            return "has no consensus"
        entries = {entry.fingerprint: entry for entry in parse_consensus(text)}
        wrong = {one.keys.name: explain_entry(entries.get(one.keys.fingerprint)) for one in self._relays}
        return "; ".join(f"says that {name} {why}" for name, why in wrong.items() if why)


def find_not_listening(node: TorNode) -> str:
    """Says if a node does not listen yet; empty if it does."""
    # A socket in state LISTEN (0A), as the kernel tells: a connection would be noise in its log.
    listening = Path("/proc/net/tcp").read_text()
    return "" if f"0100007F:{node.dir_port:04X} 00000000:0000 0A" in listening else "does not listen"


def _read_text(path: Path) -> str:
    """What a file holds, in bounded size; empty if it is not there."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE_BYTES).decode("ascii", "replace")
    except FileNotFoundError:
        return ""
