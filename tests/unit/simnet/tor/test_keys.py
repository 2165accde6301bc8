"""Keys are made by tor's own programs once, and kept until they are no good."""

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from blake3 import blake3

from kernel.errors import LocalError
from simnet.tor import keys
from simnet.tor.keys import (
    CACHE_NAME,
    CERTIFICATE,
    IDENTITY,
    MIN_LEFT,
    SIGNING,
    NodeKeys,
    decode_keys,
    encode_keys,
    get_cache_folder,
    load_keys,
)
from simnet.tor.programs import find_tor

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)


def make_authority(expires: datetime) -> NodeKeys:
    certificate = f"fingerprint {'C' * 40}\ndir-key-expires {expires:%Y-%m-%d %H:%M:%S}\n"
    return NodeKeys("a0", "A" * 40, {IDENTITY: b"\0\xff", CERTIFICATE: certificate.encode()})


RELAY = NodeKeys("r0", "B" * 40, {IDENTITY: b"r"})
GOOD = make_authority(NOW + timedelta(days=30))


def test_what_is_kept_is_read() -> None:
    assert decode_keys(encode_keys([GOOD, RELAY]), NOW) == [GOOD, RELAY]
    assert GOOD.authority_fingerprint == "C" * 40


def test_no_damaged_byte_goes_unseen() -> None:
    data = encode_keys([GOOD, RELAY])
    for at in range(0, len(data), 7):
        with pytest.raises((ValueError, LookupError, TypeError, AttributeError)):
            decode_keys(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :], NOW)
        with pytest.raises((ValueError, LookupError, TypeError, AttributeError)):
            decode_keys(data[:at], NOW)


@pytest.mark.parametrize("left", [timedelta(days=-1), timedelta(0), MIN_LEFT - timedelta(seconds=1)])
def test_certificates_that_end_soon_are_not_used(left: timedelta) -> None:
    with pytest.raises(ValueError, match="out of date"):
        decode_keys(encode_keys([make_authority(NOW + left)]), NOW)
    assert decode_keys(encode_keys([make_authority(NOW + MIN_LEFT)]), NOW)


def test_an_authority_without_a_readable_certificate_is_none() -> None:
    for text in (b"", b"fingerprint X\n", b"\xff", f"fingerprint {'C' * 40}\n".encode()):
        with pytest.raises(ValueError, match=r"no authority certificate|can't decode"):
            decode_keys(encode_keys([NodeKeys("a0", "", {CERTIFICATE: text})]), NOW)


async def test_keys_are_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    made = await load_keys(cache, find_tor(), ["a0"], ["r0"])
    assert [one.name for one in made] == ["a0", "r0"]
    assert [set(one.files) for one in made] == [{IDENTITY, SIGNING, CERTIFICATE}, {IDENTITY}]
    assert len({one.fingerprint for one in made} | {made[0].authority_fingerprint}) == 3
    assert [path.name for path in cache.iterdir()] == [CACHE_NAME]
    assert await load_keys(cache, "no tor", ["a0"], ["r0"]) == made  # nothing is run


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def expire(path: Path) -> None:
    path.write_bytes(encode_keys([make_authority(datetime.now(UTC)), RELAY]))


def rename_nodes(path: Path) -> None:
    path.write_bytes(encode_keys([RELAY]))


def write_other_json(path: Path) -> None:
    body = json.dumps([{"name": base64.b64encode(b"x").decode()}])
    path.write_text(json.dumps({"digest": blake3(body.encode()).hexdigest(), "body": body}))


@pytest.mark.parametrize("spoil", [damage, expire, rename_nodes, write_other_json])
async def test_a_cache_that_is_no_good_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path], None]
) -> None:
    made: list[str] = []

    async def make(_scratch: Path, _tor: str, name: str, *, is_authority: bool) -> NodeKeys:
        made.append(name)
        return make_authority(datetime.now(UTC) + timedelta(days=9)) if is_authority else RELAY

    monkeypatch.setattr(keys, "_make_keys", make)
    await load_keys(tmp_path, "tor", ["a0"], ["r0"])
    spoil(tmp_path / CACHE_NAME)
    again = await load_keys(tmp_path, "tor", ["a0"], ["r0"])
    assert made == ["a0", "r0", "a0", "r0"]
    assert decode_keys((tmp_path / CACHE_NAME).read_bytes(), datetime.now(UTC)) == again


async def test_a_tor_that_fails_is_quoted(tmp_path: Path) -> None:
    fake = tmp_path / "tor"
    fake.write_text("#!/bin/sh\necho no more keys; exit 1\n")
    fake.chmod(0o755)
    with pytest.raises(LocalError, match="no more keys"):
        await load_keys(tmp_path / "cache", str(fake), [], ["r0"])
    assert list((tmp_path / "cache").iterdir()) == []


async def test_a_cache_that_cannot_be_written_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(LocalError, match="cannot be kept"):
        await load_keys(tmp_path / "cache", find_tor(), [], ["r0"])


@pytest.mark.parametrize(
    ("named", "found"), [("/c", "/c/lucid"), ("c", "/h/.cache/lucid"), ("", "/h/.cache/lucid")]
)
def test_where_they_are_kept(monkeypatch: pytest.MonkeyPatch, named: str, found: str) -> None:
    monkeypatch.setenv("HOME", "/h")
    monkeypatch.setenv("XDG_CACHE_HOME", named)
    assert get_cache_folder() == Path(found)
