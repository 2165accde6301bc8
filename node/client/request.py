"""What every recording says about itself at its start."""

import contextlib
import os
import pwd
import socket
from dataclasses import dataclass

from kernel.errors import UsageError
from lucid.v1.data_pb2 import ClientFrame, ContinueRecording, StartRecording
from lucid.v1.session_pb2 import Metadata

# What the daemon takes (node/data/requests.py). Longer words are cut here: what somebody typed, or a remote
# client set as TERM, must not keep a session from being recorded.
MAX_WORD_LETTERS = 256
MAX_SCREEN_CELLS = 10_000


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


def describe_origin() -> Metadata:
    """User, host and terminal as this process sees them. The daemon checks the user by itself."""
    uid = os.getuid()
    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:
        user = str(uid)
    return Metadata(
        user=clean_text(user),
        host=clean_text(socket.gethostname()),
        tty=_get_terminal(),
        term=clean_text(os.environ.get("TERM", "")),
    )


def build_request(request: RecordRequest, metadata: Metadata, *, records_input: bool = False) -> ClientFrame:
    """The first frame of a recording.

    Args:
        request: what the user says.
        metadata: what the recorder knows; name and tags are filled in.
        records_input: terminal input is part of the recording.

    Raises:
        UsageError: the session ID is none.
    """
    if request.session_id:
        if len(request.session_id) != 16:
            raise UsageError("a session ID has 16 bytes")
        return ClientFrame(continue_recording=ContinueRecording(session_id=request.session_id))
    metadata.name = clean_text(request.name or metadata.name)[:MAX_WORD_LETTERS]
    for field in ("user", "host", "tty", "term"):
        setattr(metadata, field, clean_text(getattr(metadata, field))[:MAX_WORD_LETTERS])
    metadata.columns = min(metadata.columns, MAX_SCREEN_CELLS)
    metadata.rows = min(metadata.rows, MAX_SCREEN_CELLS)
    metadata.tags.extend(clean_text(tag) for tag in request.tags)
    return ClientFrame(
        start=StartRecording(
            kind=metadata.kind, metadata=metadata, retain_s=request.retain_s, records_input=records_input
        )
    )


def clean_text(text: str) -> str:
    """`text` without the lone surrogates that stand for bytes of file names that are no UTF-8."""
    return text.encode(errors="surrogateescape").decode(errors="replace")


def _get_terminal() -> str:
    for descriptor in range(3):
        with contextlib.suppress(OSError):  # closed, no terminal, or one that has no name here
            return os.ttyname(descriptor)
    return ""
