"""The version of a store, and the way from an older one to the present one.

Rules:
- The file `format` names the version in plain text and is looked at before anything else. It holds the same
  line twice, each with a checksum: `lucid store <version> <16 hex digits of BLAKE3 of the words before>`.
  One sound line is enough, so that no single damaged byte makes a store unreadable.
- A newer store is refused. An older one is brought forward, one version after the other, before anything
  else uses it.
- A migration may be killed at any moment and is then run again from its start: it must be idempotent. Only
  when it has returned, with everything durable, does `format` name the next version.
- `format` is written last when a store is made: a store without one that holds data is damaged, an empty
  one is new.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from blake3 import blake3

from kernel.errors import StoreDamaged, StoreTooNew
from kernel.ports import Files, Offload, Records

VERSION = 1
FORMAT_FILE = "format"

_UNFINISHED_FILE = "format.unfinished"
_MAX_FORMAT_BYTES = 4096
_LINE = re.compile(rb"(lucid store ([0-9]{1,9})) ([0-9a-f]{16})")


@dataclass(frozen=True, slots=True)
class MigrationPorts:
    """What a migration works on: nobody else uses the store meanwhile."""

    files: Files
    offload: Offload
    records: Records


Migration = Callable[[MigrationPorts], Awaitable[None]]

# From the version that is the key to the next one.
MIGRATIONS: Mapping[int, Migration] = {}


@dataclass(frozen=True, slots=True)
class Schema:
    """A version, and the migrations that lead to it."""

    version: int
    migrations: Mapping[int, Migration]


PRESENT = Schema(VERSION, MIGRATIONS)


def encode_format(version: int) -> bytes:
    """Contents of the file `format`."""
    words = f"lucid store {version}"
    return 2 * f"{words} {_compute_checksum(words)}\n".encode()


def decode_format(data: bytes) -> int | None:
    """The version that `format` names; None if no line of it is sound."""
    return max(
        (
            int(line[2])
            for line in _LINE.finditer(data)
            if line[3].decode() == _compute_checksum(line[1].decode())
        ),
        default=None,
    )


def read_version(files: Files, schema: Schema) -> int | None:
    """The version of a store; None if there is no `format`.

    Raises:
        StoreDamaged: `format` is not readable.
        StoreTooNew: the store is of a newer version.
    """
    try:
        data = files.read(FORMAT_FILE, 0, _MAX_FORMAT_BYTES)
    except FileNotFoundError:
        return None
    version = decode_format(data)
    if version is None:
        raise StoreDamaged(
            f"the file `{FORMAT_FILE}` of the store is damaged",
            hint="docs/spec/07-store.md says what it must hold, and how to write it again",
        )
    if version > schema.version:
        raise StoreTooNew(
            f"the store has version {version}; this version of the software knows {schema.version}",
            hint="use the newer version of the software that wrote it",
        )
    return version


def write_version(files: Files, version: int) -> None:
    """Names the version of a store. Durable on return."""
    files.create(_UNFINISHED_FILE, [encode_format(version)])
    files.fsync(_UNFINISHED_FILE)
    files.rename(_UNFINISHED_FILE, FORMAT_FILE)
    files.fsync_dir("")


async def migrate(ports: MigrationPorts, version: int, schema: Schema) -> None:
    """Brings a store forward.

    Raises:
        StoreDamaged: there is no way from this version.
    """
    for older in range(version, schema.version):
        migration = schema.migrations.get(older)
        if migration is None:
            raise StoreDamaged(f"the store names version {older}, from which no way leads on")
        await migration(ports)
        await ports.offload.run(write_version, ports.files, older + 1)


def _compute_checksum(words: str) -> str:
    return blake3(words.encode()).hexdigest(8)
