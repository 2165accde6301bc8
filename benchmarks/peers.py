"""The programs that recording and restoring are compared with, each with its best reasonable options.

restic: repository version 2, compression auto. borg: zstd level 3, repokey (its SHA-256 runs in hardware and
is faster than repokey-blake2 where it does). Both encrypt, as we do, and both start from an empty repository.
`cp` does none of it: it says what the disk and the page cache allow.
"""

import shutil
from pathlib import Path
from typing import Protocol

from benchmarks.process import Usage, compute_tree_bytes, run


class Store(Protocol):
    """A program that takes a file and gives it back."""

    def record(self, path: Path) -> Usage:
        """Stores the file."""
        ...

    def restore(self, directory: Path) -> tuple[Usage, Path]:
        """Writes the stored file below `directory`, and says where."""
        ...

    def compute_stored_bytes(self) -> int:
        """What the stored file takes on the disk."""
        ...

    def close(self) -> None:
        """Ends what runs in the background."""
        ...


class _Peer:
    """What the peers have in common: an empty directory, and nothing of the user's own configuration."""

    def __init__(self, directory: Path) -> None:
        self.repository = directory / "repository"
        self.environment = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(directory),
            "LC_ALL": "C.UTF-8",
        }

    def compute_stored_bytes(self) -> int:
        return compute_tree_bytes(self.repository)

    def close(self) -> None:
        """Nothing runs in the background."""


class Restic(_Peer):
    """`restic backup` and `restic restore`."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.environment |= {"RESTIC_PASSWORD": "benchmark", "RESTIC_REPOSITORY": str(self.repository)}
        run(["restic", "init", "--repository-version", "2"], self.environment)

    def record(self, path: Path) -> Usage:
        command: list[str | Path] = ["restic", "backup", "--quiet", "--compression", "auto", path]
        return run(command, self.environment, sync=True)

    def restore(self, directory: Path) -> tuple[Usage, Path]:
        usage = run(["restic", "restore", "latest", "--target", directory], self.environment, sync=True)
        return usage, next(path for path in directory.rglob("*") if path.is_file())


class Borg(_Peer):
    """`borg create` and `borg extract`."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.environment |= {"BORG_PASSPHRASE": "benchmark", "BORG_REPO": str(self.repository)}
        run(["borg", "init", "--encryption", "repokey"], self.environment)

    def record(self, path: Path) -> Usage:
        return run(["borg", "create", "--compression", "zstd,3", "::one", path], self.environment, sync=True)

    def restore(self, directory: Path) -> tuple[Usage, Path]:
        usage = run(["borg", "extract", "::one"], self.environment, directory=directory, sync=True)
        return usage, next(path for path in directory.rglob("*") if path.is_file())


class Copy(_Peer):
    """`cp`, for scale."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.repository.mkdir()

    def record(self, path: Path) -> Usage:
        return run(["cp", "--reflink=never", path, self.repository / "copy"], self.environment, sync=True)

    def restore(self, directory: Path) -> tuple[Usage, Path]:
        copy = self.repository / "copy"
        usage = run(["cp", "--reflink=never", copy, directory / "copy"], self.environment, sync=True)
        return usage, directory / "copy"


def find_missing(programs: list[str]) -> list[str]:
    """The programs that are not installed."""
    return [program for program in programs if shutil.which(program) is None]
