"""Terminal recordings as asciicast v2: one JSON value per line, a header and then events.

Rules (docs/terminal.md has the whole format):
- Events are [seconds since the start, code, text]. Codes of the format: "o" output, "i" input, "r" resize,
  "m" marker.
- Output and input are bytes and become text as they arrive: a UTF-8 sequence cut in two waits for its rest.
- Bytes that are no UTF-8 are shown as U+FFFD, and the event is followed by one of our own code "b" with the
  exact bytes of that event in Base64. The format asks players to ignore codes that they do not know ("x" is
  taken: exit status in version 3).
- An event holds at most MAX_EVENT_BYTES of source bytes, so its line fits into a piece of the data socket.
- Nothing that is read is trusted: lines are bounded, every value is checked, a torn last line is left out.
"""

import base64
import codecs
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from kernel.errors import InvalidRecord, Reason

VERSION = 2
MAX_EVENT_BYTES = 32 << 10
"""Source bytes in one event; as JSON at most six times as many."""
MAX_LINE_BYTES = 1 << 20
MAX_SIDE = 65535
"""Columns or rows."""
MAX_SECONDS = 1e12
"""Times and timestamps are smaller."""
MAX_HEADER_TEXT = 4096
"""Characters of a text in a header that is written."""

_encode_json = json.JSONEncoder(ensure_ascii=False).encode


class Code(StrEnum):
    """What an event is."""

    OUTPUT = "o"
    INPUT = "i"
    RESIZE = "r"
    MARKER = "m"
    BYTES = "b"


@dataclass(frozen=True, slots=True)
class Header:
    """The first line.

    Attributes:
        columns: width of the terminal at the start.
        rows: its height.
        timestamp: Unix seconds of the start; None if unknown.
        title: what the recording is called.
        environment: SHELL and TERM.
        idle_limit_s: no pause is to be played longer; None: as recorded.
    """

    columns: int
    rows: int
    timestamp: int | None = None
    title: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    idle_limit_s: float | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """One event.

    Attributes:
        seconds: since the start of the recording.
        code: a `Code`, or one that is not known.
        data: its text.
    """

    seconds: float
    code: str
    data: str


def encode_header(header: Header) -> bytes:
    """The first line of a recording. Texts are cut at MAX_HEADER_TEXT characters."""
    fields: dict[str, Any] = {"version": VERSION, "width": header.columns, "height": header.rows}
    if header.timestamp is not None:
        fields["timestamp"] = header.timestamp
    if header.title:
        fields["title"] = _clean(header.title)
    if header.environment:
        fields["env"] = {name: _clean(value) for name, value in header.environment.items()}
    if header.idle_limit_s is not None:
        fields["idle_time_limit"] = header.idle_limit_s
    return _encode_json(fields).encode() + b"\n"


def encode_event(seconds: float, code: Code, text: str) -> bytes:
    """One line. Lone surrogates, which UTF-8 does not have, become "?"."""
    return f'[{max(seconds, 0.0):.6f}, "{code}", {_encode_json(text)}]\n'.encode(errors="replace")


def encode_resize(seconds: float, columns: int, rows: int) -> bytes:
    """The line that says that the terminal has a new size."""
    return encode_event(seconds, Code.RESIZE, f"{columns}x{rows}")


class EventStream:
    """Turns the bytes of one stream (output or input) into lines."""

    def __init__(self, code: Code) -> None:
        self._code = code
        self._pending = b""

    def encode(self, seconds: float, data: bytes) -> bytes:
        """The lines for `data`, b"" if all of it is the beginning of a character."""
        return b"".join(
            self._encode(seconds, data[start : start + MAX_EVENT_BYTES], is_end=False)
            for start in range(0, len(data), MAX_EVENT_BYTES)
        )

    def flush(self, seconds: float) -> bytes:
        """The line for what waits for a rest that will not come."""
        return self._encode(seconds, b"", is_end=True)

    def _encode(self, seconds: float, data: bytes, *, is_end: bool) -> bytes:
        data = self._pending + data
        is_exact = True
        try:
            text, used = codecs.utf_8_decode(data, "strict", is_end)
        except UnicodeDecodeError:
            text, used = codecs.utf_8_decode(data, "replace", is_end)
            is_exact = False
        self._pending = data[used:]
        if not used:
            return b""
        lines = encode_event(seconds, self._code, text)
        if not is_exact:
            lines += encode_event(seconds, Code.BYTES, base64.b64encode(data[:used]).decode())
        return lines


class LineSplitter:
    """Cuts what arrives in pieces into lines. A torn last line, one without an end, never comes out."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def split(self, piece: bytes) -> list[bytes]:
        """Lines that `piece` completes, without their ends.

        Raises:
            InvalidRecord: a line is longer than MAX_LINE_BYTES.
        """
        if b"\n" not in piece:
            self._rest += piece
            lines = []
        else:
            *lines, rest = (bytes(self._rest) + piece).split(b"\n")
            self._rest = bytearray(rest)
        if any(len(line) > MAX_LINE_BYTES for line in (*lines, self._rest)):
            raise InvalidRecord(
                Reason.TOO_LARGE, f"a line of a terminal recording is longer than {MAX_LINE_BYTES} bytes"
            )
        return lines


def decode_header(line: bytes) -> Header:
    """Reads the first line.

    Raises:
        InvalidRecord: it is no header of asciicast v2.
    """
    fields = _decode_json(line, "the header")
    if not isinstance(fields, dict) or fields.get("version") != VERSION:
        raise InvalidRecord(
            Reason.WRONG_VERSION, "not a terminal recording: the first line is no asciicast v2 header"
        )
    environment, title = fields.get("env"), fields.get("title")
    timestamp = _get_seconds(fields.get("timestamp"))
    return Header(
        columns=_check_side(fields.get("width")),
        rows=_check_side(fields.get("height")),
        timestamp=None if timestamp is None else int(timestamp),
        title=title if isinstance(title, str) else "",
        environment={
            name: value
            for name, value in (environment.items() if isinstance(environment, dict) else ())
            if isinstance(value, str)
        },
        idle_limit_s=_get_seconds(fields.get("idle_time_limit")),
    )


def decode_event(line: bytes) -> Event:
    """Reads one event, of whatever code.

    Raises:
        InvalidRecord: it is none.
    """
    value = _decode_json(line, "an event")
    if isinstance(value, list) and len(value) == 3:
        seconds, code, data = _get_seconds(value[0]), value[1], value[2]
        if seconds is not None and isinstance(code, str) and isinstance(data, str):
            return Event(seconds, code, data)
    raise InvalidRecord(Reason.MALFORMED, "an event is not [seconds, code, text]")


def _clean(text: str) -> str:
    return text[:MAX_HEADER_TEXT].encode(errors="replace").decode()


def _decode_json(line: bytes, what: str) -> object:
    if len(line) > MAX_LINE_BYTES:
        raise InvalidRecord(Reason.TOO_LARGE, f"{what} of a terminal recording is too long")
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidRecord(Reason.MALFORMED, f"{what} of a terminal recording is no JSON") from error


def _get_seconds(value: object) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < MAX_SECONDS:
        return None
    return float(value)


def _check_side(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_SIDE:
        raise InvalidRecord(Reason.MALFORMED, f"a terminal's width or height is not 1 to {MAX_SIDE}")
    return value
