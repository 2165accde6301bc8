import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st
from nacl.exceptions import RuntimeError as SodiumError

from kernel.domains import Network
from kernel.errors import (
    Conflict,
    InvalidRecord,
    LocalError,
    Locked,
    NotFound,
    StoreDamaged,
    StoreFull,
    StoreTooNew,
    UsageError,
)
from kernel.grants import sign_grant_list
from kernel.keys import OwnerKeys
from kernel.ports import Entropy
from lucid.v1.identity_pb2 import (
    ROLE_READ,
    ROLE_RECORD,
    ROLE_WORK,
    Grant,
    KeystoreFile,
    KeystorePublic,
    KeystoreSecret,
    Signed,
)
from node.identity import keystore
from node.identity.keystore import (
    MAGIC,
    MAX_FILE_BYTES,
    Argon2Cost,
    change_passphrase,
    create_keystore,
    describe_public,
    open_keystore,
    read_public,
)

CHEAP = Argon2Cost(memory_kib=8, passes=1)
REFUSALS = (Locked, StoreDamaged, StoreTooNew)


def write_raw(path: Path, body: bytes) -> Path:
    """A file with a good checksum around any body: what somebody can write who knows the format."""
    path.write_bytes(MAGIC + body + blake3(MAGIC + body).digest())
    return path


def read_file(path: Path) -> KeystoreFile:
    return KeystoreFile.FromString(path.read_bytes()[len(MAGIC) : -32])


def rewrite(path: Path, **changes: Any) -> Path:
    file = read_file(path)
    for name, value in changes.items():
        setattr(file, name, value)
    return write_raw(path, file.SerializeToString(deterministic=True))


@pytest.fixture(scope="session")
def golden(load_vectors: Callable[[str], Any]) -> bytes:
    return bytes.fromhex(load_vectors("identity")["keystore"]["file"])


@pytest.fixture
def no_argon2(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> bytes:
        pytest.fail("Argon2 was run")

    monkeypatch.setattr("nacl.bindings.crypto_pwhash_alg", refuse)


def test_what_goes_in_comes_out(tmp_path: Path, someone: Any) -> None:
    path = someone.create(tmp_path / "keystore")
    opened = open_keystore(path, b"passphrase")
    assert opened.identity == read_public(path) == someone.identity
    assert opened.device.identity.public_key == someone.identity.device
    assert opened.seal_keys == {0: someone.owner.seal(0)}
    assert opened.identity.peer_id.startswith("12D3KooW")
    assert opened.identity.owner_id == someone.owner.identity.public_key.hex()
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_default_cost_is_64_mib_and_3_passes(tmp_path: Path, someone: Any) -> None:
    path = someone.create(tmp_path / "keystore", cost=None)
    file = read_file(path)
    assert (file.memory_kib, file.passes) == (65536, 3)
    assert open_keystore(path, b"passphrase").identity == someone.identity


def test_vector(tmp_path: Path, load_vectors: Callable[[str], Any]) -> None:
    vector = load_vectors("identity")["keystore"]
    passphrase, device_root = bytes.fromhex(vector["passphrase"]), bytes.fromhex(vector["device_root"])
    golden = tmp_path / "golden"
    golden.write_bytes(bytes.fromhex(vector["file"]))
    opened = open_keystore(golden, passphrase)
    seal_keys = {int(index): bytes.fromhex(key) for index, key in vector["seal_keys"].items()}
    assert opened.seal_keys == seal_keys
    assert opened.identity.grants == Signed.FromString(bytes.fromhex(vector["grants"]))

    class Scripted:
        def __init__(self) -> None:
            self.draws = [bytes.fromhex(vector["salt"]), bytes.fromhex(vector["nonce"]), bytes(8)]

        def draw(self, size_bytes: int) -> bytes:
            drawn = self.draws.pop(0)
            assert len(drawn) == size_bytes
            return drawn

    again = tmp_path / "again"
    create_keystore(
        again,
        passphrase,
        identity=opened.identity,
        device_root=device_root,
        seal_keys=seal_keys,
        entropy=Scripted(),
    )
    assert again.read_bytes() == golden.read_bytes()


def test_a_wrong_passphrase_is_locked_and_says_nothing_of_it(tmp_path: Path, someone: Any) -> None:
    path = someone.create(tmp_path / "keystore")
    for wrong in (b"passphrasE", b"passphrase\n", b"\0", bytes(4096)):
        with pytest.raises(Locked) as caught:
            open_keystore(path, wrong)
        assert wrong.decode() not in f"{caught.value} {caught.value.hint}"
        assert "altered" in caught.value.hint


def test_no_secret_is_in_the_file_or_in_text_forms(tmp_path: Path, someone: Any) -> None:
    path = someone.create(tmp_path / "keystore")
    text = repr(open_keystore(path, b"passphrase"))
    for secret in (someone.device_root, someone.owner.seal(0), b"passphrase"):
        assert secret not in path.read_bytes()
        assert secret.hex() not in text and repr(secret) not in text


def test_every_flipped_bit_is_damage_found_before_argon2(
    tmp_path: Path, golden: bytes, no_argon2: None
) -> None:
    path = tmp_path / "keystore"
    contents = bytearray(golden)
    for bit in range(8 * len(contents)):
        contents[bit // 8] ^= 1 << bit % 8
        path.write_bytes(contents)
        with pytest.raises(StoreDamaged):
            open_keystore(path, b"passphrase")
        contents[bit // 8] ^= 1 << bit % 8


def test_every_flipped_bit_is_refused_even_with_the_checksum_remade(tmp_path: Path, someone: Any) -> None:
    path = someone.create(tmp_path / "keystore")
    body = bytearray(path.read_bytes()[len(MAGIC) : -32])
    for bit in range(8 * len(body)):
        body[bit // 8] ^= 1 << bit % 8
        with pytest.raises(REFUSALS):
            open_keystore(write_raw(path, bytes(body)), b"passphrase")
        body[bit // 8] ^= 1 << bit % 8
    open_keystore(write_raw(path, bytes(body)), b"passphrase")


def test_every_truncation_is_damage(tmp_path: Path, golden: bytes, no_argon2: None) -> None:
    path = tmp_path / "keystore"
    for size in range(len(golden)):
        path.write_bytes(golden[:size])
        with pytest.raises(StoreDamaged):
            open_keystore(path, b"passphrase")


@pytest.mark.parametrize(
    "changes",
    [
        {"memory_kib": 0},
        {"memory_kib": 7},
        {"memory_kib": (256 << 10) + 1},
        {"memory_kib": 4294967295},
        {"passes": 0},
        {"passes": 17},
        {"passes": 4294967295},
        {"salt": b""},
        {"salt": bytes(15)},
        {"salt": bytes(17)},
        {"version": 0},
    ],
)
def test_a_hostile_file_gets_neither_memory_nor_time(
    tmp_path: Path, golden: bytes, changes: dict[str, Any], no_argon2: None
) -> None:
    path = tmp_path / "keystore"
    path.write_bytes(golden)
    rewrite(path, **changes)
    with pytest.raises(StoreDamaged):
        open_keystore(path, b"passphrase")


@pytest.mark.parametrize("changes", [{"nonce": bytes(12)}, {"ciphertext": bytes(15)}, {"ciphertext": b""}])
def test_impossible_lengths_of_what_is_decrypted_are_damage(
    tmp_path: Path, someone: Any, changes: dict[str, Any]
) -> None:
    path = rewrite(someone.create(tmp_path / "keystore"), **changes)
    with pytest.raises(StoreDamaged):
        open_keystore(path, b"passphrase")


def test_a_newer_version_is_refused_with_a_clear_word(tmp_path: Path, someone: Any) -> None:
    path = rewrite(someone.create(tmp_path / "keystore"), version=2)
    with pytest.raises(StoreTooNew, match="version 2, known is 1") as caught:
        open_keystore(path, b"passphrase")
    assert "newer" in caught.value.hint


def test_a_network_that_is_not_known_is_named(tmp_path: Path, someone: Any) -> None:
    path = someone.create(tmp_path / "keystore")
    file = read_file(path)
    file.public.network = "moon"
    with pytest.raises(StoreTooNew, match="moon"):
        read_public(write_raw(path, file.SerializeToString(deterministic=True)))
    file.public.network = "m" * 65
    with pytest.raises(StoreDamaged):
        read_public(write_raw(path, file.SerializeToString(deterministic=True)))


def test_only_the_canonical_encoding_is_taken(tmp_path: Path, golden: bytes, no_argon2: None) -> None:
    path = tmp_path / "keystore"
    body = golden[len(MAGIC) : -32]
    unknown_field, empty_field = b"\xfa\x06\x01x", b"\x28\x03"
    overlong_version = b"\x08\x81\x00" + body[2:]
    for other in (body + unknown_field, unknown_field + body, body + empty_field, overlong_version):
        with pytest.raises(StoreDamaged, match="canonical"):
            read_public(write_raw(path, other))


def test_a_public_part_put_together_from_two_nodes_is_refused(
    tmp_path: Path, someone: Any, stranger: Any
) -> None:
    path = someone.create(tmp_path / "keystore")
    ours, theirs = read_file(path), read_file(stranger.create(tmp_path / "other"))
    swapped = KeystoreFile()
    swapped.CopyFrom(ours)
    swapped.public.owner = theirs.public.owner
    with pytest.raises(StoreDamaged, match="another owner"):
        read_public(write_raw(path, swapped.SerializeToString(deterministic=True)))
    swapped.public.grants.CopyFrom(theirs.public.grants)  # consistent, but not what was encrypted
    write_raw(path, swapped.SerializeToString(deterministic=True))
    assert read_public(path).owner == stranger.identity.owner
    with pytest.raises(Locked):
        open_keystore(path, b"passphrase")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("device_root", bytes(32), "another device"),
        ("device_root", bytes(31), "impossible length"),
        ("seal_keys", {0: bytes(32)}, "another seal key"),
        ("seal_keys", {5: bytes(31)}, "impossible length"),
    ],
)
def test_secrets_that_do_not_fit_the_public_part_are_damage(
    tmp_path: Path, someone: Any, entropy: Entropy, name: str, value: Any, message: str
) -> None:
    """Only somebody who knows the passphrase can make such a file, or a mistake of ours."""
    path = someone.create(tmp_path / "keystore")
    fields: dict[str, Any] = {"device_root": someone.device_root, "seal_keys": {0: someone.owner.seal(0)}}
    secret = KeystoreSecret(**(fields | {name: value}))
    public = KeystorePublic()
    public.CopyFrom(read_file(path).public)
    path.write_bytes(keystore._encrypt(public, secret, b"passphrase", entropy, CHEAP))
    with pytest.raises(StoreDamaged, match=message):
        open_keystore(path, b"passphrase")


def test_a_file_of_another_kind_is_no_keystore(tmp_path: Path) -> None:
    path = tmp_path / "keystore"
    with pytest.raises(NotFound, match="does not exist") as caught:
        open_keystore(path, b"passphrase")
    assert "init" in caught.value.hint
    for contents in (b"", b"x", bytes(1000), b"LUCIDKEY", MAGIC + bytes(32)):
        path.write_bytes(contents)
        with pytest.raises(StoreDamaged):
            read_public(path)
    with path.open("wb") as file:
        file.truncate(10 << 30)
    with pytest.raises(StoreDamaged, match=f"longer than {MAX_FILE_BYTES}"):
        read_public(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(StoreDamaged, match="no regular file"):
        read_public(path)


def test_an_existing_keystore_is_left_alone(tmp_path: Path, someone: Any, stranger: Any) -> None:
    path = someone.create(tmp_path / "keystore")
    before = path.read_bytes()
    with pytest.raises(Conflict):
        stranger.create(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("passphrase", [b"", bytes(4097)])
def test_passphrases_are_bounded(tmp_path: Path, someone: Any, passphrase: bytes, entropy: Entropy) -> None:
    with pytest.raises(UsageError):
        someone.create(tmp_path / "new", passphrase)
    assert not (tmp_path / "new").exists()
    path = someone.create(tmp_path / "keystore")
    with pytest.raises(UsageError):
        open_keystore(path, passphrase)
    with pytest.raises(UsageError):
        change_passphrase(path, b"passphrase", passphrase, entropy, CHEAP)
    assert open_keystore(path, b"passphrase").identity == someone.identity


@pytest.mark.parametrize("passphrase", [b"x", bytes(4096), b"\xff\xfe", "pässwörd".encode(), b"a\nb"])
def test_a_passphrase_is_any_bytes(tmp_path: Path, someone: Any, passphrase: bytes) -> None:
    path = someone.create(tmp_path / "keystore", passphrase)
    assert open_keystore(path, passphrase).identity == someone.identity


def test_a_full_disk_leaves_the_old_keystore(
    tmp_path: Path, someone: Any, entropy: Entropy, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = someone.create(tmp_path / "keystore")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(StoreFull):
            change_passphrase(path, b"passphrase", b"other", entropy, CHEAP)
        with pytest.raises(StoreFull):
            someone.create(tmp_path / "second")
    assert open_keystore(path, b"passphrase").identity == someone.identity
    assert [entry.name for entry in tmp_path.iterdir()] == ["keystore"]


def test_no_memory_for_argon2_is_said(tmp_path: Path, someone: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = someone.create(tmp_path / "keystore")

    def fail(*_: object) -> bytes:
        raise SodiumError("Unexpected failure in key derivation")

    monkeypatch.setattr("nacl.bindings.crypto_pwhash_alg", fail)
    with pytest.raises(LocalError, match="no memory for Argon2id: it takes 8 KiB"):
        open_keystore(path, b"passphrase")


@pytest.mark.parametrize(("memory_kib", "passes"), [(7, 1), (8, 0), (262145, 1), (8, 17)])
def test_a_cost_out_of_bounds_cannot_be_made(memory_kib: int, passes: int) -> None:
    with pytest.raises(ValueError, match="Argon2"):
        Argon2Cost(memory_kib, passes)


def test_a_grant_list_of_another_network_or_a_device_key_of_another_length_is_refused(someone: Any) -> None:
    with pytest.raises(InvalidRecord):
        describe_public(Network("other", bytes(32)), someone.identity.device, someone.identity.grants)
    with pytest.raises(InvalidRecord):
        describe_public(someone.identity.network, bytes(31), someone.identity.grants)


def test_the_largest_grant_list_fits(tmp_path: Path, someone: Any) -> None:
    owner = OwnerKeys.from_root(bytes(32))
    roles = [ROLE_RECORD, ROLE_READ, ROLE_WORK]
    grants = [Grant(device=n.to_bytes(32, "big"), roles=roles, until_s=1 << 62) for n in range(256)]
    signed = sign_grant_list(owner.identity, someone.identity.network, 1, grants, 7, bytes([9]) * 32)
    identity = describe_public(someone.identity.network, someone.identity.device, signed)
    path = someone.create(tmp_path / "keystore", identity=identity, seal_keys={})
    assert open_keystore(path, b"passphrase").identity == identity


@given(st.binary(max_size=300))
def test_no_bytes_whatever_raise_anything_else(tmp_path_factory: pytest.TempPathFactory, body: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "keystore-of-any-bytes"
    with pytest.raises(REFUSALS):
        open_keystore(write_raw(path, body), b"passphrase")
