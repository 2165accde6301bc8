"""The short-lived process that alone makes and re-encrypts keys: `python -m node.identity.ceremony`.

    init    owner root and device root → first grant list → keystore; shows the 24 words once
    change  the same keystore under another passphrase

The command line runs it as a child, so that it never holds a key itself. It writes no core dump, lets no
other process of the user look into its memory, and loads no network code. The owner root is shown, forgotten.

Order of `init`: everything is on disk but nameless → the words are shown → the keystore gets its name. So a
keystore whose words nobody saw cannot exist; words whose keystore does not exist open nothing.
"""

import argparse
import ctypes
import json
import os
import resource
import sys
from collections.abc import Sequence
from pathlib import Path

from kernel.domains import Network, get_network
from kernel.errors import Conflict, LocalError, LucidError, StoreError
from kernel.grants import sign_grant_list
from kernel.keys import ROOT_BYTES, DeviceKeys, OwnerKeys
from kernel.ports import Entropy
from kernel.sealing import compute_x25519_public
from lucid.v1 import identity_pb2
from node.adapters import SystemEntropy
from node.cli.errors import get_exit_code, report_interrupt, show_error
from node.home import Home, check_initialised, check_private, find_home
from node.identity.keystore import (
    NodeIdentity,
    change_passphrase,
    create_keystore,
    describe_public,
    read_public,
)
from node.identity.phrase import encode_phrase
from node.identity.secret_file import fsync_directory
from node.identity.unlock import ask_passphrase, read_passphrase_file

SEAL_INDEX = 0
_PR_SET_DUMPABLE = 4
_COLUMNS = 4


def init_node(
    home: Home, network: Network, passphrase_file: Path | None, entropy: Entropy, *, as_json: bool
) -> None:
    """Makes an owner and the first device of that owner, and shows the recovery words.

    Raises:
        Conflict: there is a keystore already, or others may write into the home.
        LucidError: the passphrase cannot be had, or the disk failed; there is no keystore.
    """
    if os.path.lexists(home.keystore):
        hint = "Name another home with --home: a keystore is never overwritten."
        raise Conflict(f"there is a node in {home.root} already", hint=hint)
    prepare_home(home)
    passphrase = _get_passphrase(passphrase_file, "New passphrase: ", "--passphrase-file", twice=True)
    owner_root, device_root = entropy.draw(ROOT_BYTES), entropy.draw(ROOT_BYTES)
    owner, device = OwnerKeys.from_root(owner_root), DeviceKeys.from_root(device_root)
    roles = [identity_pb2.ROLE_RECORD, identity_pb2.ROLE_READ, identity_pb2.ROLE_WORK]
    grant = identity_pb2.Grant(device=device.identity.public_key, roles=roles)
    seal_key = owner.seal(SEAL_INDEX)
    seal_public_key = compute_x25519_public(seal_key)
    grants = sign_grant_list(owner.identity, network, 1, [grant], SEAL_INDEX, seal_public_key)
    identity = describe_public(network, device.identity.public_key, grants)
    words = encode_phrase(owner_root)
    create_keystore(
        home.keystore,
        passphrase,
        identity=identity,
        device_root=device_root,
        seal_keys={SEAL_INDEX: seal_key},
        entropy=entropy,
        before_name=lambda: _show(home, identity, words, as_json=as_json),
    )
    if not as_json:
        _say("\nThe node is ready. Start it with: lucid-node run")


def change_node_passphrase(
    home: Home, old_file: Path | None, new_file: Path | None, entropy: Entropy, *, as_json: bool
) -> None:
    """Puts the keystore of a home under another passphrase.

    Raises:
        NotFound: there is no node in the home.
        Locked: the old passphrase does not open the keystore.
        LucidError: a passphrase cannot be had, or the disk failed; the old passphrase goes on to hold.
    """
    check_initialised(home)
    check_private(home)
    identity = read_public(home.keystore)
    old = _get_passphrase(old_file, "Old passphrase: ", "--old-passphrase-file", twice=False)
    new = _get_passphrase(new_file, "New passphrase: ", "--new-passphrase-file", twice=True)
    change_passphrase(home.keystore, old, new, entropy)
    done = "The passphrase is changed. Copies of the old keystore still open with the old one."
    _say(json.dumps({"peer_id": identity.peer_id, "home": str(home.root)}) if as_json else done)


def prepare_home(home: Home) -> None:
    """Makes the home if it is missing, only for this user, durably.

    Raises:
        Conflict: it belongs to somebody else, or others may write into it.
        StoreError: it cannot be made.
    """
    try:
        missing = [path for path in (home.root, *home.root.parents) if not path.exists()]
        for path in reversed(missing):
            path.mkdir(0o700)
            fsync_directory(path.parent)
        if not home.root.is_dir():
            raise Conflict(f"{home.root} is no directory", hint="Name another home with --home.")
    except OSError as error:
        raise StoreError(f"the home {home.root} cannot be made: {error.strerror}") from error
    check_private(home)


def _get_passphrase(file: Path | None, prompt: str, option: str, *, twice: bool) -> bytes:
    return ask_passphrase(prompt, option, twice=twice) if file is None else read_passphrase_file(file)


def _show(home: Home, identity: NodeIdentity, words: str, *, as_json: bool) -> None:
    facts = {
        "peer_id": identity.peer_id,
        "owner_id": identity.owner_id,
        "network": identity.network.name,
        "home": str(home.root),
    }
    text = json.dumps(facts | {"recovery_phrase": words}) if as_json else _describe(facts, words)
    if not _say(text):
        message = "the recovery words could not be shown, so there is no keystore"
        raise LocalError(message, hint="Try again where the output can be read.")


def _say(text: str) -> bool:
    """Prints to standard output; False if that cannot be written. What is done is done, said or not."""
    try:
        print(text, flush=True)
    except OSError:
        # What is still buffered would fail again, louder, when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), sys.stdout.fileno())
        return False
    return True


def _describe(facts: dict[str, str], words: str) -> str:
    numbered = [f"{place:>4} {word:<10}" for place, word in enumerate(words.split(), start=1)]
    starts = range(0, len(numbered), _COLUMNS)
    rows = ["".join(numbered[start : start + _COLUMNS]).rstrip() for start in starts]
    return "\n".join(
        (
            f"Home      {facts['home']}",
            f"Network   {facts['network']}",
            f"Node ID   {facts['peer_id']}",
            f"Owner ID  {facts['owner_id']}",
            "",
            "These words are the owner of all that this node records. They are shown this once and stored",
            "nowhere. Write them on paper, and keep it apart from this machine: without them a lost node",
            "cannot be replaced; whoever has them can read and sign in your name.",
            "",
            *rows,
        )
    )


def _forbid_memory_dumps() -> None:
    """No core file, and no /proc/PID/mem for other processes of this user (prctl(2), core(5))."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise LocalError(f"prctl failed: {os.strerror(ctypes.get_errno())}")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="node.identity.ceremony", allow_abbrev=False)
    actions = parser.add_subparsers(dest="action", required=True)
    init = actions.add_parser("init", allow_abbrev=False)
    init.add_argument("--network", default="dev")
    init.add_argument("--passphrase-file", type=Path)
    change = actions.add_parser("change", allow_abbrev=False)
    change.add_argument("--old-passphrase-file", type=Path)
    change.add_argument("--new-passphrase-file", type=Path)
    for action in (init, change):
        action.add_argument("--home")
        action.add_argument("--json", action="store_true")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one ceremony; returns the exit code of the process."""
    options = _parse(arguments)
    entropy = SystemEntropy()
    try:
        _forbid_memory_dumps()
        home = find_home(options.home, os.environ)
        if options.action == "init":
            network = get_network(options.network)
            init_node(home, network, options.passphrase_file, entropy, as_json=options.json)
        else:
            files = options.old_passphrase_file, options.new_passphrase_file
            change_node_passphrase(home, *files, entropy, as_json=options.json)
    except LucidError as error:
        show_error(type(error).__name__, str(error), error.hint, as_json=options.json)
        return get_exit_code(error)
    except KeyboardInterrupt:
        return report_interrupt()
    return 0


if __name__ == "__main__":
    sys.exit(main())
