import hashlib
from pathlib import Path

import pytest
import zstandard

from benchmarks.corpus import BLOCK_BYTES, compute_block, ensure_corpus, iterate_blocks

PERIOD = 16
DIGEST = "a0ab3e3b4803a9da5204c98dcd3ea5e13dbeec2480d4942084e73a39ef97c649"


def compress(data: bytes) -> float:
    return len(data) / len(zstandard.ZstdCompressor(level=3).compress(data))


def test_the_same_seed_gives_the_same_bytes_on_every_machine() -> None:
    digest = hashlib.sha256(b"".join(map(compute_block, range(6)))).hexdigest()
    assert digest == DIGEST, "other bytes need a new VERSION"


def test_seed_and_index_each_change_a_block() -> None:
    blocks = {compute_block(index, seed) for index in (0, 1, 4, 6) for seed in (1, 2)}
    assert len(blocks) == 8


@pytest.mark.parametrize("index", range(PERIOD))
def test_every_block_is_full(index: int) -> None:
    assert len(compute_block(index)) == BLOCK_BYTES


def test_half_is_random_and_half_compresses_like_text() -> None:
    ratios = [compress(compute_block(index)) for index in range(PERIOD)]
    text = [ratio for ratio in ratios if ratio > 1.01]
    assert len(text) == PERIOD // 2
    assert all(2.5 < ratio < 5.5 for ratio in text)


def test_text_does_not_repeat_itself_over_long_distances() -> None:
    first, second = compute_block(0), compute_block(6)
    joined = first + second
    window = zstandard.ZstdCompressionParameters.from_level(3, window_log=23, enable_ldm=True)
    together = len(joined) / len(zstandard.ZstdCompressor(compression_params=window).compress(joined))
    assert together < 1.1 * compress(first)


def test_a_size_is_a_prefix_of_any_greater_one() -> None:
    small, large = 2 * BLOCK_BYTES + 17, 4 * BLOCK_BYTES
    assert b"".join(iterate_blocks(small)) == b"".join(iterate_blocks(large))[:small]


def test_the_file_is_written_once_and_unfinished_ones_are_not_used(tmp_path: Path) -> None:
    path = ensure_corpus(tmp_path / "cache", BLOCK_BYTES + 1)
    assert path.read_bytes() == b"".join(iterate_blocks(BLOCK_BYTES + 1))
    written_ns = path.stat().st_mtime_ns
    assert ensure_corpus(tmp_path / "cache", BLOCK_BYTES + 1).stat().st_mtime_ns == written_ns
    path.write_bytes(b"torn")
    assert ensure_corpus(tmp_path / "cache", BLOCK_BYTES + 1).stat().st_size == BLOCK_BYTES + 1
    assert list((tmp_path / "cache").iterdir()) == [path]
