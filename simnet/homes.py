"""Makes the homes of a cluster, and reads who lives in them."""

import json
import os
import secrets
import sys
import tempfile
from pathlib import Path

from kernel.errors import LocalError
from node.identity.keystore import read_public
from simnet.layout import Layout
from simnet.process import Child

PASSPHRASE_BYTES = 16


def prepare_passphrase(layout: Layout) -> None:
    """Makes the file with the passphrase, if there is none yet."""
    if not layout.passphrase.exists():
        write_private(layout.passphrase, secrets.token_hex(PASSPHRASE_BYTES) + "\n")


def write_private(path: Path, text: str) -> None:
    """Writes a file that only its owner can read: whole or not at all."""
    temporary = path.with_name(path.name + ".part")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    temporary.replace(path)


async def ensure_home(layout: Layout, index: int) -> None:
    """Makes the home of a node and writes its owner's words down, unless it is there already.

    Raises:
        LocalError: `init` failed.
    """
    home = layout.home(index)
    if home.keystore.exists():
        return
    # The ceremony itself, not `lucid-node init` around it: it must not outlive us either.
    program = [sys.executable, "-P", "-m", "node.identity.ceremony", "init", "--json"]
    options = ["--home", str(home.root), "--passphrase-file", str(layout.passphrase)]
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        child = Child([*program, *options], get_environment(), output, errors)
        try:
            await child.ended.wait()
        finally:
            child.kill()
        output.seek(0)
        errors.seek(0)
        if child.returncode != 0:
            said = errors.read().decode(errors="replace").strip()
            raise LocalError(f"node {index} could not be set up in {home.root}: {said}")
        write_private(layout.words(index), json.loads(output.read())["recovery_phrase"] + "\n")


def read_peer_id(layout: Layout, index: int) -> str:
    """The peer ID of the node that lives in a home.

    Raises:
        LucidError: there is no keystore, or it is damaged.
    """
    return read_public(layout.home(index).keystore).peer_id


def get_environment() -> dict[str, str]:
    """What processes of a cluster run in: ours, without settings that were meant for one node."""
    return {name: value for name, value in os.environ.items() if not name.startswith("LUCID_")}
