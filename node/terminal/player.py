"""Plays a terminal recording."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class PlayOptions:
    """How a recording is played.

    Attributes:
        speed: 2.0 is twice as fast.
        idle_limit_s: no pause is longer; None: as recorded.
        follow: the recording may still be going on: start at its end and go on with it.
    """

    speed: float = 1.0
    idle_limit_s: float | None = None
    follow: bool = False


def play(open_source: Callable[[], int], options: PlayOptions) -> None:
    """Plays an asciicast on standard output; keys come from the terminal on standard input.

    Args:
        open_source: gives a descriptor to read the asciicast from its start (closed here). Called again to
            seek back.
        options: how to play it.

    Raises:
        InvalidRecord: it is no asciicast.
    """
    raise NotImplementedError


def play_session(socket_path: Path, session_id: bytes, options: PlayOptions) -> None:
    """Plays a recording of the daemon behind `socket_path`.

    Raises:
        Unavailable: the daemon cannot be reached.
        LucidError: what the daemon answered.
        InvalidRecord: it is no terminal recording.
    """
    raise NotImplementedError
