"""What is wrong with the node, truthfully.

The node *serves* if it can record, and reach others if it is to. It does not while the disk or its quota is
full, while writing fails, while its Tor is not ready, and once it is shutting down. Without Tor it goes on
recording, and what is for others waits. Damage that was found, and sessions that could not be recovered, are
problems with which it serves.
"""

from dataclasses import dataclass, field

from kernel.errors import LucidError, StoreDamaged, StoreError, StoreFull
from node.ports import Usage
from node.units import format_size

LEAST_FREE_BYTES = 64 << 20
LEAST_QUOTA_BYTES = 1 << 20
MAX_PROBLEMS = 20


def find_space_problem(usage: Usage, quota_bytes: int) -> str:
    """Why there is no space to record; empty if there is."""
    if usage.free_bytes < LEAST_FREE_BYTES:
        return f"the disk is full: {format_size(usage.free_bytes)} are free"
    used = usage.blob_bytes + usage.journal_bytes
    if quota_bytes and used + LEAST_QUOTA_BYTES > quota_bytes:
        return f"the quota is used up: {format_size(used)} of {format_size(quota_bytes)}"
    return ""


@dataclass(slots=True)
class Health:
    """The state of one node.

    Attributes:
        stopping: the node is shutting down.
        space_problem: why there is no space; empty if there is.
        write_problem: why the last write failed; empty after one that did not.
        write_problem_is_space: it failed for want of space.
        network_problem: why no other node can be reached; empty if they can, or none is to be.
        troubles: what is wrong although the node serves.
    """

    stopping: bool = False
    space_problem: str = ""
    write_problem: str = ""
    write_problem_is_space: bool = False
    network_problem: str = ""
    troubles: list[str] = field(default_factory=list)

    @property
    def serving(self) -> bool:
        """Can the node record, and reach others if it is to?"""
        return not self._blockers

    @property
    def problems(self) -> list[str]:
        """Everything that is wrong, one line each; what keeps the node from serving comes first."""
        return self._blockers + self.troubles

    @property
    def _blockers(self) -> list[str]:
        stopping = "the node is shutting down" if self.stopping else ""
        lines = (stopping, self.space_problem, self.write_problem, self.network_problem)
        return [line for line in lines if line]

    def on_write(self, error: LucidError | None) -> None:
        """Takes the outcome of something that writes to the store; None means that it worked."""
        if error is None:
            self.write_problem = ""
        elif isinstance(error, StoreError):
            self.write_problem = f"the store cannot be written: {error}"
            self.write_problem_is_space = isinstance(error, StoreFull)
            self.on_error(error)

    def on_space(self, usage: Usage, quota_bytes: int) -> None:
        """Takes a measurement of space: with room, a write that failed for want of it is forgotten."""
        self.space_problem = find_space_problem(usage, quota_bytes)
        if self.write_problem_is_space and not self.space_problem:
            self.write_problem = ""

    def on_error(self, error: LucidError) -> None:
        """Takes any error: damage is remembered."""
        line = str(error)
        if (
            isinstance(error, StoreDamaged)
            and line not in self.troubles
            and len(self.troubles) < MAX_PROBLEMS
        ):
            self.troubles.append(line)
