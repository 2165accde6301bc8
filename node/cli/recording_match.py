"""Compares the chunk of a proof bundle with a file.

A bundle does not tell where in the recording a chunk's plaintext stands: the sizes of the chunks before it
are hidden. So the plaintext of a revealed chunk is looked for in the whole file; of any other chunk the file
must be the stored bytes.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from kernel.errors import InvalidRecord, LocalError, NotFound, Reason, UsageError

if TYPE_CHECKING:
    from session.bundle_verifier import ProvenChunk

STEP_BYTES = 32 << 20


def match_recording(path: Path, chunk: "ProvenChunk | None") -> str:
    """Says in words how a file agrees with a chunk.

    Raises:
        UsageError: the bundle shows no chunk.
        NotFound: there is no such file.
        LocalError: it cannot be read.
        InvalidRecord: it does not agree.
    """
    from session.bundle_verifier import is_chunk

    if chunk is None:
        raise UsageError(
            "the bundle shows no chunk to compare the recording with",
            hint="Have it made with --chunk, and with --reveal to compare with the plaintext.",
        )
    try:
        if chunk.plaintext is None:
            with path.open("rb") as file:
                if not is_chunk(file.read(chunk.size_bytes + 1), chunk):
                    raise InvalidRecord(Reason.WRONG_HASH, f"{path} is not the stored chunk {chunk.index}")
            return f"{path} is chunk {chunk.index} as it is stored, byte by byte."
        at = find_bytes(path, chunk.plaintext)
    except FileNotFoundError as error:
        raise NotFound(f"there is no file {path}") from error
    except OSError as error:
        raise LocalError(f"{path} cannot be read: {error.strerror}") from error
    size = len(chunk.plaintext)
    if at is None:
        raise InvalidRecord(Reason.WRONG_HASH, f"the {size} bytes of chunk {chunk.index} are not in {path}")
    if not size:
        return f"Chunk {chunk.index} is empty: there is nothing of it to find in {path}."
    return f"Bytes {at} to {at + size - 1} of {path} are those of chunk {chunk.index}."


def find_bytes(path: Path, wanted: bytes, step_bytes: int = STEP_BYTES) -> int | None:
    """Where `wanted` stands first in a file; None if nowhere. Memory: its length and two steps."""
    window, start = b"", 0
    with path.open("rb") as file:
        while True:
            piece = file.read(step_bytes)
            window += piece
            found = window.find(wanted)
            if found >= 0:
                return start + found
            if not piece:
                return None
            keep = min(len(window), max(len(wanted) - 1, 0))
            start += len(window) - keep
            window = window[len(window) - keep :]
