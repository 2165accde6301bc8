"""Who the nodes of the network are: their keys, made by tor's own programs and kept in a cache.

Only what a node cannot make itself at start is kept: the RSA identity that its fingerprint follows from, and
of an authority the signing key and its certificate. One file holds them all, with a digest: it is written
beside its place and renamed, so there is a whole one or none. A cache that is damaged, of another format or
soon out of date is made anew. These keys protect nothing: whoever has them can disturb a test.
"""

import asyncio
import base64
import json
import os
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from blake3 import blake3

from kernel.errors import LocalError
from node.transport.tor.program import find_program
from simnet.homes import get_environment
from simnet.process import Child

CACHE_VARIABLE = "XDG_CACHE_HOME"
CACHE_NAME = "tor-keys-1.json"  # the number is the format's
MAX_CACHE_BYTES = 1 << 20
LIFETIME_MONTHS = 24
MIN_LEFT = timedelta(days=2)
MAKE_TIMEOUT_S = 60.0
MAX_OUTPUT_BYTES = 4 << 10

IDENTITY = "secret_id_key"
SIGNING = "authority_signing_key"
CERTIFICATE = "authority_certificate"


@dataclass(frozen=True, slots=True)
class NodeKeys:
    """The keys of one node.

    Attributes:
        name: its nickname.
        fingerprint: of its identity, 40 hexadecimal digits.
        files: what stands in `keys/` of its data directory, by file name.
    """

    name: str
    fingerprint: str
    files: dict[str, bytes]

    @property
    def authority_fingerprint(self) -> str:
        """Of the identity that an authority's votes are signed for.

        Raises:
            LookupError: the node is no authority.
            ValueError: its certificate is damaged.
        """
        return _read_certificate(self.files[CERTIFICATE])[0]


def get_cache_folder() -> Path:
    """Where keys are kept for all networks of this user (XDG Base Directory Specification)."""
    named = Path(os.environ.get(CACHE_VARIABLE, ""))
    return (named if named.is_absolute() else Path.home() / ".cache") / "lucid"


async def load_keys(
    cache: Path, tor: str, authorities: Sequence[str], relays: Sequence[str]
) -> list[NodeKeys]:
    """The keys of all nodes, authorities first: from the cache, else made, which takes some seconds.

    Args:
        cache: directory of the cache; made if it is not there.
        tor: the program.
        authorities: their names.
        relays: names of the others.

    Raises:
        LocalError: keys cannot be made or kept.
    """
    kept = _read_cache(cache)
    if [keys.name for keys in kept] == [*authorities, *relays]:
        return kept
    try:
        with _make_scratch(cache) as scratch:
            made = [await _make_keys(Path(scratch), tor, name, is_authority=True) for name in authorities]
            made += [await _make_keys(Path(scratch), tor, name, is_authority=False) for name in relays]
            _write_cache(cache, Path(scratch), made)
    except OSError as error:
        raise LocalError(f"the keys of the Tor network cannot be kept in {cache}: {error}") from error
    return made


def _read_cache(cache: Path) -> list[NodeKeys]:
    """What a cache holds; nothing if it is not there, damaged or out of date."""
    try:
        with (cache / CACHE_NAME).open("rb") as file:
            return decode_keys(file.read(MAX_CACHE_BYTES), datetime.now(UTC))
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return []


def _make_scratch(cache: Path) -> "tempfile.TemporaryDirectory[str]":
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    return tempfile.TemporaryDirectory(prefix="making-", dir=cache)


def _write_cache(cache: Path, scratch: Path, nodes: Sequence[NodeKeys]) -> None:
    part = scratch / CACHE_NAME
    with part.open("wb") as file:
        file.write(encode_keys(nodes))
        file.flush()
        os.fsync(file.fileno())
    part.replace(cache / CACHE_NAME)


def encode_keys(nodes: Sequence[NodeKeys]) -> bytes:
    """The bytes of a cache."""
    documents = [
        {
            "name": node.name,
            "fingerprint": node.fingerprint,
            "files": {name: base64.b64encode(data).decode() for name, data in node.files.items()},
        }
        for node in nodes
    ]
    body = json.dumps(documents)
    return json.dumps({"digest": blake3(body.encode()).hexdigest(), "body": body}).encode()


def decode_keys(data: bytes, now: datetime) -> list[NodeKeys]:
    """What a cache holds.

    Raises:
        ValueError, LookupError, TypeError, AttributeError: it is damaged, or a certificate is out of date or
            soon will be.
    """
    outer: dict[str, Any] = json.loads(data)
    if blake3(outer["body"].encode()).hexdigest() != outer["digest"]:
        raise ValueError("the digest is wrong")
    nodes = []
    for document in json.loads(outer["body"]):
        files = {name: base64.b64decode(text) for name, text in document["files"].items()}
        nodes.append(NodeKeys(document["name"], document["fingerprint"], files))
        if CERTIFICATE in files and _read_certificate(files[CERTIFICATE])[1] < now + MIN_LEFT:
            raise ValueError("a certificate is out of date")
    return nodes


def _read_certificate(data: bytes) -> tuple[str, datetime]:
    """Fingerprint and last moment of an authority certificate (dir-spec, section 3.1)."""
    text = data.decode("ascii")
    fingerprint = re.search(r"^fingerprint ([0-9A-F]{40})$", text, re.MULTILINE)
    expires = re.search(r"^dir-key-expires (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)$", text, re.MULTILINE)
    if fingerprint is None or expires is None:
        raise ValueError("no authority certificate")
    return fingerprint[1], datetime.fromisoformat(expires[1]).replace(tzinfo=UTC)


async def _make_keys(scratch: Path, tor: str, name: str, *, is_authority: bool) -> NodeKeys:
    """Has tor's programs make the keys of a node."""
    folder, empty = scratch / name, scratch / "torrc"
    (folder / "keys").mkdir(mode=0o700, parents=True)
    empty.touch()
    kept = [IDENTITY]
    if is_authority:
        # No address in the certificate, and an identity key that nobody will need again: no passphrase.
        words = [find_program("tor-gencert"), "--create-identity-key", "--passphrase-fd", "0"]
        words += ["-m", str(LIFETIME_MONTHS), "-i", str(folder / "identity")]
        words += ["-s", str(folder / "keys" / SIGNING), "-c", str(folder / "keys" / CERTIFICATE)]
        await _run(words)
        kept += [SIGNING, CERTIFICATE]
    words = [tor, "--defaults-torrc", "/dev/null", "-f", str(empty), "--DataDirectory", str(folder)]
    await _run([*words, "--ORPort", "127.0.0.1:1", "--Nickname", name, "--list-fingerprint"])
    fingerprint = (folder / "fingerprint").read_text().split()[-1]
    return NodeKeys(name, fingerprint, {file: (folder / "keys" / file).read_bytes() for file in kept})


async def _run(words: list[str]) -> None:
    """Runs a program to its end.

    Raises:
        LocalError: it failed, or took too long.
    """
    with tempfile.TemporaryFile() as output:
        child = Child(words, get_environment(), output, output)
        try:
            async with asyncio.timeout(MAKE_TIMEOUT_S):
                await child.ended.wait()
        except TimeoutError as error:
            raise LocalError(f"{words[0]} did not end within {MAKE_TIMEOUT_S:.0f} s") from error
        finally:
            child.kill()
            await child.ended.wait()
        if child.returncode != 0:
            output.seek(0)
            said = output.read(MAX_OUTPUT_BYTES).decode(errors="replace").strip()
            raise LocalError(f"{words[0]} failed: {said}")
