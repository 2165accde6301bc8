"""What can go wrong with a simulated disk, and when.

Every operation of a simulated disk asks a shared `Faults` first. Operations are numbered from 0, so a test,
or the simulator, runs something once to count them, and then again with a fault at each. All choices come
from one `Rng`: a run is a pure function of it.

- death: the process dies in the middle of the operation, which takes effect fully, partly or not at all.
  From then on, until `revive()`, every operation dies: nothing that unwinds the stack can reach the disk.
- failure: the operation raises `StoreError` and has no effect; but a write leaves a prefix, and a fsync loses
  what it should have saved.
- full: writes raise `StoreFull` when the capacity is reached, or at one given operation; a prefix is left.
"""

from collections.abc import Callable
from dataclasses import dataclass

from kernel.errors import StoreError, StoreFull
from kernel.ports import Rng

# Operations that need space, and so can find the disk full.
_GROWING = frozenset({"create", "append", "fsync", "fsync_dir", "rename", "commit"})


class Died(BaseException):
    """The simulated process is dead. No handler of ordinary errors catches it."""


@dataclass(slots=True)
class Verdict:
    """How an operation ends.

    Attributes:
        size_bytes: so much of a write reaches the file.
        happens: whether an operation that is no write takes effect.
        error: what it raises then.
    """

    size_bytes: int
    happens: bool = True
    error: BaseException | None = None


@dataclass(slots=True)
class Faults:
    """A plan of faults, and the count of operations so far.

    Attributes:
        rng: decides what a fault leaves behind.
        die_at: number of the operation in which the process dies.
        fail_at: number of the operation that fails.
        full_at: number of the operation that finds the disk full, if it is one that needs space.
        capacity_bytes: size of the disk; None: endless.
        before: called with (number, name, path) ahead of each operation; may raise.
        operations: how many operations there were.
        used_bytes: bytes on the disk, kept by its adapters.
        dead: whether the process is dead.
    """

    rng: Rng
    die_at: int | None = None
    fail_at: int | None = None
    full_at: int | None = None
    capacity_bytes: int | None = None
    before: Callable[[int, str, str], None] | None = None
    operations: int = 0
    used_bytes: int = 0
    dead: bool = False

    def revive(self) -> None:
        """A new process begins: counting starts again and no fault is planned; the capacity stays."""
        self.dead = False
        self.operations = 0
        self.die_at = self.fail_at = self.full_at = self.before = None

    def decide(self, name: str, path: str, size_bytes: int = 0, *, freed_bytes: int = 0) -> Verdict:
        """Counts an operation and says how it ends.

        Args:
            name: of the operation.
            path: what it is about.
            size_bytes: what it writes.
            freed_bytes: what it frees before it writes.
        """
        if self.dead:
            raise Died
        number = self.operations
        self.operations += 1
        if self.before is not None:
            self.before(number, name, path)
        if number == self.die_at:
            self.dead = True
            return Verdict(self.rng.below(size_bytes + 1), bool(self.rng.below(2)), Died())
        if number == self.fail_at:
            return self._fail(size_bytes, StoreError(f"cannot {name} {path}: planned failure"))
        if number == self.full_at and name in _GROWING:
            return self._fail(size_bytes, StoreFull(f"cannot {name} {path}: no space left"))
        if self.capacity_bytes is not None:
            room = max(self.capacity_bytes - self.used_bytes + freed_bytes, 0)
            if size_bytes > room:
                return Verdict(room, False, StoreFull(f"cannot {name} {path}: no space left"))
        return Verdict(size_bytes)

    def _fail(self, size_bytes: int, error: StoreError) -> Verdict:
        return Verdict(self.rng.below(size_bytes + 1), False, error)
