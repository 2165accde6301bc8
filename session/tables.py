"""Tables of the index and streams of the journal that belong to sessions.

Tables, with keys and values:

    sessions      session ID                          SessionRow
    chunks        session ID ‖ index, 4 bytes         ChunkEntry
    checkpoints   session ID ‖ sequence, 8 bytes      Signed
    tombstones    session ID                          Tombstone

Streams:

    <2 hex>/<session ID>/secret            the sealed session secret
    <2 hex>/<session ID>/adopting          facts of a session that is being adopted, complete or worthless
    <2 hex>/<session ID>/facts             what cannot be lost; the index can be remade from it
    <2 hex>/<session ID>/tail-<index>      encrypted live frames of a chunk that is not sealed yet
    tombstones                             what remains of deleted sessions
"""

SESSIONS = "sessions"
CHUNKS = "chunks"
CHECKPOINTS = "checkpoints"
TOMBSTONES = "tombstones"
TABLES = (SESSIONS, CHUNKS, CHECKPOINTS, TOMBSTONES)

TOMBSTONE_STREAM = "tombstones"
SMALL_FACTS = frozenset({"secret", "facts"})
"""Last components of streams that may go on for a while when the quota is full."""
DELETIONS = frozenset({TOMBSTONE_STREAM})
"""The same for streams that no quota stops: sessions can always be deleted."""

_SEALED = "/secret"
_FACTS = "/facts"
_ADOPTING = "/adopting"
_TAIL = "/tail-"


def chunk_key(session_id: bytes, index: int) -> bytes:
    """Key of a chunk row."""
    return session_id + index.to_bytes(4, "big")


def checkpoint_key(session_id: bytes, sequence: int) -> bytes:
    """Key of a checkpoint row."""
    return session_id + sequence.to_bytes(8, "big")


def session_prefix(session_id: bytes) -> str:
    """What the names of all streams of a session begin with."""
    return f"{session_id.hex()[:2]}/{session_id.hex()}"


def facts_stream(session_id: bytes) -> str:
    """Name of the session's facts journal."""
    return session_prefix(session_id) + _FACTS


def secret_stream(session_id: bytes) -> str:
    """Name of the stream that holds the session's sealed secret."""
    return session_prefix(session_id) + _SEALED


def adopting_stream(session_id: bytes) -> str:
    """Name of the stream in which facts are gathered that come from another node."""
    return session_prefix(session_id) + _ADOPTING


def tail_stream(session_id: bytes, index: int) -> str:
    """Name of the stream that holds the live frames of chunk `index`."""
    return f"{session_prefix(session_id)}{_TAIL}{index:010d}"


def parse_session_stream(name: str) -> bytes | None:
    """The session ID of a facts or secret stream; None for any other name."""
    base = name.removesuffix(_FACTS).removesuffix(_SEALED)
    try:
        session_id = bytes.fromhex(base.partition("/")[2])
    except ValueError:
        return None
    names = (facts_stream(session_id), secret_stream(session_id))
    return session_id if len(session_id) == 16 and name in names else None


def parse_adopting_stream(name: str) -> bytes | None:
    """The session ID of an adopting stream; None for any other name."""
    if not name.endswith(_ADOPTING):
        return None
    return parse_session_stream(name.removesuffix(_ADOPTING) + _FACTS)


def parse_tail_stream(session_id: bytes, name: str) -> int | None:
    """The chunk index of a tail stream of this session; None for any other name."""
    digits = name.removeprefix(session_prefix(session_id) + _TAIL)
    if len(digits) != 10 or not (digits.isdecimal() and digits.isascii()):
        return None
    return index if (index := int(digits)) < 1 << 32 else None
