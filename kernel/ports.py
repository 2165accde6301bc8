"""What the rooms ask of the world.

Decision code takes time and randomness as arguments; flow code awaits these ports; adapters implement them.
One contract suite per port (`tests/contracts/`) must pass for every adapter, the simulated ones included.

Durability: a method either promises that bytes survive a power cut when it returns ("durable"), or only that
they survive the death of this process ("written").
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Clock(Protocol):
    """Wall time for people and records, monotonic time for durations."""

    def wall_ns(self) -> int:
        """Unix time in nanoseconds. May jump, forwards and backwards."""
        ...

    def monotonic_ns(self) -> int:
        """Nanoseconds since an arbitrary start. Never goes back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Returns after `seconds` of monotonic time."""
        ...


class Rng(Protocol):
    """Randomness for sampling and jitter. Never for keys."""

    def below(self, bound: int) -> int:
        """A uniform integer in [0, bound)."""
        ...


class Entropy(Protocol):
    """Randomness for keys, nonces and ids. Drawn on the event loop, before work is offloaded."""

    def draw(self, size_bytes: int) -> bytes:
        """Fresh, unpredictable bytes."""
        ...


class Offload(Protocol):
    """Where blocking or CPU-heavy work runs: a thread pool in the daemon, inline in simulation."""

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs `function` off the event loop and returns, or raises, what it does.

        A caller that is cancelled meanwhile learns of it only when `function` has ended: nothing goes on
        unseen.
        """
        ...


class Files(Protocol):
    """A directory tree on a disk. Blocking; faults of simulation act here.

    Paths are relative, "/"-separated, without "." or "..". Every method raises `StoreFull` when space is
    short and `StoreError` for any other failure of the disk; `FileNotFoundError` and `FileExistsError` mean
    what they say.

    After a power cut a file holds what was there at its last `fsync`, plus any prefix or mixture of later
    writes; a created, renamed or removed name is certain only after `fsync_dir` of its directory.
    """

    def create(self, path: str, parts: Sequence[bytes]) -> None:
        """Writes a new file, or replaces the contents of an existing one. Written, not durable.

        Missing parent directories are made.
        """
        ...

    def append(self, path: str, parts: Sequence[bytes]) -> None:
        """Adds to the end of a file, which is made if missing. Written, not durable.

        If it raises, a prefix of the bytes may have been added.
        """
        ...

    def read(self, path: str, offset: int = 0, size_bytes: int | None = None) -> bytes:
        """Up to `size_bytes` from `offset`; to the end if None; shorter at the end of the file."""
        ...

    def size(self, path: str) -> int:
        """Length in bytes."""
        ...

    def truncate(self, path: str, size_bytes: int) -> None:
        """Cuts a file to `size_bytes`. Not durable."""
        ...

    def fsync(self, path: str) -> None:
        """Makes the contents of a file durable."""
        ...

    def fsync_dir(self, path: str) -> None:
        """Makes the names in a directory durable. "" is the root."""
        ...

    def rename(self, old: str, new: str) -> None:
        """Replaces `new` by `old`, atomically. Not durable. Missing parent directories of `new` are made."""
        ...

    def remove(self, path: str) -> None:
        """Removes a file. Not durable."""
        ...

    def remove_dir(self, path: str) -> None:
        """Removes an empty directory; does nothing if it is missing or not empty."""
        ...

    def list_dir(self, path: str) -> list[str]:
        """Names in a directory, sorted; directories end with "/". Empty if the directory is missing."""
        ...


@dataclass(frozen=True, slots=True)
class Put:
    """Stores `value` under `key`."""

    table: str
    key: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class Delete:
    """Removes `key`; a missing key is fine."""

    table: str
    key: bytes


@dataclass(frozen=True, slots=True)
class Expect:
    """Lets the whole batch fail with `Conflict` unless `key` holds `value` (None: is missing)."""

    table: str
    key: bytes
    value: bytes | None


Operation = Put | Delete | Expect


class Records(Protocol):
    """Ordered key-value tables. Keys of 1…255 bytes, compared as unsigned bytes.

    Reads are short, synchronous snapshots. Each value is stored with a checksum bound to its table and key:
    a value that does not match raises `StoreDamaged` that names it, and costs no other record.
    """

    def get(self, table: str, key: bytes) -> bytes | None:
        """The value of `key`, None if missing.

        Raises:
            StoreDamaged: the stored value fails its checksum.
        """
        ...

    def scan(
        self,
        table: str,
        *,
        prefix: bytes = b"",
        start: bytes = b"",
        limit: int | None = None,
        reverse: bool = False,
        damaged: list[bytes] | None = None,
    ) -> list[tuple[bytes, bytes]]:
        """Key-value pairs in key order whose key begins with `prefix` and is ≥ `start` (≤ if `reverse`).

        Args:
            table: name of the table.
            prefix: what the keys begin with.
            start: first key to look at; b"" means the first (or last) one.
            limit: at most so many pairs.
            reverse: from the greatest key to the least.
            damaged: collects the keys of values that fail their checksum; if None, the first one raises.

        Raises:
            StoreDamaged: a value fails its checksum and `damaged` is None.
        """
        ...

    async def commit(self, operations: Sequence[Operation]) -> None:
        """Applies all operations or none, in order. Durable on return.

        Raises:
            Conflict: an `Expect` does not hold; nothing was applied.
            StoreFull: no space; nothing was applied.
        """
        ...

    def size_bytes(self) -> int:
        """Bytes that the tables take on disk."""
        ...

    def close(self) -> None:
        """Releases files and memory. Nothing else may be called afterwards."""
        ...


class Blobs(Protocol):
    """Content-addressed bytes: sealed chunks under their 32-byte chunk ID."""

    async def put(self, blob_id: bytes, parts: Sequence[bytes]) -> None:
        """Stores the concatenation of `parts`. Durable on return. An existing blob is left as it is.

        Raises:
            StoreFull: disk or quota; no trace of the blob counts or remains.
        """
        ...

    async def read(self, blob_id: bytes, offset: int = 0, size_bytes: int | None = None) -> bytes:
        """Bytes of a blob, unchecked: the caller verifies them against the chunk ID.

        Raises:
            NotFound: there is no such blob.
        """
        ...

    async def settle(self, blob_id: bytes) -> None:
        """Makes a blob that is here as durable as `put` does: a process that died may have left it.

        Raises:
            NotFound: there is no such blob.
        """
        ...

    def size(self, blob_id: bytes) -> int | None:
        """Length in bytes, None if there is no such blob."""
        ...

    async def remove(self, blob_ids: Sequence[bytes]) -> None:
        """Removes blobs; missing ones are fine. Durable on return."""
        ...

    def ids(self) -> list[bytes]:
        """All blob IDs, sorted."""
        ...

    def used_bytes(self) -> int:
        """Exact sum of the lengths of all blob files."""
        ...


@dataclass(frozen=True, slots=True)
class JournalContents:
    """What could be read of a stream.

    Attributes:
        records: (sequence number, payload) of every intact record, in order.
        damaged: sequence numbers, or ranges of them, that should be there and are not intact, in words.
        torn_bytes: bytes after the last intact record that hold none (a torn last write).
    """

    records: list[tuple[int, bytes]]
    damaged: list[str]
    torn_bytes: int


class Journal(Protocol):
    """Append-only streams of records, one file each; a stream is named by a "/"-separated path."""

    async def append(self, stream: str, payloads: Sequence[bytes]) -> None:
        """Adds records in order. Written on return, not durable.

        Raises:
            StoreFull: disk or quota; none of `payloads` was added.
        """
        ...

    async def sync(self, stream: str) -> None:
        """Makes everything that was appended to the stream durable, its name included."""
        ...

    async def read(self, stream: str) -> JournalContents:
        """Everything in the stream; a missing stream is empty."""
        ...

    async def trim(self, stream: str) -> None:
        """Cuts a torn last write off, so that appending goes on behind the last intact record. Durable."""
        ...

    async def drop(self, stream: str) -> None:
        """Removes the stream; a missing one is fine. Durable on return."""
        ...

    def streams(self, prefix: str = "") -> list[str]:
        """Names of all streams that begin with `prefix`, sorted."""
        ...

    def size(self, stream: str) -> int:
        """Length of the stream's file in bytes; 0 if missing."""
        ...

    def used_bytes(self) -> int:
        """Exact sum of the lengths of all journal files."""
        ...
