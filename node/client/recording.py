"""Files, directories and streams into the daemon.

Rules (docs/spec/06-data-socket.md):
- A regular file is not copied: its descriptor is passed, and the daemon reads it.
- A stream or a directory (as a tar stream) is sent in pieces; at most 8 MiB are unacknowledged, then the
  source waits.
- A lost connection is made again for 30 s. After that the call fails, and the session stays `interrupted`.
"""

import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kernel.errors import LocalError, NotFound, UsageError
from lucid.v1.data_pb2 import ClientFrame, RecordingDone, TransferProgress
from lucid.v1.session_pb2 import SOURCE_KIND_DIRECTORY, SOURCE_KIND_FILE, SOURCE_KIND_STREAM
from node.client.frames import MAX_PIECE_BYTES
from node.client.link import RecordingLink
from node.client.request import RecordRequest, build_request, clean_text, describe_origin

OnProgress = Callable[[TransferProgress], None]
OnUnreadable = Callable[[str, str], None]
PROGRESS_S = 0.2
"""Progress is told at most this often."""


@dataclass(frozen=True, slots=True)
class DirectoryOutcome:
    """A recorded directory.

    Attributes:
        done: the session as the daemon closed it.
        unreadable: entries that are missing from it, or are not as they were. Each was reported; the exit
            status should be 1 if there are any.
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
    try:
        # Without O_NONBLOCK, opening a pipe would wait for somebody to write to it.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise _describe_failure(path, error) from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise UsageError(
                f"{path} is no regular file", hint="Pipes and devices: `session record - <FILE`."
            )
        return _record_descriptor(socket_path, descriptor, str(path), request, on_progress)
    finally:
        os.close(descriptor)


def record_stream(
    socket_path: Path, source: int, request: RecordRequest, on_progress: OnProgress | None = None
) -> RecordingDone:
    """Records a descriptor to its end, e.g. standard input. A regular file counts as file, from its start.

    Raises:
        Unavailable: the daemon cannot be reached, or was lost for 30 s.
        LocalError: `source` cannot be read.
        LucidError: what the daemon answered.
    """
    if stat.S_ISREG(os.fstat(source).st_mode):
        return _record_descriptor(socket_path, source, "", request, on_progress)
    metadata = describe_origin()
    metadata.kind = SOURCE_KIND_STREAM
    with _open_sender(socket_path, build_request(request, metadata), on_progress) as sender:
        while data := sender.read(source):
            sender.write(data)
        return sender.finish()


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
        NotFound, LocalError: `path` cannot be opened.
        UsageError: it is no directory, or the session is to be continued (a tar stream cannot be).
        LucidError: what the daemon answered.
    """
    from node.client.tar_stream import write_tar

    if request.session_id:
        raise UsageError("the recording of a directory cannot go on", hint="Finalize it, and record anew.")
    if not path.is_dir():
        raise (UsageError if path.exists() else NotFound)(f"{path} is no directory")
    metadata = describe_origin()
    metadata.kind = SOURCE_KIND_DIRECTORY
    metadata.source = clean_text(str(path))
    metadata.name = clean_text(path.resolve().name)
    unreadable = 0

    def report(entry: str, reason: str) -> None:
        nonlocal unreadable
        unreadable += 1
        if on_unreadable:
            on_unreadable(clean_text(entry), reason)

    try:
        with _open_sender(socket_path, build_request(request, metadata), on_progress) as sender:
            write_tar(path, sender.write, MAX_PIECE_BYTES, report)
            return DirectoryOutcome(sender.finish(), unreadable)
    except OSError as error:
        raise _describe_failure(path, error) from error


def _record_descriptor(
    socket_path: Path, descriptor: int, source: str, request: RecordRequest, on_progress: OnProgress | None
) -> RecordingDone:
    info = os.fstat(descriptor)
    metadata = describe_origin()
    metadata.kind = SOURCE_KIND_FILE
    metadata.source = clean_text(source)
    metadata.name = clean_text(Path(source).name)
    metadata.source_bytes, metadata.source_modified_ns = info.st_size, info.st_mtime_ns
    link = RecordingLink(
        socket_path,
        build_request(request, metadata),
        time.monotonic,
        descriptor=descriptor,
        on_progress=on_progress,
    )
    try:
        return link.wait_done()
    finally:
        link.close()


@contextmanager
def _open_sender(
    socket_path: Path, request: ClientFrame, on_progress: OnProgress | None
) -> Iterator["_Sender"]:
    link = RecordingLink(socket_path, request, time.monotonic)
    try:
        link.wait_accepted()
        yield _Sender(link, on_progress)
    finally:
        link.close()


class _Sender:
    """A link that makes its caller wait."""

    def __init__(self, link: RecordingLink, on_progress: OnProgress | None) -> None:
        self._link = link
        self._on_progress = on_progress
        self._told_at = time.monotonic()

    def read(self, source: int) -> bytes:
        """What `source` has next, when there is room for it; b"" at its end. The link is served meanwhile."""
        self._link.wait(lambda: self._link.room >= MAX_PIECE_BYTES)
        while not self._link.is_overdue:
            if self._link.poll(source):
                try:
                    return os.read(source, MAX_PIECE_BYTES)
                except BlockingIOError:  # somebody else took it
                    continue
                except OSError as error:
                    raise LocalError(f"the source cannot be read: {error.strerror}") from error
        raise self._link.describe_loss()

    def write(self, data: bytes) -> int:
        """Sends `data` when there is room for it."""
        self._link.wait(lambda: self._link.room >= len(data))
        self._link.append(data)
        self._link.pump()
        self._tell()
        return len(data)

    def finish(self) -> RecordingDone:
        """Ends the recording, and waits for the daemon to close the session."""
        self._link.finish()
        return self._link.wait_done()

    def _tell(self) -> None:
        now = time.monotonic()
        if self._on_progress and now - self._told_at >= PROGRESS_S:
            self._told_at = now
            self._on_progress(TransferProgress(plaintext_bytes=self._link.acknowledged))


def _describe_failure(path: Path, error: OSError) -> LocalError:
    if isinstance(error, FileNotFoundError):
        return NotFound(f"{path} does not exist")
    return LocalError(f"{path} cannot be read: {error.strerror or error}")
