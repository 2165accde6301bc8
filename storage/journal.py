"""Journals: append-only streams of records, one file each, `journal/<stream>.log` (bytes: `journal_format`).

Rules:
- `append` adds all of its records or none. If writing fails, the file is cut back to where it was and the
  cut made durable; if even that fails, the stream refuses to grow until `trim`.
- After a failed fsync nobody knows what the disk holds: the stream refuses everything but reading and
  dropping until the process starts again. The system goes on to show what it failed to save, to the next
  process too: only after a restart of the machine reading tells what is really there.
- Bytes that a killed process left behind the last intact record must be trimmed before anything is appended.
- Sequence numbers go on behind the last intact record, across restarts.
- What an earlier process wrote is made durable, name and all, by the first `sync` of this one.
- One stream is written by one at a time; different streams, and readers, do not wait for each other.
- Streams named as small facts may draw on the reserve of the quota; those that announce that space is freed
  are counted, and never refused for it.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from kernel.errors import StoreDamaged, StoreError, StoreFull, UsageError
from kernel.keyed_locks import KeyedLocks
from kernel.ports import Files, JournalContents, Offload
from storage import journal_format
from storage.paths import check_path, get_ancestors, is_path
from storage.quota import Quota

# No stream needs to be longer, and what reads one holds it in memory.
MAX_STREAM_BYTES = 1 << 30

_ROOT = "journal"
_SUFFIX = ".log"
_MAX_DEPTH = 8
_RESERVED_BYTES = 64 << 10
_EMPTY = JournalContents([], [], 0)


@dataclass(slots=True)
class _Stream:
    """What is known of a stream.

    Attributes:
        size_bytes: length of the file, up to which it holds what was appended.
        key: of its checksums.
        next_sequence: of the next record; None until the file was read.
        is_torn: bytes that are no record stand at its end.
        name_is_durable: its directories were fsynced since it was made or found.
        refused: why nothing can be added any more.
        dropping: it is being removed; its file may be gone already.
    """

    size_bytes: int
    key: bytes
    next_sequence: int | None = None
    is_torn: bool = False
    name_is_durable: bool = False
    refused: str = ""
    dropping: bool = False


class FileJournal:
    """`Journal` over `Files`. Made by `FileJournal.open`."""

    def __init__(
        self,
        files: Files,
        offload: Offload,
        quota: Quota,
        sizes: dict[str, int],
        reserved: frozenset[str],
        freeing: frozenset[str],
    ) -> None:
        self._files = files
        self._offload = offload
        self._quota = quota
        self._reserved, self._freeing = reserved, freeing
        self._streams = {
            name: _Stream(size_bytes, journal_format.compute_key(name)) for name, size_bytes in sizes.items()
        }
        self._used_bytes = sum(sizes.values())
        self._locks: KeyedLocks[str] = KeyedLocks()
        quota.adopt(self._used_bytes)

    @classmethod
    async def open(
        cls,
        files: Files,
        offload: Offload,
        quota: Quota,
        *,
        reserved: frozenset[str] = frozenset(),
        freeing: frozenset[str] = frozenset(),
    ) -> "FileJournal":
        """Finds all streams.

        Args:
            files: where they are.
            offload: where blocking work runs.
            quota: the budget they count against.
            reserved: last components of the names of streams that hold small facts: appends to them of up to
                64 KiB may draw on the reserve of the quota.
            freeing: the same for streams whose records free more than they take: the quota refuses no such
                append, since space could never be freed otherwise.

        Raises:
            StoreError: the directory cannot be read.
        """
        sizes = await offload.run(_scan, files, _ROOT, _MAX_DEPTH)
        return cls(files, offload, quota, sizes, reserved, freeing)

    async def append(self, stream: str, payloads: Sequence[bytes]) -> None:
        """See `Journal.append`.

        Raises:
            StoreFull: disk, quota, or the limit of a stream; none of `payloads` was added.
            StoreError: the disk failed, or the stream refuses to grow; none of `payloads` was added.
            UsageError: a payload is longer than a record may be.
        """
        path = _locate(stream)
        if any(len(payload) > journal_format.MAX_PAYLOAD_BYTES for payload in payloads):
            raise UsageError(f"a record has at most {journal_format.MAX_PAYLOAD_BYTES} bytes")
        if not payloads:
            return
        async with self._locks.hold(stream):
            state = self._streams.get(stream) or _Stream(0, journal_format.compute_key(stream), 0)
            first = await self._get_next_sequence(stream, state)
            parts = journal_format.encode_records(state.key, first, payloads)
            if state.size_bytes == 0:
                parts.insert(0, journal_format.compute_header())
            size_bytes = sum(map(len, parts))
            self._take(stream, state, size_bytes)
            before = state.size_bytes
            try:
                await self._offload.run(self._append, path, state, parts, before + size_bytes)
            finally:
                if state.size_bytes == before + size_bytes:
                    state.next_sequence = first + len(payloads)
                if state.size_bytes:
                    self._streams[stream] = state
                self._quota.give_back(size_bytes)
                self._count(state.size_bytes - before)

    async def sync(self, stream: str) -> None:
        """See `Journal.sync`. A missing stream is as durable as it can be.

        Raises:
            StoreError: the disk failed; from now on the stream refuses to go on.
        """
        path = _locate(stream)
        state = self._streams.get(stream)
        if state is None:
            return
        if state.refused:
            raise _refusal(stream, state)
        try:
            await self._offload.run(self._sync, path, state)
        except FileNotFoundError:
            if self._streams.get(stream) is state and not state.dropping:
                raise _vanished(stream) from None
        except StoreError as error:
            state.refused = f"an earlier fsync failed: {error}"
            raise

    async def read(self, stream: str) -> JournalContents:
        """See `Journal.read`.

        Raises:
            StoreDamaged: the file is longer than any stream can be, or forged to be slow to read.
            StoreTooNew: the file has a newer format.
        """
        _locate(stream)
        state = self._streams.get(stream)
        return _EMPTY if state is None else (await self._load(stream, state)).contents

    async def trim(self, stream: str) -> None:
        """See `Journal.trim`.

        Raises:
            StoreError: the disk failed; the stream still has its torn end.
        """
        path = _locate(stream)
        async with self._locks.hold(stream):
            state = self._streams.get(stream)
            if state is None:
                return
            if state.refused:
                raise _refusal(stream, state)
            before = state.size_bytes
            try:
                await self._offload.run(self._measure, path, state)
                parsed = await self._load(stream, state)
                await self._offload.run(self._cut, path, state, parsed.end)
                state.next_sequence = parsed.next_sequence
            except FileNotFoundError:
                raise _vanished(stream) from None
            finally:
                self._count(state.size_bytes - before)

    async def drop(self, stream: str) -> None:
        """See `Journal.drop`.

        Raises:
            StoreError: the disk failed; the stream may or may not be there after a power cut.
        """
        path = _locate(stream)
        async with self._locks.hold(stream):
            removed = False
            if state := self._streams.get(stream):
                state.dropping = True

            def remove() -> None:
                nonlocal removed
                with suppress(FileNotFoundError):
                    self._files.remove(path)
                removed = True
                self._forget_name(path)

            try:
                await self._offload.run(remove)
            finally:
                if state is not None:
                    state.dropping = False
                if removed and state is not None:
                    del self._streams[stream]
                    self._count(-state.size_bytes)

    def streams(self, prefix: str = "") -> list[str]:
        """See `Journal.streams`."""
        return sorted(name for name in self._streams if name.startswith(prefix))

    def size(self, stream: str) -> int:
        """See `Journal.size`."""
        state = self._streams.get(stream)
        return state.size_bytes if state else 0

    def used_bytes(self) -> int:
        """See `Journal.used_bytes`."""
        return self._used_bytes

    def _count(self, size_bytes: int) -> None:
        self._used_bytes += size_bytes
        self._quota.adopt(size_bytes)

    def _take(self, stream: str, state: _Stream, size_bytes: int) -> None:
        if state.size_bytes + size_bytes > MAX_STREAM_BYTES:
            raise StoreFull(f"journal {stream} has reached its limit of {MAX_STREAM_BYTES} bytes")
        name = stream.rpartition("/")[2] if size_bytes <= _RESERVED_BYTES else ""
        if name in self._freeing:
            self._quota.adopt(size_bytes)
        else:
            self._quota.take(size_bytes, from_reserve=name in self._reserved)

    async def _get_next_sequence(self, stream: str, state: _Stream) -> int:
        if state.next_sequence is None:
            state.next_sequence = (await self._load(stream, state)).next_sequence
        if state.refused:
            raise _refusal(stream, state)
        if state.is_torn:
            raise StoreError(f"journal {stream} ends in a torn write", hint="trim it first")
        return state.next_sequence

    async def _load(self, stream: str, state: _Stream) -> journal_format.Parsed:
        """Reads and parses what had been appended when this was called."""
        size_bytes, next_sequence = state.size_bytes, state.next_sequence
        if size_bytes > MAX_STREAM_BYTES:
            raise StoreDamaged(f"journal {stream} has {size_bytes} bytes, more than any stream")
        try:
            data = await self._offload.run(self._files.read, _locate(stream), 0, size_bytes)
        except FileNotFoundError:
            if self._streams.get(stream) is state and not state.dropping:
                raise _vanished(stream) from None
            data = b""
            size_bytes = next_sequence = 0
        parsed = await self._offload.run(journal_format.parse_stream, state.key, data, stream)
        if len(data) < min(size_bytes, state.size_bytes):
            parsed.contents.damaged.append(f"the last {size_bytes - len(data)} bytes of the file are gone")
        if next_sequence is None:
            state.is_torn = parsed.contents.torn_bytes > 0
            state.next_sequence = parsed.next_sequence
        elif parsed.next_sequence < next_sequence:
            parsed.contents.damaged.append(journal_format.describe(parsed.next_sequence, next_sequence - 1))
        return parsed

    def _append(self, path: str, state: _Stream, parts: Sequence[bytes], size_bytes: int) -> None:
        written = False
        try:
            self._files.append(path, parts)
            written = True
        finally:
            if written:
                state.size_bytes = size_bytes
            else:
                self._undo(path, state)

    def _undo(self, path: str, state: _Stream) -> None:
        """Cuts a failed append off again. The failure that led here is the one to report."""
        before = state.size_bytes
        try:
            self._cut(path, state, before)
            if before == 0:
                self._files.remove(path)
        except FileNotFoundError:
            pass
        except StoreError:
            state.is_torn = True
            with suppress(StoreError, FileNotFoundError):
                self._measure(path, state)

    def _cut(self, path: str, state: _Stream, size_bytes: int) -> None:
        self._files.truncate(path, size_bytes)
        try:
            self._files.fsync(path)
        except StoreError as error:
            state.refused = f"an earlier fsync failed: {error}"
            raise
        state.size_bytes = size_bytes
        state.is_torn = False

    def _measure(self, path: str, state: _Stream) -> None:
        state.size_bytes = self._files.size(path)

    def _sync(self, path: str, state: _Stream) -> None:
        self._files.fsync(path)
        if not state.name_is_durable:
            for directory in get_ancestors(path):
                self._files.fsync_dir(directory)
            state.name_is_durable = True

    def _forget_name(self, path: str) -> None:
        for directory in get_ancestors(path):
            try:
                self._files.fsync_dir(directory)
                break
            except FileNotFoundError:
                continue
        for directory in get_ancestors(path):
            if directory not in (_ROOT, ""):
                self._files.remove_dir(directory)


def _locate(stream: str) -> str:
    check_path(stream)
    path = f"{_ROOT}/{stream}{_SUFFIX}"
    check_path(path)
    if path.count("/") > _MAX_DEPTH:
        raise UsageError(f"the name of journal {stream} has more than {_MAX_DEPTH} components")
    return path


def _vanished(stream: str) -> StoreDamaged:
    return StoreDamaged(f"the file of journal {stream} is gone")


def _refusal(stream: str, state: _Stream) -> StoreError:
    return StoreError(
        f"journal {stream} takes nothing more: {state.refused}",
        hint="check the disk, then start the machine again",
    )


def _scan(files: Files, directory: str, depth: int) -> dict[str, int]:
    """Sizes of all streams below a directory. Foreign names are left alone."""
    sizes: dict[str, int] = {}
    for name in files.list_dir(directory):
        path = f"{directory}/{name}"
        stream = path[len(_ROOT) + 1 : -len(_SUFFIX)]
        if name.endswith("/"):
            if depth > 1 and is_path(path[:-1]):
                sizes |= _scan(files, path[:-1], depth - 1)
        elif path.endswith(_SUFFIX) and is_path(path) and is_path(stream):
            sizes[stream] = files.size(path)
    return sizes
