"""Cutting a bulk source."""

import pytest

from session.chunker import Chunker


class BytesSource:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.reads = 0

    async def read(self, size_bytes: int) -> bytes:
        self.reads += 1
        piece, self.data = self.data[:size_bytes], self.data[size_bytes:]
        return piece


@pytest.mark.parametrize("size", [0, 1, 9, 10, 11, 19, 20, 21, 100])
async def test_pieces_are_full_but_the_last_which_alone_is_final(size: int) -> None:
    data = bytes(range(size))
    chunker = Chunker(BytesSource(data), 10)
    pieces = []
    while (piece := await chunker.next()) is not None:
        pieces.append(piece)
    assert b"".join(piece.data for piece in pieces) == data
    assert [piece.final for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert all(len(piece.data) == 10 for piece in pieces[:-1])
    assert size == 0 or pieces[-1].data
    assert await chunker.next() is None


async def test_it_reads_one_piece_ahead_and_no_more() -> None:
    source = BytesSource(bytes(100))
    chunker = Chunker(source, 10)
    await chunker.next()
    assert source.reads == 2
    await chunker.next()
    assert source.reads == 3
