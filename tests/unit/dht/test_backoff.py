"""Who fails is left alone, and not for longer than it deserves."""

from dht.backoff import Backoffs

ONE = b"1"
SECOND = 10**9


def test_each_failure_doubles_the_pause_up_to_the_longest() -> None:
    backoffs, now_ns = Backoffs(5.0, 20.0), 0
    for pause_s in (5, 10, 20, 20):
        backoffs.on_failure(ONE, now_ns)
        assert backoffs.next_end_s(now_ns) == pause_s
        now_ns += pause_s * SECOND
        assert backoffs.is_over(ONE, now_ns)


def test_calls_that_fail_together_are_one_failure() -> None:
    backoffs = Backoffs(5.0, 600.0)
    for _ in range(8):
        backoffs.on_failure(ONE, SECOND)
    assert backoffs.next_end_s(SECOND) == 5


def test_whoever_returns_is_called_at_once_unless_it_broke_the_rules() -> None:
    backoffs = Backoffs(5.0, 600.0)
    backoffs.on_failure(ONE, 0)
    backoffs.on_return(ONE)
    assert backoffs.is_over(ONE, 0)
    backoffs.on_failure(ONE, 0, fault=True)
    backoffs.on_return(ONE)
    assert backoffs.next_end_s(0) == 600
    backoffs.on_failure(ONE, SECOND)
    assert backoffs.next_end_s(0) == 600, "a fault among failures stays one"
    backoffs.on_success(ONE)
    backoffs.on_failure(ONE, 0)
    assert backoffs.next_end_s(0) == 5
