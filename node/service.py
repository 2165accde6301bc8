"""The systemd unit that runs a node.

A system unit runs as the user who owns the home, and is confined as far as a node allows: files to record
come as open descriptors, so the daemon itself needs to see nothing but its home. In a user unit those
options that need privileges are left out. The passphrase comes as a credential: it stands in no environment
and no argument.
"""

import os
import pwd
import re
import stat
import sys
from dataclasses import dataclass
from pathlib import Path

from kernel.errors import Conflict, NotFound, StoreError, UsageError
from node.home import Home

UNIT_NAME = "lucid-node.service"
_SERVICE = UNIT_NAME.removesuffix(".service")
_TARGETS = ("multi-user.target", "default.target")
SYSTEM_DIRECTORY = Path("/etc/systemd/system")
_MARK = "# Written by `lucid-node service install`."
# Unit files have rules of their own for quotes, percent signs and colons: paths must need none.
_PLAIN_PATH = re.compile(r"/[\w./@+,=-]*", re.ASCII)

_COMMON = """\
Type=notify
Restart=on-failure
RestartSec=2
RestartPreventExitStatus=2 3 4
TimeoutStartSec=300
TimeoutStopSec=75
WatchdogSec=60
UMask=0077
LimitCORE=0
LimitNOFILE=65536
NoNewPrivileges=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM"""

_SYSTEM_ONLY = """\
User={user}
RuntimeDirectory=lucid
RuntimeDirectoryMode=0755
ProtectSystem=strict
ProtectHome=read-only
ReadWritePaths={home}
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
RestrictNamespaces=yes
CapabilityBoundingSet=CAP_CHOWN"""


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit file.

    Attributes:
        path: where it belongs.
        is_system: True for the system's manager, False for the user's own.
        text: its contents.
    """

    path: Path
    is_system: bool
    text: str

    @property
    def commands(self) -> list[str]:
        """What to run once it is there."""
        return [f"{self._control} daemon-reload", f"{self._control} enable --now {_SERVICE}"]

    @property
    def removal_commands(self) -> list[str]:
        """What to run once it is gone."""
        return [f"{self._control} stop {_SERVICE}", f"{self._control} daemon-reload"]

    @property
    def _control(self) -> str:
        return "systemctl" if self.is_system else "systemctl --user"


def make_unit(home: Home, passphrase_file: Path | None, directory: Path | None) -> Unit:
    """The unit that runs the node of a home; for the system if this process is root's, else for the user.

    Raises:
        UsageError: a path cannot stand in a unit file, or the passphrase file is no private file.
    """
    is_system = os.geteuid() == 0
    credential = []
    if passphrase_file is not None:
        check_passphrase_file(passphrase_file)
        credential = [f"LoadCredential=passphrase:{_plain(passphrase_file.absolute())}"]
    python, where = _plain(Path(sys.executable)), _plain(home.root)
    lines = [
        _MARK,
        "[Unit]",
        "Description=Lucid node",
        "After=local-fs.target",
        "",
        "[Service]",
        f"ExecStart={python} -P -m node.cli run --home {where} --log-format json",
        *credential,
        _COMMON,
    ]
    if is_system:
        owner = home.root.stat().st_uid if home.root.exists() else 0
        lines.append(_SYSTEM_ONLY.format(user=_find_user(owner), home=where))
    lines += ["", "[Install]", f"WantedBy={_TARGETS[0 if is_system else 1]}", ""]
    return Unit(find_directory(directory) / UNIT_NAME, is_system, "\n".join(lines))


def find_directory(directory: Path | None) -> Path:
    """Where unit files of this user belong, unless another directory is given."""
    if directory is not None:
        return directory.absolute()
    if os.geteuid() == 0:
        return SYSTEM_DIRECTORY
    configuration = os.environ.get("XDG_CONFIG_HOME")
    return (Path(configuration) if configuration else Path.home() / ".config") / "systemd" / "user"


def install_unit(unit: Unit) -> None:
    """Writes a unit file, durably; one that was written before is replaced.

    Raises:
        Conflict: there is a unit of this name that somebody else wrote.
        StoreError: it cannot be written.
    """
    if unit.path.exists():
        _check_ours(unit.path)
    temporary = unit.path.with_suffix(".part")
    try:
        unit.path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w") as file:
            file.write(unit.text)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(unit.path)
    except OSError as error:
        raise StoreError(f"{unit.path} cannot be written: {error.strerror}") from error


def uninstall_unit(directory: Path | None) -> Unit:
    """Removes the unit file, and the links by which it was enabled: `systemctl disable` needs the file.

    Raises:
        NotFound: there is none.
        Conflict: somebody else wrote it.
        StoreError: it cannot be removed.
    """
    path = find_directory(directory) / UNIT_NAME
    if not path.exists():
        raise NotFound(f"there is no unit {path}")
    _check_ours(path)
    try:
        for target in _TARGETS:
            link = path.parent / f"{target}.wants" / UNIT_NAME
            if link.is_symlink():
                link.unlink()
        path.unlink()
    except OSError as error:
        raise StoreError(f"{path} cannot be removed: {error.strerror}") from error
    return Unit(path, os.geteuid() == 0, "")


def check_passphrase_file(path: Path) -> None:
    """Checks that a passphrase file can serve as a credential.

    Raises:
        UsageError: it is missing, no regular file, or others may read it.
    """
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise UsageError(f"the passphrase file {path} cannot be used: {error.strerror}") from error
    if not stat.S_ISREG(mode) or mode & 0o077:
        raise UsageError(f"the passphrase file {path} is no private file", hint=f"Run: chmod 600 {path}")


def _check_ours(path: Path) -> None:
    try:
        text = path.read_text(errors="replace")
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}") from error
    if not text.startswith(_MARK):
        raise Conflict(
            f"{path} was not written by `lucid-node service install`", hint="Move it away, or use --dir."
        )


def _plain(path: Path) -> str:
    text = str(path)
    if not _PLAIN_PATH.fullmatch(text):
        raise UsageError(
            f'the path "{text}" holds characters that mean something else in a unit file',
            hint="Use a path of letters, digits and . _ - / alone.",
        )
    return text


def _find_user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
