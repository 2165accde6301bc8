"""Who fails is left alone, and not for longer than it deserves."""

from dht.backoff import MAX_TRANSFERS, Advances, Backoffs
from dht.transfer import FRAME_BYTES

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


def test_what_goes_forward_begins_with_the_first_pause_again() -> None:
    backoffs, now_ns = Backoffs(5.0, 600.0), 0
    for pause_s, forward in ((5, False), (10, False), (5, True), (5, True), (10, False)):
        backoffs.on_failure(ONE, now_ns, forward=forward)
        assert backoffs.next_end_s(now_ns) == pause_s
        now_ns += pause_s * SECOND
    backoffs.on_failure(ONE, now_ns)
    backoffs.on_failure(ONE, now_ns, forward=True)
    assert backoffs.next_end_s(now_ns) == 5, "of calls that fail together one has gone forward"


def test_whoever_broke_the_rules_is_not_asked_sooner_because_something_goes_forward() -> None:
    backoffs = Backoffs(5.0, 600.0)
    backoffs.on_failure(ONE, 0, fault=True, forward=True)
    backoffs.on_failure(ONE, SECOND, forward=True)
    assert backoffs.next_end_s(0) == 600


def test_only_whole_frames_more_than_ever_before_are_an_advance() -> None:
    advances = Advances()
    told = (0, FRAME_BYTES, FRAME_BYTES, 2 * FRAME_BYTES - 1, 0, FRAME_BYTES, 3 * FRAME_BYTES)
    assert [advances.on_broken(ONE, at) for at in told] == [False, True, False, False, False, False, True]
    advances.on_done(ONE)
    assert advances.on_broken(ONE, FRAME_BYTES)


def test_few_broken_transfers_are_remembered() -> None:
    advances = Advances()
    for number in range(MAX_TRANSFERS + 10):
        advances.on_broken(number, FRAME_BYTES)
    assert len(advances._furthest) == MAX_TRANSFERS
    assert not advances.on_broken(MAX_TRANSFERS, FRAME_BYTES)
