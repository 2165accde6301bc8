"""Recordings out of the daemon, into a descriptor.

Rules (docs/spec/06-data-socket.md): a regular file is passed to the daemon, which writes into it; everything else gets
a pipe made here, so that nobody changes the flags of a descriptor that other processes share.
"""

from pathlib import Path

from lucid.v1.data_pb2 import GetDone
from node.client.recording import OnProgress


def get_recording(
    socket_path: Path,
    session_id: bytes,
    output: int,
    *,
    partial: bool = False,
    follow: bool = False,
    on_progress: OnProgress | None = None,
) -> GetDone:
    """Writes the plaintext of a recording into the descriptor `output`.

    Args:
        socket_path: data socket of the daemon.
        session_id: 16 bytes.
        output: open for writing; a regular file is written from its start and cut to size by the daemon.
        partial: leave damaged parts out instead of failing; `GetDone.findings` names them.
        follow: go on while it is being recorded.
        on_progress: told how far it is, some times a second.

    Raises:
        Unavailable: the daemon cannot be reached, or went away.
        BrokenPipeError: whoever reads `output` has gone.
        LucidError: what the daemon answered.
    """
    raise NotImplementedError
