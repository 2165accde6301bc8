"""Streams and records under damage of any kind: what is given back is what was written."""

from hypothesis import given
from hypothesis import strategies as st

from kernel.errors import StoreDamaged, StoreTooNew
from storage import record_format
from storage.journal_format import compute_header, compute_key, encode_records, parse_stream

KEY = compute_key("s")
PAYLOADS = st.lists(st.binary(max_size=60) | st.sampled_from([b"LJR1", b"LJR1" + bytes(12)]), max_size=8)


@given(PAYLOADS, st.data())
def test_any_mixture_of_cuts_flips_and_holes_costs_only_what_it_hits(
    payloads: list[bytes], data: st.DataObject
) -> None:
    pieces = [compute_header(), *(b"".join(encode_records(KEY, n, [p])) for n, p in enumerate(payloads))]
    damage = data.draw(
        st.lists(
            st.tuples(
                st.integers(0, len(pieces) - 1), st.sampled_from(["flip", "cut", "zero", "gone", "noise"])
            ),
            max_size=4,
        )
    )
    hit = set()
    for index, kind in damage:
        piece = bytearray(pieces[index])
        at = data.draw(st.integers(0, max(len(piece) - 1, 0)))
        match kind:
            case "flip" if piece:
                piece[at] ^= 1 << data.draw(st.integers(0, 7))
            case "cut":
                del piece[at:]
            case "zero":
                piece[at:] = bytes(len(piece) - at)
            case "gone":
                piece.clear()
            case "noise":
                piece[at:at] = data.draw(st.binary(min_size=1, max_size=30))
        if bytes(piece) != pieces[index]:
            hit.add(index - 1)
        if len(piece) < len(pieces[index]):
            # What follows moves up, and its first bytes may happen to be the ones that are missing.
            hit.add(index)
        pieces[index] = bytes(piece)
    contents = parse_stream(KEY, b"".join(pieces), "s").contents
    found = dict(contents.records)
    assert all(payloads[sequence] == payload for sequence, payload in found.items())
    assert all(sequence in found for sequence in range(len(payloads)) if sequence not in hit)
    missing = set(range(max(found, default=-1))) - set(found)
    assert bool(missing) == any(words.startswith("record") for words in contents.damaged)


@given(st.binary(max_size=400))
def test_arbitrary_bytes_hold_no_record_and_break_nothing(data: bytes) -> None:
    try:
        contents = parse_stream(KEY, data, "s").contents
    except (StoreDamaged, StoreTooNew):
        return
    assert contents.records == []


@given(st.binary(min_size=1, max_size=255), st.binary(max_size=300), st.data())
def test_a_changed_value_is_never_taken_for_right(key: bytes, value: bytes, data: st.DataObject) -> None:
    table_key = record_format.compute_table_key("t")
    stored = record_format.encode_value(table_key, key, value)
    assert record_format.decode_value(table_key, key, stored) == value
    other = data.draw(st.binary(max_size=330))
    assert record_format.decode_value(table_key, key, other) is None
    flipped = bytearray(stored)
    bit = data.draw(st.integers(0, 8 * len(stored) - 1))
    flipped[bit // 8] ^= 1 << bit % 8
    assert record_format.decode_value(table_key, key, bytes(flipped)) is None
    assert record_format.decode_value(table_key, key + b"\0", stored) is None
    assert record_format.decode_value(record_format.compute_table_key("u"), key, stored) is None
    if value:
        assert record_format.decode_value(table_key, key + value[:1], stored[:16] + value[1:]) is None


@given(st.binary(max_size=255), st.binary(max_size=255), st.binary(min_size=1, max_size=255), st.booleans())
def test_the_range_of_a_scan_holds_the_keys_it_should(
    prefix: bytes, start: bytes, key: bytes, reverse: bool
) -> None:
    for candidate in (key, prefix, start, prefix + key[:3], start + b"\0", start[:-1]):
        low, high = record_format.compute_range(prefix, start, reverse=reverse)
        inside = low <= candidate and (high is None or candidate < high)
        beyond_start = candidate <= start if reverse and start else reverse or candidate >= start
        assert inside == (candidate.startswith(prefix) and beyond_start)
