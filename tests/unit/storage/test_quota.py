import pytest

from kernel.errors import StoreFull
from storage.quota import RESERVE_BYTES, Quota


def test_without_a_limit_everything_fits_and_is_counted() -> None:
    quota = Quota()
    quota.take(1 << 60)
    quota.give_back(1 << 59)
    assert quota.used_bytes == 1 << 59


def test_ordinary_writes_stop_at_the_reserve() -> None:
    quota = Quota(100 * RESERVE_BYTES)
    quota.take(99 * RESERVE_BYTES)
    with pytest.raises(StoreFull):
        quota.take(1)
    assert quota.used_bytes == 99 * RESERVE_BYTES


def test_facts_may_use_the_reserve_up_to_the_limit() -> None:
    quota = Quota(100 * RESERVE_BYTES)
    quota.take(99 * RESERVE_BYTES)
    quota.take(RESERVE_BYTES, from_reserve=True)
    with pytest.raises(StoreFull):
        quota.take(1, from_reserve=True)
    assert quota.used_bytes == 100 * RESERVE_BYTES


def test_a_small_quota_keeps_an_eighth_as_reserve() -> None:
    quota = Quota(800)
    quota.take(700)
    with pytest.raises(StoreFull):
        quota.take(1)


def test_what_is_there_counts_even_beyond_the_limit_and_refuses_what_comes() -> None:
    quota = Quota(800)
    quota.adopt(10_000)
    with pytest.raises(StoreFull, match="0 are free"):
        quota.take(1, from_reserve=True)
    quota.give_back(9_900)
    quota.take(600)
    assert quota.used_bytes == 700
