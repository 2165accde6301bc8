"""What a client may ask over the data socket, checked before anything acts on it."""

import pwd
import socket
from dataclasses import dataclass

from kernel.errors import InvalidRecord, Reason, UsageError
from lucid.v1 import data_pb2, session_pb2
from node.units import MAX_DURATION_S
from session.recording_request import RecordingRequest

MAX_NAME_LETTERS = 256
MAX_TAGS = 32
MAX_TAG_LETTERS = 64
MAX_COMMAND_BYTES = 64 << 10
MAX_SOURCE_BYTES = 4096
MAX_WORD_LETTERS = 256
MAX_SCREEN_CELLS = 10_000
MAX_POSITION = 1 << 62
MAX_PIECE_BYTES = 256 << 10
SESSION_ID_BYTES = 16
TOKEN_BYTES = 32


@dataclass(frozen=True, slots=True)
class Peer:
    """The process on the other side, as the kernel tells it.

    Attributes:
        pid: its process ID.
        uid: user it runs as.
        may_only_record: True on the socket that serves other users.
    """

    pid: int
    uid: int
    may_only_record: bool


def find_user_name(uid: int) -> str:
    """Login name of a user, or the number if there is none. May ask a directory service: blocking."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def check_metadata(metadata: session_pb2.Metadata) -> None:
    """Checks sizes, so that no request makes the store or a listing swell.

    Raises:
        UsageError: something is too long or too much.
    """
    _check(len(metadata.name) <= MAX_NAME_LETTERS, f"a name has at most {MAX_NAME_LETTERS} letters")
    _check(len(metadata.tags) <= MAX_TAGS, f"a session has at most {MAX_TAGS} tags")
    _check(
        all(0 < len(tag) <= MAX_TAG_LETTERS for tag in metadata.tags),
        f"a tag has 1 to {MAX_TAG_LETTERS} letters",
    )
    _check(
        sum(len(word.encode()) + 1 for word in metadata.command) <= MAX_COMMAND_BYTES,
        f"a command has at most {MAX_COMMAND_BYTES} bytes",
    )
    _check(len(metadata.source.encode()) <= MAX_SOURCE_BYTES, f"a path has at most {MAX_SOURCE_BYTES} bytes")
    words = (metadata.user, metadata.host, metadata.tty, metadata.term)
    _check(
        all(len(word) <= MAX_WORD_LETTERS for word in words),
        f"user, host, terminal and its type have at most {MAX_WORD_LETTERS} letters each",
    )
    _check(
        max(metadata.columns, metadata.rows) <= MAX_SCREEN_CELLS,
        f"a terminal has at most {MAX_SCREEN_CELLS} columns and rows",
    )


def make_request(
    start: data_pb2.StartRecording, peer: Peer, user_name: str, default_retain_s: int
) -> RecordingRequest:
    """What the session room is asked to record.

    Who asks is what the kernel says, not what the client says: always as `uid`, and on the socket for other
    users as `user` and `host` too. There, retention is the node's own business: nobody shortens the life of
    evidence.

    Raises:
        UsageError: the request is out of bounds.
    """
    _check(start.kind in session_pb2.SourceKind.values() and start.kind != 0, "the kind of source is unknown")
    _check(start.retain_s <= MAX_DURATION_S, "the retention is longer than 200 years")
    check_metadata(start.metadata)
    metadata = session_pb2.Metadata()
    metadata.CopyFrom(start.metadata)
    metadata.DiscardUnknownFields()
    metadata.kind = start.kind
    metadata.uid = peer.uid
    retain_s = start.retain_s or default_retain_s
    if peer.may_only_record:
        metadata.user, metadata.host = user_name, socket.gethostname()
        retain_s = default_retain_s
    return RecordingRequest(
        kind=start.kind,
        metadata=metadata,
        live=start.kind != session_pb2.SOURCE_KIND_FILE,
        retain_s=retain_s,
        records_input=start.records_input,
    )


def check_piece(piece: data_pb2.DataPiece) -> None:
    """Checks a piece of a live source.

    Raises:
        InvalidRecord: it is empty, too large, or too far out.
    """
    if not 0 < len(piece.data) <= MAX_PIECE_BYTES or piece.position > MAX_POSITION:
        raise InvalidRecord(Reason.MALFORMED, f"a piece of data has 1 to {MAX_PIECE_BYTES} bytes")


def check_session_id(session_id: bytes) -> bytes:
    """Checks the form of a session ID.

    Raises:
        InvalidRecord: it has not 16 bytes.
    """
    if len(session_id) != SESSION_ID_BYTES:
        raise InvalidRecord(Reason.MALFORMED, f"a session ID has {SESSION_ID_BYTES} bytes")
    return session_id


def check_continuation(request: data_pb2.ContinueRecording, peer: Peer) -> bytes | None:
    """The token that lets this client go on; None if it goes on by order of the owner.

    Raises:
        InvalidRecord: session ID or token have a wrong length.
        UsageError: only the owner goes on without a token.
    """
    check_session_id(request.session_id)
    if not request.resume_token:
        _check(not peer.may_only_record, "without its token a session goes on only by order of the owner")
        return None
    if len(request.resume_token) != TOKEN_BYTES:
        raise InvalidRecord(Reason.MALFORMED, f"a token has {TOKEN_BYTES} bytes")
    return request.resume_token


def _check(holds: bool, rule: str) -> None:
    if not holds:
        raise UsageError(rule)
