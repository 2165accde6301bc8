import base64
import json
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.errors import InvalidRecord, Reason
from session import asciicast
from session.asciicast import Code, Event, EventStream, Header, LineSplitter


def read_events(lines: bytes) -> list[Event]:
    return [asciicast.decode_event(line) for line in lines.splitlines()]


def recover_bytes(events: list[Event], code: str) -> bytes:
    """What a stream held: the exact bytes where they follow, else the text."""
    found: list[bytes] = []
    for event in events:
        if event.code == code:
            found.append(event.data.encode())
        elif event.code == Code.BYTES:
            found[-1] = base64.b64decode(event.data)
    return b"".join(found)


def test_header_is_that_of_the_format() -> None:
    header = Header(80, 24, 1504467315, "Demo", {"TERM": "xterm", "SHELL": "/bin/zsh"}, 2.0)
    line = asciicast.encode_header(header)
    assert line.endswith(b"\n")
    assert json.loads(line) == {
        "version": 2,
        "width": 80,
        "height": 24,
        "timestamp": 1504467315,
        "title": "Demo",
        "env": {"TERM": "xterm", "SHELL": "/bin/zsh"},
        "idle_time_limit": 2.0,
    }
    assert asciicast.decode_header(line) == header


def test_header_texts_are_bounded_and_encodable() -> None:
    header = asciicast.decode_header(asciicast.encode_header(Header(1, 1, title="\udcff" + "a" * 9999)))
    assert header.title == "?" + "a" * (asciicast.MAX_HEADER_TEXT - 1)


def test_events_are_those_of_the_format() -> None:
    assert asciicast.encode_event(1.5, Code.MARKER, 'a"\n') == b'[1.500000, "m", "a\\"\\n"]\n'
    assert asciicast.encode_resize(0.25, 100, 30) == b'[0.250000, "r", "100x30"]\n'
    assert asciicast.encode_event(-1, Code.OUTPUT, "x").startswith(b"[0.000000, ")


def test_a_character_cut_in_two_is_one_event() -> None:
    stream = EventStream(Code.OUTPUT)
    euro = "€".encode()
    assert stream.encode(1, euro[:2]) == b""
    assert read_events(stream.encode(2, euro[2:] + b"!")) == [Event(2.0, "o", "€!")]
    assert stream.flush(3) == b""


def test_bytes_that_are_no_text_are_shown_and_kept() -> None:
    stream = EventStream(Code.OUTPUT)
    events = read_events(stream.encode(1, b"a\xff\xc3"))
    assert events == [Event(1.0, "o", "a\ufffd"), Event(1.0, "b", base64.b64encode(b"a\xff").decode())]
    assert recover_bytes(read_events(stream.flush(2)), "o") == b"\xc3"


@given(st.lists(st.binary(max_size=40) | st.text(max_size=20).map(str.encode)))
def test_no_byte_is_lost(pieces: list[bytes]) -> None:
    stream = EventStream(Code.OUTPUT)
    lines = b"".join(stream.encode(0, piece) for piece in pieces) + stream.flush(0)
    assert recover_bytes(read_events(lines), "o") == b"".join(pieces)


@pytest.mark.parametrize("byte", [b"\0", b"\x1b", b"\xff", b'"', b"a"])
def test_lines_fit_into_a_piece(byte: bytes) -> None:
    data = byte * (3 * asciicast.MAX_EVENT_BYTES + 1)
    lines = EventStream(Code.OUTPUT).encode(0, data)
    assert recover_bytes(read_events(lines), "o") == data
    assert max(len(line) for line in lines.splitlines()) < 200 << 10


@given(st.binary(max_size=200), st.lists(st.integers(1, 30)))
def test_lines_do_not_depend_on_pieces(data: bytes, sizes: list[int]) -> None:
    splitter, found, rest = LineSplitter(), list[bytes](), data
    for size in sizes:
        found += splitter.split(rest[:size])
        rest = rest[size:]
    found += splitter.split(rest)
    assert found == data.split(b"\n")[:-1]


def test_endless_lines_are_refused() -> None:
    splitter = LineSplitter()
    splitter.split(b"x" * asciicast.MAX_LINE_BYTES)
    with pytest.raises(InvalidRecord) as caught:
        splitter.split(b"x")
    assert caught.value.reason is Reason.TOO_LARGE


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[]",
        b"{}",
        b'{"version": 1, "width": 80, "height": 24}',
        b'{"version": 2, "width": 0, "height": 24}',
        b'{"version": 2, "width": true, "height": 24}',
        b'{"version": 2, "width": 80, "height": 70000}',
        b'{"version": 2, "width": 80}',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
def test_bad_headers_are_refused(line: bytes) -> None:
    with pytest.raises(InvalidRecord):
        asciicast.decode_header(line)


def test_odd_optional_fields_are_left_out() -> None:
    line = (
        b'{"version": 2, "width": 1, "height": 2, "timestamp": "x", "title": 7,'
        b' "env": {"A": 1, "B": "c"}, "idle_time_limit": -1}'
    )
    assert asciicast.decode_header(line) == Header(1, 2, environment={"B": "c"})


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b'[1, "o"]',
        b'[1, "o", "x", 2]',
        b'["1", "o", "x"]',
        b'[true, "o", "x"]',
        b'[-1, "o", "x"]',
        b'[NaN, "o", "x"]',
        b'[Infinity, "o", "x"]',
        b'[1e300, "o", "x"]',
        b'[1, 2, "x"]',
        b'[1, "o", null]',
        b'[1, "o", "torn',
        b"1" * 5000,
        b"[" * 100_000,
    ],
)
def test_bad_events_are_refused(line: bytes) -> None:
    with pytest.raises(InvalidRecord):
        asciicast.decode_event(line)


@given(st.binary(max_size=300))
def test_garbage_raises_nothing_else(data: bytes) -> None:
    for decode in (asciicast.decode_header, asciicast.decode_event):
        try:
            decode(data)
        except InvalidRecord:
            continue


def test_another_player_plays_it(tmp_path: Path) -> None:
    stream = EventStream(Code.OUTPUT)
    cast = tmp_path / "a.cast"
    cast.write_bytes(
        asciicast.encode_header(Header(80, 24, 1, "Demo", {"TERM": "xterm"}))
        + stream.encode(0.01, b"one \xff two\r\n")
        + asciicast.encode_resize(0.02, 90, 30)
        + asciicast.encode_event(0.03, Code.MARKER, "lost")
        + stream.encode(0.04, "drei €\r\n".encode())
    )
    player = Path("/usr/bin/asciinema")
    if not player.exists():
        pytest.skip("asciinema is not installed")
    environ = {"LC_ALL": "C.UTF-8", "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    played = subprocess.run([player, "play", cast], capture_output=True, timeout=60, check=True, env=environ)
    assert played.stdout.decode() == "one \ufffd two\r\ndrei €\r\n"
