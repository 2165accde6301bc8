from node.rpc.buckets import Buckets

SECOND_NS = 10**9


def test_a_burst_is_followed_by_the_rate() -> None:
    buckets = Buckets()
    assert [buckets.take("a", 2.0, 3, 0) for _ in range(4)] == [True, True, True, False]
    assert not buckets.take("a", 2.0, 3, SECOND_NS // 4)
    assert buckets.take("a", 2.0, 3, SECOND_NS // 2)
    assert not buckets.take("a", 2.0, 3, SECOND_NS // 2)
    assert [buckets.take("a", 2.0, 3, 100 * SECOND_NS) for _ in range(4)] == [True, True, True, False]


def test_callers_have_buckets_of_their_own() -> None:
    buckets = Buckets()
    assert buckets.take("a", 1.0, 1, 0)
    assert not buckets.take("a", 1.0, 1, 0)
    assert buckets.take("b", 1.0, 1, 0)


def test_their_number_is_bounded() -> None:
    buckets = Buckets(max_buckets=2)
    for key in ("a", "b", "c"):
        assert buckets.take(key, 1.0, 1, 0)
    assert not buckets.take("c", 1.0, 1, 0)
    assert not buckets.take("b", 1.0, 1, 0)
    assert buckets.take("a", 1.0, 1, 0)  # the least used one was forgotten
