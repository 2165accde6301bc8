import json
from pathlib import Path

from storage import journal_format, record_format
from storage.journal_format import compute_header, compute_key, encode_records, parse_stream

VECTORS = json.loads((Path(__file__).parents[2] / "vectors/store.json").read_text())


def test_vectors_of_streams() -> None:
    for vector in VECTORS["streams"]:
        name, payloads = vector["stream"], [bytes.fromhex(payload) for payload in vector["payloads"]]
        key = compute_key(name)
        assert key.hex() == vector["key"]
        data = compute_header() + b"".join(encode_records(key, 0, payloads))
        assert data.hex() == vector["file"]
        parsed = parse_stream(key, data, name)
        assert parsed.contents.records == list(enumerate(payloads))
        assert (parsed.end, parsed.next_sequence) == (len(data), len(payloads))


def test_vectors_of_records() -> None:
    for vector in VECTORS["records"]:
        table_key = record_format.compute_table_key(vector["table"])
        key, value = bytes.fromhex(vector["key"]), bytes.fromhex(vector["value"])
        assert table_key.hex() == vector["table_key"]
        assert record_format.encode_value(table_key, key, value).hex() == vector["stored"]
        assert record_format.decode_value(table_key, key, bytes.fromhex(vector["stored"])) == value


def test_lengths_are_as_stated() -> None:
    assert len(compute_header()) == journal_format.HEADER_BYTES
    assert len(encode_records(compute_key("s"), 0, [b""])[0]) == journal_format.RECORD_BYTES


def test_payloads_are_not_copied_when_encoded() -> None:
    payload = bytes(1000)
    assert encode_records(compute_key("s"), 5, [payload])[1] is payload


def test_a_record_that_claims_to_be_longer_than_any_is_none() -> None:
    key = compute_key("s")
    longest = bytes(journal_format.MAX_PAYLOAD_BYTES + 1)
    data = compute_header() + b"".join(encode_records(key, 0, [longest, b"next"]))
    parsed = parse_stream(key, data, "s")
    assert parsed.contents.records == [(1, b"next")]
    assert parsed.contents.damaged == ["record 0"]


def test_records_out_of_order_count_only_where_they_go_on() -> None:
    key = compute_key("s")
    first, second, third = (b"".join(encode_records(key, n, [b"%d" % n])) for n in range(3))
    parsed = parse_stream(key, compute_header() + first + third + second, "s")
    assert parsed.contents.records == [(0, b"0"), (2, b"2")]
    assert parsed.contents.damaged == ["record 1"]
    assert parsed.contents.torn_bytes == len(second)
    assert parsed.next_sequence == 3


def test_random_bytes_hold_nothing() -> None:
    parsed = parse_stream(compute_key("s"), b"LJR1" * 3000, "s")
    assert (parsed.contents.records, parsed.end) == ([], 0)
    assert parsed.contents.torn_bytes == 12_000
