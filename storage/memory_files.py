"""A simulated disk: files in memory, with the faults of real ones.

The model is the port's contract, taken at its worst:
- Written bytes are seen at once and survive `process_kill()`. `power_cut()` keeps what was there at the
  last fsync, and of each later write all, nothing, a prefix, or any mixture of its sectors (lost ones
  inside a file read as 0).
- A name that was made, moved or removed is certain only after `fsync_dir` of its directory; until then a
  power cut keeps the change or not. A move is one change, but becomes certain in each of its two
  directories separately. A directory is a name in its parent: lose it, and all below is lost.
- After an fsync that failed, what it should have saved is seen until the power is cut and can never be
  saved again.
- What else can go wrong, and when, is decided by `Faults`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from kernel.errors import StoreError
from kernel.ports import Rng
from storage.faults import Faults
from storage.paths import check_directory, check_path, get_parent

_SECTOR_BYTES = 512
_MAX_MIXTURE = 64


@dataclass(eq=False, slots=True)
class _File:
    data: bytearray = field(default_factory=bytearray)
    durable: bytearray = field(default_factory=bytearray)
    # Since the last fsync: (offset, bytes written there) or (length, None) for a cut.
    unsynced: list[tuple[int, bytes | None]] = field(default_factory=list)


@dataclass(eq=False, slots=True)
class _Directory:
    entries: "dict[str, _File | _Directory]" = field(default_factory=dict)
    durable: "dict[str, _File | _Directory]" = field(default_factory=dict)


_Entry = _File | _Directory
# One change of names: (directory, name, what it then stands for).
_Change = list[tuple[_Directory, str, _Entry | None]]


class MemoryFiles:
    """`Files` in memory.

    Attributes:
        faults: what goes wrong; shared with the records of the same simulated disk.
    """

    def __init__(self, rng: Rng, faults: Faults | None = None) -> None:
        self.faults = faults or Faults(rng)
        self._rng = rng
        self._root = _Directory()
        self._changes: list[_Change] = []

    def create(self, path: str, parts: Sequence[bytes]) -> None:
        """See `Files.create`."""
        data = b"".join(parts)
        verdict = self.faults.decide("create", path, len(data), freed_bytes=self._measure_file(path))
        file = self._make(path)
        self._cut(file, 0)
        self._add(file, data[: verdict.size_bytes])
        if verdict.error:
            raise verdict.error

    def append(self, path: str, parts: Sequence[bytes]) -> None:
        """See `Files.append`."""
        data = b"".join(parts)
        verdict = self.faults.decide("append", path, len(data))
        self._add(self._make(path), data[: verdict.size_bytes])
        if verdict.error:
            raise verdict.error

    def read(self, path: str, offset: int = 0, size_bytes: int | None = None) -> bytes:
        """See `Files.read`."""
        self._act("read", path)
        data = self._get(path).data
        return bytes(data[offset : None if size_bytes is None else offset + size_bytes])

    def size(self, path: str) -> int:
        """See `Files.size`."""
        self._act("size", path)
        return len(self._get(path).data)

    def truncate(self, path: str, size_bytes: int) -> None:
        """See `Files.truncate`."""
        self._act("truncate", path, lambda: self._cut(self._get(path), size_bytes))

    def fsync(self, path: str) -> None:
        """See `Files.fsync`."""
        verdict = self.faults.decide("fsync", path)
        file = self._get(path)
        if verdict.happens:
            for offset, data in file.unsynced:
                _apply(file.durable, offset, data)
        if verdict.happens or isinstance(verdict.error, StoreError):
            file.unsynced.clear()
        if verdict.error:
            raise verdict.error

    def fsync_dir(self, path: str) -> None:
        """See `Files.fsync_dir`."""
        check_directory(path)
        self._act("fsync_dir", path, lambda: self._settle_names(self._walk(path)))

    def rename(self, old: str, new: str) -> None:
        """See `Files.rename`."""
        check_path(old)
        self._act("rename", new, lambda: self._move(old, new))

    def remove(self, path: str) -> None:
        """See `Files.remove`."""
        self._act("remove", path, lambda: self._unlink(path))

    def remove_dir(self, path: str) -> None:
        """See `Files.remove_dir`."""
        self._act("remove_dir", path, lambda: self._unlink_empty(path))

    def list_dir(self, path: str) -> list[str]:
        """See `Files.list_dir`."""
        check_directory(path)
        self._act("list_dir", path)
        try:
            directory = self._walk(path)
        except FileNotFoundError:
            return []
        return sorted(name + "/" * isinstance(entry, _Directory) for name, entry in directory.entries.items())

    def process_kill(self) -> None:
        """The process is gone and another one begins; everything written is there."""
        self.faults.revive()

    def power_cut(self) -> None:
        """The machine is gone and starts again; only what was durable is certain to be there."""
        for change in self._changes:
            if self._rng.below(2):
                for directory, name, entry in change:
                    _set(directory.durable, name, entry)
        self._changes.clear()
        self._restart(self._root)
        self.faults.used_bytes = self._measure(self._root)
        self.faults.revive()

    def flip(self, path: str, bit: int) -> None:
        """Rots one bit: number `bit`, counted from the first byte's lowest, of what the medium holds."""
        file = self._get(path)
        for data in (file.data, file.durable):
            if bit // 8 < len(data):
                data[bit // 8] ^= 1 << bit % 8

    def read_durable(self, path: str, *, whole: bool = True) -> bytes | None:
        """What a power cut is certain to leave of a file; None if that may be less than there is now.

        Counts as no operation.

        Args:
            path: of the file.
            whole: False: what was synced counts, even if more was written since; None if nothing is certain.
        """
        check_path(path)
        directory = self._root
        *above, name = path.split("/")
        for part in above:
            entry = directory.durable.get(part)
            if entry is not directory.entries.get(part) or not isinstance(entry, _Directory):
                return None
            directory = entry
        file = directory.durable.get(name)
        if file is not directory.entries.get(name) or not isinstance(file, _File):
            return None
        if whole and file.unsynced:
            return None
        return bytes(file.durable)

    def read_now(self, path: str) -> bytes:
        """What a file holds now. Counts as no operation.

        Raises:
            FileNotFoundError: there is none.
        """
        return bytes(self._get(path).data)

    def paths(self) -> list[str]:
        """Every file there is, sorted. Counts as no operation."""
        return sorted(_list_files(self._root, ""))

    def _act(self, name: str, path: str, effect: Callable[[], None] = lambda: None) -> None:
        if name not in ("fsync_dir", "list_dir"):
            check_path(path)
        verdict = self.faults.decide(name, path)
        if verdict.happens:
            effect()
        if verdict.error:
            raise verdict.error

    def _walk(self, path: str) -> _Directory:
        directory = self._root
        for name in path.split("/") if path else ():
            entry = directory.entries.get(name)
            if entry is None:
                raise FileNotFoundError(path)
            if not isinstance(entry, _Directory):
                raise StoreError(f"{path} is no directory")
            directory = entry
        return directory

    def _get(self, path: str) -> _File:
        check_path(path)
        entry = self._walk(get_parent(path)).entries.get(path.rpartition("/")[2])
        if entry is None:
            raise FileNotFoundError(path)
        if not isinstance(entry, _File):
            raise StoreError(f"{path} is no regular file")
        return entry

    def _measure_file(self, path: str) -> int:
        try:
            return len(self._get(path).data)
        except FileNotFoundError:
            return 0

    def _make(self, path: str) -> _File:
        check_path(path)
        try:
            return self._get(path)
        except FileNotFoundError:
            file = _File()
            self._change([(self._make_directory(get_parent(path)), path.rpartition("/")[2], file)])
            return file

    def _make_directory(self, path: str) -> _Directory:
        try:
            return self._walk(path)
        except FileNotFoundError:
            parent = self._make_directory(get_parent(path))
            directory = _Directory()
            self._change([(parent, path.rpartition("/")[2], directory)])
            return directory

    def _change(self, change: _Change) -> None:
        for directory, name, entry in change:
            _set(directory.entries, name, entry)
        self._changes.append(change)

    def _move(self, old: str, new: str) -> None:
        file = self._get(old)
        check_path(new)
        try:
            replaced = self._get(new)
        except FileNotFoundError:
            replaced = None
        if replaced is file:
            return
        target = self._make_directory(get_parent(new))
        source = self._walk(get_parent(old))
        self._change([(target, new.rpartition("/")[2], file), (source, old.rpartition("/")[2], None)])
        self.faults.used_bytes -= len(replaced.data) if replaced else 0

    def _unlink(self, path: str) -> None:
        file = self._get(path)
        self._change([(self._walk(get_parent(path)), path.rpartition("/")[2], None)])
        self.faults.used_bytes -= len(file.data)

    def _unlink_empty(self, path: str) -> None:
        try:
            empty = not self._walk(path).entries
        except FileNotFoundError:
            return
        if empty:
            self._change([(self._walk(get_parent(path)), path.rpartition("/")[2], None)])

    def _add(self, file: _File, data: bytes) -> None:
        if data:
            file.unsynced.append((len(file.data), data))
            file.data += data
            self.faults.used_bytes += len(data)

    def _cut(self, file: _File, size_bytes: int) -> None:
        before = len(file.data)
        _apply(file.data, size_bytes, None)
        file.unsynced.append((size_bytes, None))
        self.faults.used_bytes += len(file.data) - before

    def _settle_names(self, directory: _Directory) -> None:
        for change in self._changes:
            for edited, name, entry in change:
                if edited is directory:
                    _set(directory.durable, name, entry)
            change[:] = [edit for edit in change if edit[0] is not directory]
        self._changes = [change for change in self._changes if change]

    def _restart(self, directory: _Directory) -> None:
        directory.entries = dict(directory.durable)
        for _, entry in sorted(directory.entries.items()):
            if isinstance(entry, _Directory):
                self._restart(entry)
            else:
                for offset, data in entry.unsynced:
                    for start, piece in self._survivors(offset, data):
                        _apply(entry.durable, start, piece)
                entry.unsynced.clear()
                entry.data = bytearray(entry.durable)

    def _survivors(self, offset: int, data: bytes | None) -> list[tuple[int, bytes | None]]:
        kind = self._rng.below(4)
        if kind == 0:
            return []
        if kind == 1 or data is None:
            return [(offset, data)]
        if kind == 2:
            return [(offset, data[: self._rng.below(len(data))])]
        step = _SECTOR_BYTES * -(-len(data) // (_SECTOR_BYTES * _MAX_MIXTURE))
        return [(offset + at, data[at : at + step]) for at in range(0, len(data), step) if self._rng.below(2)]

    def _measure(self, directory: _Directory) -> int:
        return sum(
            self._measure(entry) if isinstance(entry, _Directory) else len(entry.data)
            for entry in directory.entries.values()
        )


def _set(names: dict[str, _Entry], name: str, entry: _Entry | None) -> None:
    if entry is None:
        names.pop(name, None)
    else:
        names[name] = entry


def _apply(target: bytearray, offset: int, data: bytes | None) -> None:
    if data is None:
        del target[offset:]
    if len(target) < offset:
        target.extend(bytes(offset - len(target)))
    if data is not None:
        target[offset : offset + len(data)] = data


def _list_files(directory: _Directory, prefix: str) -> list[str]:
    paths: list[str] = []
    for name, entry in directory.entries.items():
        path = prefix + name
        paths += _list_files(entry, path + "/") if isinstance(entry, _Directory) else [path]
    return paths
