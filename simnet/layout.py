"""Where the files of a cluster stand.

    D/lock            held by the supervisor while the cluster runs; holds its process ID
    D/simnet.sock     where the supervisor takes commands; mode 0600
    D/cluster.json    the nodes; written when all are healthy, removed when the cluster ends
    D/tor             the Tor network of a cluster over Tor
    D/passphrase      of every keystore; mode 0600
    D/n0, D/n1, …     homes
    D/n0.log, …       what the daemons wrote
    D/n0.words, …     the owners' recovery words; mode 0600. Only a test network keeps them

Names are short, because the path of a Unix socket ends at 107 bytes.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from kernel.errors import Conflict, LocalError, NotFound, UsageError
from node.home import Home, check_socket_paths, lock_holder
from node.setting_values import MAX_PEERS

MAX_NODES = MAX_PEERS + 1
SOCKET_NAME = "simnet.sock"
UMASK = 0o077


@dataclass(frozen=True, slots=True)
class NodeEntry:
    """A node as `cluster.json` tells it.

    Attributes:
        home: its home.
        id: its peer ID.
        multiaddr: where peers reach it.
        grpc: the same address as HOST:PORT.
        pid: process ID of its daemon; None while that is down.
    """

    home: str
    id: str
    multiaddr: str
    grpc: str
    pid: int | None


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster as `cluster.json` tells it.

    Attributes:
        transport: how its nodes reach each other, as in the setting of that name.
        tor_options: torrc lines with which a Tor reaches them; none over loopback.
        nodes: all of them.
    """

    transport: str
    tor_options: list[str]
    nodes: list[NodeEntry]

    @property
    def environment(self) -> dict[str, str]:
        """Settings with which one more `lucid-node` reaches these."""
        return {"LUCID_TRANSPORT": self.transport, "LUCID_TOR_OPTIONS": "\n".join(self.tor_options)}


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths of a cluster.

    Attributes:
        root: its directory, absolute.
    """

    root: Path

    @property
    def lock(self) -> Path:
        """The file whose lock the supervisor holds; named as in a home."""
        return Home(self.root).lock

    @property
    def socket(self) -> Path:
        """Where the supervisor takes commands."""
        return self.root / SOCKET_NAME

    @property
    def cluster(self) -> Path:
        """The file that tells who is there."""
        return self.root / "cluster.json"

    @property
    def tor(self) -> Path:
        """Where the Tor network lives."""
        return self.root / "tor"

    @property
    def passphrase(self) -> Path:
        """The file with the passphrase of all keystores."""
        return self.root / "passphrase"

    def home(self, index: int) -> Home:
        """The home of a node."""
        return Home(self.root / f"n{index}")

    def log(self, index: int) -> Path:
        """What the daemon of a node wrote."""
        return self.root / f"n{index}.log"

    def words(self, index: int) -> Path:
        """The recovery words of a node's owner."""
        return self.root / f"n{index}.words"


def check_layout(layout: Layout, count: int) -> None:
    """Checks that all sockets of `count` nodes can have addresses.

    Raises:
        UsageError: the path of the directory is too long.
    """
    try:
        check_socket_paths(layout.home(count - 1))
    except UsageError as error:
        raise UsageError(str(error), hint="Give a shorter path with --dir.") from error


@contextmanager
def lock_layout(layout: Layout) -> Iterator[None]:
    """Holds the directory: at most one supervisor uses it. The lock ends with the process.

    Raises:
        Conflict: another supervisor holds it.
        LocalError: the lock cannot be opened.
    """
    try:
        descriptor = os.open(layout.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise LocalError(f"the lock {layout.lock} cannot be opened: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip() or "unknown"
            raise Conflict(
                f"a network runs in {layout.root} already (pid {holder})",
                hint=f"Use it, stop it with `lucid-simnet down --dir {layout.root}` (a Tor network: with"
                f" `kill {holder}`), or name another --dir.",
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def is_locked(layout: Layout) -> bool:
    """Whether a supervisor holds the directory."""
    return lock_holder(Home(layout.root)) is not None


def write_cluster(layout: Layout, cluster: Cluster) -> None:
    """Writes `cluster.json`: whole or not at all."""
    text = json.dumps(asdict(cluster), indent=2) + "\n"
    temporary = layout.cluster.with_suffix(".part")
    with temporary.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(layout.cluster)


def read_cluster(layout: Layout) -> Cluster:
    """Reads `cluster.json`.

    Raises:
        NotFound: there is none.
        LocalError: the file does not hold what was written.
    """
    try:
        document = json.loads(layout.cluster.read_text())
        return Cluster(**document | {"nodes": [NodeEntry(**node) for node in document["nodes"]]})
    except FileNotFoundError as error:
        raise NotFound(
            f"there is no {layout.cluster}", hint="`lucid-simnet up` writes it when all nodes are healthy."
        ) from error
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise LocalError(f"{layout.cluster} cannot be read: {error}") from error


def find_clusters() -> list[Layout]:
    """Directories in which a cluster of this user runs, as the kernel's list of Unix sockets tells."""
    lines = Path("/proc/net/unix").read_text(errors="surrogateescape").splitlines()
    paths = {Path("/" + line.partition(" /")[2]) for line in lines}
    return [Layout(path.parent) for path in sorted(paths) if path.name == SOCKET_NAME and _is_ours(path)]


def _is_ours(path: Path) -> bool:
    try:
        return path.stat().st_uid == os.geteuid()
    except OSError:  # it is gone, or in a directory that we may not look into
        return False


def choose_layout(directory: str | None) -> Layout:
    """The cluster that is meant: the one named, else the only one that runs.

    Raises:
        NotFound: none is named, and none runs.
        UsageError: none is named, and several run.
    """
    if directory is not None:
        return Layout(Path(directory).expanduser().absolute())
    running = find_clusters()
    if not running:
        raise NotFound("no cluster runs on this machine", hint="Start one: lucid-simnet up --nodes 3 --dir D")
    if len(running) > 1:
        names = ", ".join(str(layout.root) for layout in running)
        raise UsageError(f"several clusters run: {names}", hint="Name the one you mean with --dir.")
    return running[0]
