import select
import time
from collections.abc import Callable, Iterator

import pytest

from kernel.errors import InvalidRecord, LucidError, NotFound, StoreFull, Unavailable
from lucid.v1 import data_pb2, session_pb2
from node.client.link import ACCEPT_S, RECONNECT_S, STALL_S, WINDOW_BYTES, RecordingLink
from tests.unit.node.client.scripted_daemon import DEADLINE_S, ScriptedDaemon, encode, refuse

LINE = b"x" * 99 + b"\n"


class Hand:
    """A clock that a test moves, and the links that go by it."""

    def __init__(self, daemon: ScriptedDaemon) -> None:
        self.now = 1000.0
        self.links: list[RecordingLink] = []
        self._daemon = daemon

    def open(self) -> RecordingLink:
        link = RecordingLink(
            self._daemon.path,
            data_pb2.ClientFrame(start=data_pb2.StartRecording(kind=session_pb2.SOURCE_KIND_TERMINAL)),
            lambda: self.now,
            by_lines=True,
            on_gap=lambda lost: b"lost %d\n" % lost,
        )
        self.links.append(link)
        return link

    def drive(self, link: RecordingLink, is_reached: Callable[[], object]) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not is_reached():
            assert time.monotonic() < deadline, "it did not happen"
            poll = select.poll()
            connection = link.fileno()
            if connection is not None:
                poll.register(connection, link.events())
            ready = poll.poll(20)
            link.pump(ready[0][1] if ready else 0)

    def open_accepted(self) -> RecordingLink:
        link = self.open()
        self.drive(link, lambda: link.accepted)
        return link

    def pass_time(self, link: RecordingLink, seconds: float) -> None:
        for _ in range(int(seconds)):
            self.now += 1
            link.pump()


@pytest.fixture
def hand(daemon: ScriptedDaemon) -> Iterator[Hand]:
    hand = Hand(daemon)
    yield hand
    for link in hand.links:
        link.close()


def test_everything_arrives_in_whole_lines(daemon: ScriptedDaemon, hand: Hand) -> None:
    link = hand.open_accepted()
    sent = bytearray()
    for number in range(30_000):
        line = b"%d %s" % (number, LINE)
        link.append(line)
        sent += line
    link.finish(7)
    hand.drive(link, lambda: link.done)
    assert daemon.session.data == sent
    assert all(piece.endswith(b"\n") and len(piece) <= 256 << 10 for piece in daemon.session.pieces)
    assert daemon.session.finish == data_pb2.FinishRecording(has_exit_status=True, exit_status=7)
    assert link.acknowledged == link.position == len(sent)
    assert link.done and link.done.plaintext_bytes == len(sent)
    assert link.fileno() is None


def test_the_end_is_sent_even_if_nothing_else_happens(daemon: ScriptedDaemon, hand: Hand) -> None:
    link = hand.open_accepted()
    link.append(LINE)
    hand.drive(link, lambda: link.acknowledged == link.position)
    link.finish()
    assert link.wait_done().plaintext_bytes == len(LINE)


def test_room_ends_at_the_window(daemon: ScriptedDaemon, hand: Hand) -> None:
    daemon.set(acknowledges=False)
    link = hand.open_accepted()
    link.append(LINE * (WINDOW_BYTES // len(LINE)))
    hand.drive(link, lambda: daemon.session.position == link.position)
    assert link.room == WINDOW_BYTES % len(LINE)


def test_a_killed_daemon_costs_nothing(daemon: ScriptedDaemon, hand: Hand) -> None:
    link = hand.open_accepted()
    link.append(LINE)
    hand.drive(link, lambda: link.acknowledged == len(LINE))
    daemon.set(acknowledges=False)
    link.append(LINE)
    hand.drive(link, lambda: daemon.session.position == 2 * len(LINE))
    daemon.kill()
    link.append(LINE)
    hand.drive(link, lambda: link.loss)
    hand.pass_time(link, RECONNECT_S - 2)
    assert not link.is_overdue
    daemon.set(acknowledges=True)
    daemon.start()
    hand.now += 1
    link.finish(0)
    hand.drive(link, lambda: link.done)
    assert daemon.session.data == LINE * 3
    assert daemon.session.gaps == []
    assert daemon.session.resumptions == 1
    assert not link.is_overdue


def test_unsaved_bytes_are_sent_again(daemon: ScriptedDaemon, hand: Hand) -> None:
    daemon.set(acknowledges=False)
    link = hand.open_accepted()
    link.append(LINE * 5)
    hand.drive(link, lambda: daemon.session.position == len(LINE) * 5)
    daemon.kill()
    hand.drive(link, lambda: link.loss)
    session = daemon.session
    session.position = 150  # it had this much on disk, in the middle of a line
    del session.data[150:]
    daemon.start()
    hand.now += 1
    link.finish()
    hand.drive(link, lambda: link.done)
    assert daemon.session.data == LINE * 5


def test_a_lost_daemon_costs_what_has_no_room(daemon: ScriptedDaemon, hand: Hand) -> None:
    link = hand.open_accepted()
    link.append(b"first\n")
    hand.drive(link, lambda: link.acknowledged == 6)
    daemon.kill()
    hand.drive(link, lambda: link.loss)
    hand.pass_time(link, RECONNECT_S)
    assert link.is_overdue
    link.let_go()
    kept = link.room // len(LINE)
    for _ in range(kept + 10):
        link.append(LINE)
    link.append(b"tiny\n")  # would have room, but must not come before what was lost
    lost = 10 * len(LINE) + 5
    assert link.lost_bytes == lost
    assert link.unacknowledged_bytes <= WINDOW_BYTES
    daemon.start()
    hand.now += 6
    hand.drive(link, lambda: not link.is_letting_go)
    link.append(b"last\n")
    link.finish()
    hand.drive(link, lambda: link.done)
    assert daemon.session.data == b"first\n" + LINE * kept + b"lost %d\n" % lost + b"last\n"
    begin = 6 + kept * len(LINE)
    assert daemon.session.gaps == [(begin, begin + lost)]
    assert not link.is_overdue


def test_the_end_is_tried_at_once_after_a_long_absence(daemon: ScriptedDaemon, hand: Hand) -> None:
    link = hand.open_accepted()
    link.append(b"first\n")
    hand.drive(link, lambda: link.acknowledged == 6)
    daemon.kill()
    hand.drive(link, lambda: link.loss)
    hand.pass_time(link, 2 * RECONNECT_S)
    link.let_go()
    kept = link.room // len(LINE)
    for _ in range(kept + 1):
        link.append(LINE)
    daemon.start()
    link.pump()
    assert link.fileno() is None, "the next try is not due"
    link.finish(3)
    link.pump()
    assert link.is_overdue
    assert not link.is_given_up
    hand.drive(link, lambda: link.done)
    assert daemon.session.data == b"first\n" + LINE * kept + b"lost %d\n" % len(LINE)
    assert daemon.session.finish == data_pb2.FinishRecording(has_exit_status=True, exit_status=3)


def test_the_end_waits_for_nobody_who_is_away(daemon: ScriptedDaemon, hand: Hand) -> None:
    link = hand.open_accepted()
    daemon.kill()
    hand.drive(link, lambda: link.loss)
    hand.pass_time(link, 2 * RECONNECT_S)
    link.append(LINE)
    link.finish()
    link.pump()
    assert link.is_given_up


def test_a_refusal_is_final(daemon: ScriptedDaemon, hand: Hand) -> None:
    link = hand.open_accepted()
    daemon.kill()
    hand.drive(link, lambda: link.loss)
    daemon.set(answers=lambda frame: refuse("NotFound"))
    daemon.start()
    hand.now += 1
    hand.drive(link, lambda: link.refusal)
    assert isinstance(link.refusal, NotFound)
    assert link.is_overdue
    assert link.timeout_s() is None
    with pytest.raises(NotFound, match="scripted"):
        link.wait(lambda: False)


def test_refused_at_the_start(daemon: ScriptedDaemon, hand: Hand) -> None:
    daemon.set(answers=lambda frame: refuse("StoreFull"))
    link = hand.open()
    with pytest.raises(StoreFull, match="scripted"):
        link.wait(lambda: link.accepted is not None)


def test_nobody_listens(daemon: ScriptedDaemon, hand: Hand) -> None:
    daemon.kill()
    with pytest.raises(Unavailable, match="does not answer"):
        hand.open()


def test_accepting_and_failing_again_and_again_is_no_progress(daemon: ScriptedDaemon, hand: Hand) -> None:
    link = hand.open_accepted()
    session = daemon.session
    accepted = encode(
        accepted=data_pb2.RecordingAccepted(session_id=session.session_id, resume_token=session.token)
    )
    daemon.set(answers=lambda frame: accepted + refuse("StoreFull"))
    daemon.kill()
    daemon.start()
    link.append(LINE)
    count = 0
    while not link.is_overdue:
        hand.drive(link, lambda: link.loss and link.fileno() is None)
        hand.now += 1
        link.pump()
        count += 1
        assert count <= RECONNECT_S + 1
    assert isinstance(link.loss, StoreFull)
    assert link.refusal is None
    daemon.kill()
    hand.drive(link, lambda: link.loss and link.fileno() is None)
    daemon.set(answers=lambda frame: None)
    daemon.start()
    hand.now += 6
    hand.drive(link, lambda: link.acknowledged == len(LINE))
    assert not link.is_overdue


def test_silence_is_a_loss(daemon: ScriptedDaemon, hand: Hand) -> None:
    daemon.set(reads=False)
    link = hand.open_accepted()
    hand.pass_time(link, 2 * STALL_S)
    assert not link.loss  # nothing to acknowledge, nothing to miss
    link.append(LINE)
    hand.pass_time(link, STALL_S - 1)
    assert not link.loss
    hand.pass_time(link, 1)
    assert link.loss
    assert link.is_overdue
    daemon.set(reads=True)
    hand.now += 6
    hand.drive(link, lambda: link.acknowledged == len(LINE))
    assert not link.is_overdue


def test_an_unanswered_request_is_a_loss(daemon: ScriptedDaemon, hand: Hand) -> None:
    daemon.set(answers=lambda frame: b"")
    link = hand.open()
    hand.drive(link, lambda: daemon.requests)
    hand.pass_time(link, ACCEPT_S)
    with pytest.raises(Unavailable, match="did not answer"):
        link.wait(lambda: link.accepted is not None)


ACCEPTED = encode(accepted=data_pb2.RecordingAccepted(session_id=b"s" * 16, resume_token=b"t"))


@pytest.mark.parametrize(
    "lie",
    [
        b"\0\0\0\0",
        b"\xff\xff\xff\xff",
        b"\0\0\0\3\xff\xff\xff",
        b"\0\0\0\2\x9a\x3f",
        encode(got=data_pb2.GetDone()),
        encode(acknowledged=data_pb2.DataAcknowledged(position=1)),
        ACCEPTED + ACCEPTED,
        ACCEPTED + encode(acknowledged=data_pb2.DataAcknowledged(position=1 << 60)),
        ACCEPTED + encode(got=data_pb2.GetDone()),
    ],
)
def test_a_lying_daemon_is_left(daemon: ScriptedDaemon, hand: Hand, lie: bytes) -> None:
    daemon.set(answers=lambda frame: lie)
    link = hand.open()
    hand.drive(link, lambda: link.refusal)
    assert isinstance(link.refusal, InvalidRecord)
    assert link.fileno() is None
    assert link.timeout_s() is None


def test_another_session_is_not_continued(daemon: ScriptedDaemon, hand: Hand) -> None:
    link = hand.open_accepted()
    daemon.kill()
    daemon.set(answers=lambda frame: ACCEPTED)
    daemon.start()
    hand.drive(link, lambda: link.loss)
    hand.now += 1
    hand.drive(link, lambda: link.refusal)
    assert isinstance(link.refusal, InvalidRecord)


def test_a_frame_in_pieces_is_one_frame(daemon: ScriptedDaemon, hand: Hand) -> None:
    done = encode(recorded=data_pb2.RecordingDone(session_id=b"s" * 16))
    daemon.set(answers=lambda frame: ACCEPTED[:3])
    link = hand.open()
    hand.drive(link, lambda: link.loss)
    assert link.accepted is None
    daemon.set(answers=lambda frame: ACCEPTED + done)
    link = hand.open()
    hand.drive(link, lambda: link.done)
    assert link.accepted


@pytest.mark.parametrize(
    ("code", "kind"), [("InvalidRecord.WRONG_HASH", InvalidRecord), ("NoSuchClass", LucidError)]
)
def test_errors_keep_their_class(
    daemon: ScriptedDaemon, hand: Hand, code: str, kind: type[LucidError]
) -> None:
    daemon.set(answers=lambda frame: refuse(code))
    link = hand.open()
    hand.drive(link, lambda: link.refusal)
    assert type(link.refusal) is kind
