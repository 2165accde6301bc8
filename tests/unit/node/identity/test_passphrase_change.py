from pathlib import Path
from typing import Any

import pytest

from kernel.errors import Locked
from kernel.ports import Entropy
from lucid.v1.identity_pb2 import KeystoreFile
from node.identity.keystore import MAGIC, Argon2Cost, change_passphrase, open_keystore

CHEAP = Argon2Cost(memory_kib=8, passes=1)


def read_file(path: Path) -> KeystoreFile:
    return KeystoreFile.FromString(path.read_bytes()[len(MAGIC) : -32])


def test_changing_the_passphrase_changes_salt_nonce_and_ciphertext(
    tmp_path: Path, someone: Any, entropy: Entropy
) -> None:
    path = someone.create(tmp_path / "keystore")
    before, old = read_file(path), path.read_bytes()
    for _ in range(3):  # what making the keystore drew from an entropy that counts
        entropy.draw(1)
    change_passphrase(path, b"passphrase", b"other", entropy, CHEAP)
    after = read_file(path)
    assert before.public == after.public
    assert before.salt != after.salt and before.nonce != after.nonce
    opened = open_keystore(path, b"other")
    assert opened.seal_keys == {0: someone.owner.seal(0)}
    with pytest.raises(Locked):
        open_keystore(path, b"passphrase")
    assert path.read_bytes() != old


def test_a_change_with_the_wrong_passphrase_changes_nothing(
    tmp_path: Path, someone: Any, entropy: Entropy
) -> None:
    path = someone.create(tmp_path / "keystore")
    before = path.read_bytes()
    with pytest.raises(Locked):
        change_passphrase(path, b"wrong", b"other", entropy, CHEAP)
    assert path.read_bytes() == before


def test_a_change_makes_an_old_cheap_keystore_as_costly_as_a_new_one(
    tmp_path: Path, someone: Any, entropy: Entropy
) -> None:
    path = someone.create(tmp_path / "keystore")
    change_passphrase(path, b"passphrase", b"other", entropy)
    assert read_file(path).memory_kib == 65536
