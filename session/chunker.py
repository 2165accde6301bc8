"""Cutting a source into chunks.

Bulk sources are cut into pieces of exactly the chunk size; one piece is read ahead, because the last one
carries the flag *final*. An empty source is one empty final piece. Live sources are cut by size and by time:
that is the business of `session.live_tail`.
"""

from dataclasses import dataclass

from session.ports import Source


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of plaintext and whether it is the last one."""

    data: bytes
    final: bool


class Chunker:
    """Cuts one bulk source."""

    def __init__(self, source: Source, chunk_bytes: int) -> None:
        self._source = source
        self._chunk_bytes = chunk_bytes
        self._ahead: bytes | None = None
        self._ended = False

    async def next(self) -> Piece | None:
        """The next piece; None after the final one."""
        if self._ended:
            return None
        data = await self._source.read(self._chunk_bytes) if self._ahead is None else self._ahead
        self._ahead = await self._source.read(self._chunk_bytes) if len(data) == self._chunk_bytes else b""
        self._ended = not self._ahead
        return Piece(data, self._ended)
