"""Which onion services a node has, and when each comes and goes: decisions alone.

    rotate:    [0 current]                     → [0 current, 1 next]      written before anything is published
    promote:   [0 current, 1 next]             → [0 old until T, 1 current]   when peers can find the next one
    expire:    [0 old until T, 1 current]      → [1 current]                  at T

Each state is written before it takes effect, so a node that was killed goes on where it was. Numbers are
those of `DeviceKeys.onion`; one that was used never comes again, unless the node loses its journals.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from kernel.errors import Conflict
from node.units import format_duration


@dataclass(frozen=True, slots=True)
class Onion:
    """One onion service.

    Attributes:
        index: number of its key.
        since_s: Unix seconds when it became the current one; 0: it is to be the next.
        until_s: Unix seconds when it goes; 0: when another one has replaced it.
        grace_s: seconds for which the one before stays when this one, still to be the next, has replaced it.
    """

    index: int
    since_s: int
    until_s: int = 0
    grace_s: int = 0

    @property
    def is_next(self) -> bool:
        """Does it wait to become the current one?"""
        return not self.since_s

    @property
    def is_current(self) -> bool:
        """Is it the one that peers should use?"""
        return bool(self.since_s) and not self.until_s


def begin(now_s: int) -> tuple[Onion, ...]:
    """What a node has that never had any."""
    return (Onion(0, now_s),)


def rotate(onions: Sequence[Onion], now_s: int, grace_s: int) -> tuple[Onion, ...]:
    """Adds the next service; the one before it is to stay for `grace_s` seconds then.

    Raises:
        Conflict: another rotation is not over yet.
    """
    for onion in onions:
        if onion.is_next:
            raise Conflict("a new onion service is being published already")
        if onion.until_s:
            left = format_duration(max(0, onion.until_s - now_s))
            raise Conflict(
                f"the last onion service is still served for {left}",
                hint="Peers that were away need that time to learn the new address. Try again then.",
            )
    return (*onions, Onion(max(onion.index for onion in onions) + 1, 0, grace_s=grace_s))


def promote(onions: Sequence[Onion], now_s: int) -> tuple[Onion, ...]:
    """Makes the next service, if there is one, the current one; the one before has its end then."""
    following = next((onion for onion in onions if onion.is_next), None)
    if following is None:
        return tuple(onions)
    ends_s = max(1, now_s + following.grace_s)
    return (
        *(replace(onion, until_s=ends_s) for onion in onions if onion != following),
        replace(following, since_s=now_s, grace_s=0),
    )


def expire(onions: Sequence[Onion], now_s: int) -> tuple[Onion, ...]:
    """Leaves out what is over at `now_s`."""
    return tuple(onion for onion in onions if not onion.until_s or onion.until_s > now_s)


def is_due(onions: Sequence[Onion], now_s: int, every_s: int) -> bool:
    """Is it time for a new service, if there is to be one every `every_s` seconds? 0: never."""
    (*rest, last) = onions
    return bool(every_s) and not rest and now_s - last.since_s >= every_s


def compute_wait_s(onions: Sequence[Onion], now_s: int, every_s: int) -> float | None:
    """Seconds until something is to be done for its time alone; None: nothing will be."""
    times = [onion.until_s for onion in onions if onion.until_s]
    if every_s and len(onions) == 1:
        times.append(onions[0].since_s + every_s)
    return max(0.0, min(times) - now_s) if times else None
