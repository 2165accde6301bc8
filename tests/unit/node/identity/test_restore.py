"""The ceremony that makes a new device from the recovery words."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from kernel.domains import NETWORKS, Domain
from kernel.errors import InvalidRecord, StoreDamaged
from kernel.grants import is_granted
from kernel.head_grants import sign_head_grant, verify_head_grant
from kernel.keys import OwnerKeys
from kernel.signing import SigningKey
from lucid.v1 import identity_pb2
from node.home import Home
from node.identity import ceremony
from node.identity.keystore import open_keystore, read_public
from node.identity.phrase import decode_phrase, encode_phrase

Write = Callable[..., Path]
DEV = NETWORKS["dev"]
WORDS = encode_phrase(bytes(range(32)))


@pytest.fixture(autouse=True)
def dumps_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceremony, "_forbid_memory_dumps", lambda: None)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def phrase_file(passphrase_file: Write) -> Write:
    def write(text: str = WORDS, mode: int = 0o600) -> Path:
        return passphrase_file(text.encode(), mode, "words")

    return write


def restore(home: Home, words: Path, passphrase: Path, *options: str) -> int:
    files = ["--phrase-file", str(words), "--passphrase-file", str(passphrase)]
    return ceremony.main(["restore", "--home", str(home.root), *files, *options])


def test_a_new_device_of_the_same_owner_alone_is_granted(
    home: Home, tmp_path: Path, passphrase_file: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    old = Home(tmp_path / "old")
    options = ["--home", str(old.root), "--passphrase-file", str(passphrase_file()), "--json"]
    assert ceremony.main(["init", *options]) == 0
    words = json.loads(capsys.readouterr().out)["recovery_phrase"]
    spaced = "\n".join(words.upper().split())
    assert restore(home, passphrase_file(spaced.encode(), 0o600, "words"), passphrase_file(), "--json") == 0
    output = capsys.readouterr()
    before, opened = read_public(old.keystore), open_keystore(home.keystore, b"passphrase")
    after = opened.identity
    assert (after.owner, after.network) == (before.owner, before.network) and after.device != before.device
    assert json.loads(output.out)["peer_id"] == after.peer_id
    owner = OwnerKeys.from_root(decode_phrase(words))
    assert opened.seal_keys == {0: owner.seal(0)}
    assert after.grant_list.sequence > before.grant_list.sequence
    assert is_granted(after.grant_list, after.device, identity_pb2.ROLE_RECORD, 1 << 40)
    assert not is_granted(after.grant_list, before.device, identity_pb2.ROLE_RECORD, 1 << 40)
    for identity in (before, after):
        assert identity.head_grant is not None
        locator = owner.head_locator.public_key
        verify_head_grant(identity.head_grant, DEV, locator=locator, device=identity.device)
    assert not any(word in output.out + output.err for word in words.split() if len(word) > 5)


def test_a_broken_off_restore_goes_on_with_its_keystore(
    home: Home, phrase_file: Write, passphrase_file: Write
) -> None:
    assert restore(home, phrase_file(), passphrase_file()) == 0
    before = home.keystore.read_bytes()
    assert restore(home, phrase_file(), home.root / "not there") == 0
    assert home.keystore.read_bytes() == before


def test_a_keystore_of_other_words_is_left_alone(
    home: Home, phrase_file: Write, passphrase_file: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    assert restore(home, phrase_file(), passphrase_file()) == 0
    before = home.keystore.read_bytes()
    assert restore(home, phrase_file(encode_phrase(b"x" * 32)), passphrase_file()) == 1
    assert "not of these words" in capsys.readouterr().err
    assert home.keystore.read_bytes() == before


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (" ".join(WORDS.split()[:23]), "24 words"),
        (WORDS.replace("abandon", "abandom", 1), "number 1"),
        (" ".join(reversed(WORDS.split())), "checksum"),
        ("é" + WORDS, "something else than words"),
        (WORDS + " " * 1000, "longer than"),
        ("", "24 words"),
    ],
)
def test_wrong_words_are_told_of_by_their_places(
    home: Home,
    phrase_file: Write,
    passphrase_file: Write,
    text: str,
    complaint: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert restore(home, phrase_file(text), passphrase_file()) == 2
    output = capsys.readouterr()
    assert complaint in output.err and not output.out
    assert not any(word in output.err.split() for word in text.split())
    assert not home.root.exists()


def test_words_that_others_may_read_are_refused(
    home: Home, phrase_file: Write, passphrase_file: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    assert restore(home, phrase_file(mode=0o644), passphrase_file()) == 2
    assert "others may read the recovery words" in capsys.readouterr().err


def test_words_that_are_not_there(
    home: Home, tmp_path: Path, passphrase_file: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    assert restore(home, tmp_path / "missing", passphrase_file()) == 4
    assert "does not exist" in capsys.readouterr().err


def test_a_head_grant_counts_for_its_locator_and_device_alone() -> None:
    locator = SigningKey.from_seed(b"l" * 32)
    grant = sign_head_grant(locator, DEV, b"d" * 32)
    assert verify_head_grant(grant, DEV).device == b"d" * 32
    bad = identity_pb2.Signed()
    bad.CopyFrom(grant)
    bad.signature = bytes(64)
    stranger = sign_head_grant(SigningKey.from_seed(b"s" * 32), DEV, b"d" * 32)
    forged = locator.sign(Domain.HEAD_GRANT, DEV, stranger.payload)
    for signed, expected in (
        (bad, {}),
        (stranger, {"locator": locator.public_key}),
        (grant, {"device": b"e" * 32}),
        (forged, {}),
        (sign_head_grant(locator, DEV, b"short"), {}),
        (sign_head_grant(locator, DEV, b"d" * 200), {}),
    ):
        with pytest.raises(InvalidRecord):
            verify_head_grant(signed, DEV, **expected)


def test_a_keystore_with_another_device_s_head_grant_is_refused(tmp_path: Path, someone: object) -> None:
    grant = sign_head_grant(SigningKey.from_seed(b"l" * 32), DEV, b"d" * 32)
    identity = someone.identity  # type: ignore[attr-defined]
    changed = dataclasses.replace(identity, head_grant=grant)
    path = someone.create(tmp_path / "keystore", identity=changed)  # type: ignore[attr-defined]
    with pytest.raises(StoreDamaged, match="another device"):
        read_public(path)
