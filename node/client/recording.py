"""Files, directories and streams into the daemon.

Rules (docs/spec/06-data-socket.md):
- A regular file is not copied: its descriptor is passed, and the daemon reads it.
- A stream or a directory (as a tar stream) is sent in pieces; at most 8 MiB are unacknowledged, then the source waits.
- A lost connection is made again for 30 s. After that the call fails, and the session stays `interrupted`.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lucid.v1.data_pb2 import RecordingDone, TransferProgress

OnProgress = Callable[[TransferProgress], None]
OnUnreadable = Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class RecordRequest:
    """What the user says about a recording.

    Attributes:
        name: what it is called; the source's name if empty.
        tags: words to find it by.
        retain_s: seconds until the node may erase it; 0 keeps it.
        session_id: 16 bytes: go on in this interrupted session by order of the owner; empty: a new one.
    """

    name: str = ""
    tags: tuple[str, ...] = ()
    retain_s: int = 0
    session_id: bytes = b""


@dataclass(frozen=True, slots=True)
class DirectoryOutcome:
    """A recorded directory.

    Attributes:
        done: the session as the daemon closed it.
        unreadable: entries that are missing from it. Each was reported; the exit status should be 1 if there are any.
    """

    done: RecordingDone
    unreadable: int


def record_file(
    socket_path: Path, path: Path, request: RecordRequest, on_progress: OnProgress | None = None
) -> RecordingDone:
    """Records a regular file.

    Raises:
        Unavailable: the daemon cannot be reached, or was lost for 30 s.
        NotFound, UsageError, LocalError: `path` cannot be opened or is no regular file.
        LucidError: what the daemon answered.
    """
    raise NotImplementedError


def record_stream(
    socket_path: Path, source: int, request: RecordRequest, on_progress: OnProgress | None = None
) -> RecordingDone:
    """Records a descriptor to its end, e.g. standard input. A regular file counts as file, from its start.

    Raises:
        Unavailable: the daemon cannot be reached, or was lost for 30 s.
        LucidError: what the daemon answered.
    """
    raise NotImplementedError


def record_directory(
    socket_path: Path,
    path: Path,
    request: RecordRequest,
    on_progress: OnProgress | None = None,
    on_unreadable: OnUnreadable | None = None,
) -> DirectoryOutcome:
    """Records a directory as a tar stream (PAX). Symbolic links are kept as such, sockets are left out.

    Args:
        socket_path: data socket of the daemon.
        path: the directory.
        request: what the user says about it.
        on_progress: told how far it is, some times a second.
        on_unreadable: told (path, reason) of each entry that could not be read; the rest is recorded.

    Raises:
        Unavailable: the daemon cannot be reached, or was lost for 30 s.
        UsageError: `path` is no directory, or the session is to be continued (a tar stream cannot be).
        LucidError: what the daemon answered.
    """
    raise NotImplementedError
