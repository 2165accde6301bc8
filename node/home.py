"""The home: the one directory that a node lives in.

    keystore       the device's keys, encrypted
    lucid.toml     configuration, optional
    lock           held by the daemon (or by `doctor --rebuild`) while it uses the store; holds its process ID
    control.sock   control API, mode 0600
    data.sock      bulk bytes, mode 0600
    tor/           state of the node's own Tor
    tor.sock       where that is controlled
    p-….sock       where it brings peers to, one for each onion service
    store/         recordings

A Unix socket's path ends at 107 bytes, so a home may not be longer than what leaves room for its sockets.
"""

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from kernel.errors import Conflict, LocalError, NotFound, UsageError

MAX_SOCKET_PATH_BYTES = 107
HOME_VARIABLE = "LUCID_HOME"


@dataclass(frozen=True, slots=True)
class Home:
    """Paths of a home.

    Attributes:
        root: the directory itself, absolute.
    """

    root: Path

    @property
    def keystore(self) -> Path:
        """The encrypted keys."""
        return self.root / "keystore"

    @property
    def config(self) -> Path:
        """The configuration file."""
        return self.root / "lucid.toml"

    @property
    def lock(self) -> Path:
        """The file whose lock guards the store."""
        return self.root / "lock"

    @property
    def control_socket(self) -> Path:
        """Where the control API listens."""
        return self.root / "control.sock"

    @property
    def data_socket(self) -> Path:
        """Where bulk bytes are taken and given."""
        return self.root / "data.sock"

    @property
    def tor(self) -> Path:
        """Where the node's own Tor keeps its state."""
        return self.root / "tor"

    @property
    def tor_socket(self) -> Path:
        """Where that Tor is controlled."""
        return self.root / "tor.sock"

    @property
    def store(self) -> Path:
        """Where recordings rest."""
        return self.root / "store"


def find_home(option: str | None, environment: Mapping[str, str]) -> Home:
    """The home to use: the option, else LUCID_HOME, else ~/.lucid.

    Raises:
        UsageError: its path is empty, or too long for its sockets.
    """
    text = option if option is not None else environment.get(HOME_VARIABLE, "~/.lucid")
    if not text or "\0" in text:
        raise UsageError(
            "the path of the home is empty or holds a zero byte", hint="Give a path with --home."
        )
    try:
        root = Path(text).expanduser().absolute()
    except RuntimeError as error:
        raise UsageError(
            f"the home {text} cannot be found: {error}", hint="Set HOME or LUCID_HOME."
        ) from error
    home = Home(root)
    check_socket_paths(home)
    return home


def check_socket_paths(home: Home) -> None:
    """Checks that the sockets of a home can have addresses.

    Raises:
        UsageError: the path of the home is too long.
    """
    size = len(os.fsencode(home.root))
    room = MAX_SOCKET_PATH_BYTES - (len(os.fsencode(home.control_socket)) - size)
    if size > room:
        raise UsageError(
            f"the path of the home {home.root} is {size} bytes long: its sockets would end beyond the"
            f" {MAX_SOCKET_PATH_BYTES} bytes that a Unix socket's address may have",
            hint=f"Choose a home whose path has at most {room} bytes.",
        )


def check_initialised(home: Home) -> None:
    """Checks that a node was set up here.

    Raises:
        NotFound: there is no keystore.
    """
    if not home.keystore.exists():
        raise NotFound(
            f"there is no node in {home.root}: it has no keystore",
            hint="Run `lucid-node init`, or name another home with --home or LUCID_HOME.",
        )


def check_private(home: Home) -> None:
    """Checks that nobody else can change what is in the home.

    Raises:
        Conflict: it belongs to another user, or others may write into it.
    """
    info = home.root.stat()
    if info.st_uid != os.geteuid():
        raise Conflict(
            f"the home {home.root} belongs to user {info.st_uid}, this process to user {os.geteuid()}",
            hint="Run the node as the user who owns its home.",
        )
    if stat.S_IMODE(info.st_mode) & 0o022:
        raise Conflict(
            f"others may write into the home {home.root} (mode {stat.S_IMODE(info.st_mode):04o})",
            hint=f"Run: chmod 700 {home.root}",
        )


@contextlib.contextmanager
def lock_home(home: Home) -> Iterator[None]:
    """Holds the home's lock: at most one process uses the store at a time.

    The lock ends with the process, however that dies. The file stays; it holds the process ID of whoever had
    it last.

    Raises:
        Conflict: another process holds it.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        descriptor = os.open(home.lock, flags, 0o600)
    except OSError as error:
        raise LocalError(f"the lock {home.lock} cannot be opened: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip() or "unknown"
            raise Conflict(
                f"another process (pid {holder}) already uses the home {home.root}",
                hint="Use that daemon, stop it first, or give this one its own home with --home.",
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def lock_holder(home: Home) -> int | None:
    """Process ID of the process that uses the store now; None if none does."""
    try:
        descriptor = os.open(home.lock, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
        return int(text) if text.isdecimal() else 0
    finally:
        os.close(descriptor)
    return None
