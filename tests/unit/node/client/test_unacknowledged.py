import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.errors import InvalidRecord
from node.client.unacknowledged import Unacknowledged

STEPS = st.lists(
    st.tuples(st.sampled_from(["append", "skip", "acknowledge", "rewind", "take"]), st.integers(0, 40))
)


@given(st.integers(0, 99), STEPS)
def test_it_is_a_map_of_positions(start: int, steps: list[tuple[str, int]]) -> None:
    held = Unacknowledged(start)
    model: dict[int, int] = {}  # position → byte
    sent = end = acknowledged = start
    for verb, number in steps:
        if verb == "append":
            data = bytes((end + offset) % 251 for offset in range(number))
            held.append(data)
            model.update({end + offset: byte for offset, byte in enumerate(data)})
            end += number
        elif verb == "skip":
            held.skip(number)
            end += number
        elif verb == "acknowledge":
            position = min(acknowledged + number, end)
            assert held.acknowledge(position) == (position > acknowledged)
            acknowledged = position
            model = {place: byte for place, byte in model.items() if place >= position}
        elif verb == "rewind":
            held.rewind()
            sent = 0
        else:
            expected = sorted(place for place in model if place >= sent)
            assert held.has_unsent == bool(expected)
            taken = held.take(number + 1, by_lines=False)
            if taken is None:
                assert expected == []
            else:
                position, data = taken
                assert position == expected[0]
                assert list(data) == [model[position + offset] for offset in range(len(data))]
                assert 1 <= len(data) <= number + 1
                sent = position + len(data)
        assert (held.end, held.size_bytes, held.acknowledged) == (end, len(model), acknowledged)


def test_pieces_end_where_lines_end() -> None:
    held = Unacknowledged(0)
    held.append(b"one\ntwo\nthree\n")
    assert held.take(9, by_lines=True) == (0, b"one\ntwo\n")
    assert held.take(3, by_lines=True) == (8, b"thr")  # longer than a piece may be
    assert held.take(99, by_lines=True) == (11, b"ee\n")
    assert held.take(99, by_lines=True) is None


def test_more_than_was_sent_cannot_be_acknowledged() -> None:
    held = Unacknowledged(5)
    held.append(b"abc")
    with pytest.raises(InvalidRecord):
        held.acknowledge(9)
