"""Several sources bring one blob."""

import pytest

from dht.shares import Shares
from dht.transfer import FRAME_BYTES
from tests.scenarios.world import SeededRng

MIB = 1 << 20
SIZE = 8 * MIB + 5000


def bring_frame(shares: Shares, source: bytes, position: int, end: int) -> int:
    size = min(FRAME_BYTES, end - position)
    shares.bring(source, size)
    return size


def test_one_source_brings_all() -> None:
    shares = Shares(SIZE)
    share = shares.assign(b"a")
    assert share is not None and (share.position, share.end) == (0, SIZE)
    while share.position < share.end:
        bring_frame(shares, b"a", share.position, share.end)
    assert shares.missing == 0


def test_two_of_equal_speed_halve_it() -> None:
    shares = Shares(SIZE)
    first, second = shares.assign(b"a"), shares.assign(b"b")
    assert first is not None and second is not None
    assert first.end == second.position
    assert abs(first.end - SIZE // 2) <= 8192
    assert second.position % 4096 == 0


def test_who_was_faster_takes_more() -> None:
    shares = Shares(SIZE)
    slow = shares.assign(b"slow")
    shares.expect(b"fast", 100 * MIB)
    fast = shares.assign(b"fast")
    assert slow is not None and fast is not None
    assert slow.end - slow.position == FRAME_BYTES
    assert fast.end == SIZE


@pytest.mark.parametrize("seed", range(60))
def test_any_mixture_of_speeds_and_failures_brings_every_byte(seed: int) -> None:
    rng = SeededRng(seed)
    size = 1 + rng.below(3 * MIB)
    shares, held, wasted = Shares(size), {}, 0
    sources = [bytes([number]) for number in range(1 + rng.below(4))]
    covered = bytearray(size)
    for _ in range(5000):
        if not shares.missing:
            break
        source = sources[rng.below(len(sources))]
        if source not in held:
            share = shares.assign(source)
            if share is not None:
                assert share.position % 4096 == 0 and share.position < share.end <= size
                held[source] = share
            continue
        share = held[source]
        if share.position >= share.end or rng.below(10) == 0:
            shares.give_back(source)
            del held[source]
            continue
        end = min(share.position + FRAME_BYTES, size)
        covered[share.position : end] = b"\x01" * (end - share.position)
        wasted += (end - share.position) - min(shares.bring(source, end - share.position), end)
    assert shares.missing == 0
    assert all(covered), "bytes count as brought that nobody brought"
