"""The short-lived process that alone makes and re-encrypts keys: `python -m node.identity.ceremony`.

    init     owner root and device root → first grant list, head grant → keystore; shows the 24 words once
    restore  24 words and a new device root → a grant list that names this device alone, head grant → keystore
    change   the same keystore under another passphrase

The command line runs it as a child, so that it never holds a key itself. It writes no core dump, lets no
other process of the user look into its memory, and loads no network code. The owner root is shown, or taken
from its words, and forgotten.

Order of `init`: everything is on disk but nameless → the words are shown → the keystore gets its name. So a
keystore whose words nobody saw cannot exist; words whose keystore does not exist open nothing.

The grant list of `restore` has the Unix time as its sequence: higher than any before, without knowing it.
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
from kernel.head_grants import sign_head_grant
from kernel.keys import ROOT_BYTES, DeviceKeys, OwnerKeys
from kernel.ports import Entropy
from kernel.sealing import compute_x25519_public
from lucid.v1 import identity_pb2
from node.adapters import SystemClock, SystemEntropy
from node.cli.errors import get_exit_code, report_interrupt, show_error
from node.home import Home, check_initialised, check_private, find_home
from node.identity.keystore import (
    NodeIdentity,
    change_passphrase,
    create_keystore,
    describe_public,
    read_public,
)
from node.identity.phrase import decode_phrase, encode_phrase
from node.identity.secret_file import fsync_directory
from node.identity.unlock import ask_passphrase, ask_phrase, read_passphrase_file, read_phrase_file

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
    owner = OwnerKeys.from_root(owner_root)
    identity = _grant(owner, network, 1, device_root)
    words = encode_phrase(owner_root)
    create_keystore(
        home.keystore,
        passphrase,
        identity=identity,
        device_root=device_root,
        seal_keys={SEAL_INDEX: owner.seal(SEAL_INDEX)},
        entropy=entropy,
        before_name=lambda: _show(home, identity, words, as_json=as_json),
    )
    if not as_json:
        _say("\nThe node is ready. Start it with: lucid-node run")


def restore_node(
    home: Home,
    network: Network,
    phrase_file: Path | None,
    passphrase_file: Path | None,
    entropy: Entropy,
    now_s: int,
    *,
    as_json: bool,
) -> None:
    """Makes a new device of the owner whose words these are; lost devices are not granted anything any more.

    A keystore that was made from the same words is left as it is: a broken-off `restore` goes on with it.

    Args:
        home: where.
        network: that the node belongs to.
        phrase_file: holds the words; None asks for them.
        passphrase_file: holds the passphrase; None asks for it.
        entropy: for the device root.
        now_s: Unix seconds; the sequence of the grant list.
        as_json: print JSON.

    Raises:
        Conflict: there is a keystore of another owner, or others may write into the home.
        LucidError: words or passphrase cannot be had, or the disk failed; there is no keystore.
    """
    text = ask_phrase("Recovery words: ") if phrase_file is None else read_phrase_file(phrase_file)
    owner = OwnerKeys.from_root(decode_phrase(text))
    if os.path.lexists(home.keystore):
        _say_restored(home, _check_same_owner(home, owner), as_json=as_json)
        return
    prepare_home(home)
    passphrase = _get_passphrase(passphrase_file, "New passphrase: ", "--passphrase-file", twice=True)
    device_root = entropy.draw(ROOT_BYTES)
    identity = _grant(owner, network, now_s, device_root)
    create_keystore(
        home.keystore,
        passphrase,
        identity=identity,
        device_root=device_root,
        seal_keys={SEAL_INDEX: owner.seal(SEAL_INDEX)},
        entropy=entropy,
    )
    _say_restored(home, identity, as_json=as_json)


def _check_same_owner(home: Home, owner: OwnerKeys) -> NodeIdentity:
    check_private(home)
    identity = read_public(home.keystore)
    head_grant = identity.head_grant
    if head_grant is None or head_grant.public_key != owner.head_locator.public_key:
        hint = "Name another home with --home: a keystore is never overwritten."
        raise Conflict(f"there is a node in {home.root} already, and not of these words", hint=hint)
    return identity


def _say_restored(home: Home, identity: NodeIdentity, *, as_json: bool) -> None:
    facts = _get_facts(home, identity)
    _say(json.dumps(facts) if as_json else _describe(facts))


def _grant(owner: OwnerKeys, network: Network, sequence: int, device_root: bytes) -> NodeIdentity:
    """What the owner says of a new device: all roles, and that it writes heads."""
    device = DeviceKeys.from_root(device_root).identity.public_key
    roles = [identity_pb2.ROLE_RECORD, identity_pb2.ROLE_READ, identity_pb2.ROLE_WORK]
    grant = identity_pb2.Grant(device=device, roles=roles)
    seal_public_key = compute_x25519_public(owner.seal(SEAL_INDEX))
    grants = sign_grant_list(owner.identity, network, sequence, [grant], SEAL_INDEX, seal_public_key)
    return describe_public(network, device, grants, sign_head_grant(owner.head_locator, network, device))


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
    facts = _get_facts(home, identity)
    shown = f"{_describe(facts)}\n\n{_describe_words(words)}"
    text = json.dumps(facts | {"recovery_phrase": words}) if as_json else shown
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


def _get_facts(home: Home, identity: NodeIdentity) -> dict[str, str]:
    return {
        "peer_id": identity.peer_id,
        "owner_id": identity.owner_id,
        "network": identity.network.name,
        "home": str(home.root),
    }


def _describe(facts: dict[str, str]) -> str:
    return "\n".join(
        (
            f"Home      {facts['home']}",
            f"Network   {facts['network']}",
            f"Node ID   {facts['peer_id']}",
            f"Owner ID  {facts['owner_id']}",
        )
    )


def _describe_words(words: str) -> str:
    numbered = [f"{place:>4} {word:<10}" for place, word in enumerate(words.split(), start=1)]
    starts = range(0, len(numbered), _COLUMNS)
    rows = ["".join(numbered[start : start + _COLUMNS]).rstrip() for start in starts]
    return "\n".join(
        (
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
    restore = actions.add_parser("restore", allow_abbrev=False)
    restore.add_argument("--network", default="dev")
    restore.add_argument("--phrase-file", type=Path)
    restore.add_argument("--passphrase-file", type=Path)
    change = actions.add_parser("change", allow_abbrev=False)
    change.add_argument("--old-passphrase-file", type=Path)
    change.add_argument("--new-passphrase-file", type=Path)
    for action in (init, restore, change):
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
        elif options.action == "restore":
            network, now_s = get_network(options.network), SystemClock().wall_ns() // 10**9
            files = options.phrase_file, options.passphrase_file
            restore_node(home, network, *files, entropy, now_s, as_json=options.json)
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
