"""The input of the benchmarks: a seeded mix that compresses as recordings do, half text, half random.

* Block i of 1 MiB is a pure function of (seed, i): any size is a prefix of any greater one, on every machine.
  All draws come from SHAKE-256 over both numbers.
* Text and random blocks alternate in stretches of 1 to 3 MiB; every 16 MiB hold 8 of each.
* Text blocks are prose, log lines and JSON lines in turn. Words follow a Zipf law, and half of the prose
  stands in recurring phrases, so that zstd at level 3 finds about as much as in real text and logs (3 to 5
  times smaller), while no two blocks are alike: deduplication finds nothing.
"""

import hashlib
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

BLOCK_BYTES = 1 << 20
SEED = 1
VERSION = 1
"""Part of the file name; grows when the same seed gives other bytes."""

_PATTERN = "TRTTRRTTTRRRTRTR"
_SLOTS = 1 << 16
_EPOCH_S = 1_760_000_000

Draw = Iterator[tuple[int, int, int, int]]


def compute_block(index: int, seed: int = SEED) -> bytes:
    """The 1 MiB at `index` of the corpus."""
    period, place = divmod(index, len(_PATTERN))
    if _PATTERN[place] == "R":
        return _draw_bytes(f"random {seed} {index}", BLOCK_BYTES)
    texts_before = period * _PATTERN.count("T") + _PATTERN[:place].count("T")
    write = (_write_prose, _write_log, _write_json)[texts_before % 3]
    return write(f"text {seed} {index}", index)[:BLOCK_BYTES]


def iterate_blocks(size_bytes: int, seed: int = SEED) -> Iterator[bytes]:
    """The first `size_bytes` of the corpus, block by block."""
    for index in range(-(-size_bytes // BLOCK_BYTES)):
        yield compute_block(index, seed)[: size_bytes - index * BLOCK_BYTES]


def ensure_corpus(directory: Path, size_bytes: int) -> Path:
    """The corpus of this size as a file in `directory`, written unless it is already there."""
    path = directory / f"corpus-v{VERSION}-{SEED}-{size_bytes}.bin"
    if path.exists() and path.stat().st_size == size_bytes:
        return path
    directory.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    with unfinished.open("wb") as file:
        for block in iterate_blocks(size_bytes):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(path)
    return path


def _draw_bytes(label: str, size_bytes: int) -> bytes:
    return hashlib.shake_256(f"lucid benchmark corpus {VERSION} {label}".encode()).digest(size_bytes)


def _draw_numbers(label: str, count: int) -> tuple[int, ...]:
    return struct.unpack(f"<{count}H", _draw_bytes(label, 2 * count))


def _spread(items: Sequence[bytes]) -> list[bytes]:
    """2^16 slots in which item k stands in proportion to 1 / (k + 2.7): Mandelbrot's form of Zipf's law."""
    weights = [1 / (rank + 2.7) for rank in range(len(items))]
    scale = _SLOTS / sum(weights)
    table: list[bytes] = []
    owed = 0.0
    for item, weight in zip(items, weights, strict=True):
        owed += weight * scale
        table += [item] * round(owed - len(table))
    return table


@cache
def _words() -> list[bytes]:
    """6,000 made-up words; the frequent ones are short."""
    onsets = [*"bcdfghjlmnprstvw", "st", "tr", "pl", "br", "ch", "sh", "th", "gr", "cl"]
    nuclei = [*"aeiou", "ea", "ou", "ai", "io"]
    codas = ["", "", "", "n", "r", "s", "t", "l", "nd", "st", "ng"]
    words: dict[bytes, None] = {}
    numbers = iter(_draw_numbers("words", 120_000))
    while len(words) < 6_000:
        syllables = 1 + (len(words) > 150) + (len(words) > 1_500 and next(numbers) % 2)
        word = "".join(
            onsets[next(numbers) % len(onsets)] + nuclei[next(numbers) % len(nuclei)]
            for _ in range(syllables)
        )
        words[(word + codas[next(numbers) % len(codas)]).encode()] = None
    return list(words)


@cache
def _phrases() -> list[bytes]:
    """20,000 recurring phrases of two to five words, as real text has collocations and standing messages."""
    table = _spread(_words())
    numbers = iter(_draw_numbers("phrases", 150_000))
    return [b" ".join(table[next(numbers)] for _ in range(2 + next(numbers) % 4)) for _ in range(20_000)]


@cache
def _prose_table() -> list[bytes]:
    """What follows what in prose: single words and phrases, with the punctuation behind them."""
    words, phrases = _spread(_words()), _spread(_phrases())
    table = []
    for slot, choice in enumerate(_draw_numbers("prose", _SLOTS)):
        item = (phrases if choice % 5 == 0 else words)[slot]
        table.append(item + (b".\n" if choice % 31 == 0 else b", " if choice % 11 == 0 else b" "))
    return table


def _write_prose(label: str, _index: int) -> bytes:
    return b"".join(map(_prose_table().__getitem__, _draw_numbers(label, BLOCK_BYTES // 7)))


def _write_lines(label: str, write: Callable[[Draw], Iterator[bytes]], shortest_bytes: int) -> bytes:
    draws = struct.iter_unpack("<IIII", _draw_bytes(label, 16 * (BLOCK_BYTES // shortest_bytes)))
    return b"".join(write(draws))


def _write_log(label: str, index: int) -> bytes:
    """Lines as of several services of a few hosts, in order of time."""
    messages = (
        b"Accepted publickey for user%d from 10.%d.%d.7 port %d ssh2",
        b"GET /api/v1/items/%d HTTP/1.1 status=200 bytes=%d upstream=%d rt=0.%03d",
        b"GET /static/app.%d.js HTTP/1.1 status=304 bytes=%d upstream=%d rt=0.%03d",
        b"POST /api/v1/orders/%d HTTP/1.1 status=201 bytes=%d upstream=%d rt=0.%03d",
        b"connection from 192.168.%d.%d closed after %d ms, code %d",
        b"worker %d finished job %d in %d.%03d s",
        b"cache miss for key user:%d shard %d, took %d us, retry %d",
        b"disk usage of volume %d at %d percent, inode table %d, queue depth %d",
    )
    services = (b"sshd", b"nginx", b"nginx", b"nginx", b"gateway", b"worker", b"cache", b"monitor")

    def write(draws: Draw) -> Iterator[bytes]:
        time_ms = index * 40_000_000
        for a, b, c, d in draws:
            time_ms += a & 0x3FF
            seconds, milliseconds = divmod(time_ms, 1000)
            kind = a >> 29
            yield b"%d.%03d host%02d %s[%d]: %08x %s\n" % (
                _EPOCH_S + seconds,
                milliseconds,
                b & 7,
                services[kind],
                1000 + (b >> 8 & 15),
                d,
                messages[kind] % (c & 0xFF, c >> 8 & 0xFF, d & 0xFF, (d >> 8) % 1000),
            )

    return _write_lines(label, write, 64)


def _write_json(label: str, index: int) -> bytes:
    """Structured events with a standing message and one field that nothing can compress."""
    messages = _spread(_phrases())
    levels = (b"info", b"info", b"info", b"debug", b"info", b"info", b"warning", b"error")

    def write(draws: Draw) -> Iterator[bytes]:
        time_ms = index * 40_000_000
        for a, b, c, d in draws:
            time_ms += a & 0xFFF
            yield (
                b'{"time":%d,"level":"%s","service":"service-%d","trace":"%016x","user":%d,'
                b'"duration_ms":%d,"message":"%s"}\n'
            ) % (
                _EPOCH_S * 1000 + time_ms,
                levels[a >> 29],
                a >> 24 & 15,
                c << 32 | d,
                c & 0x3FF,
                c >> 10 & 0xFF,
                messages[b & 0xFFFF],
            )

    return _write_lines(label, write, 108)
