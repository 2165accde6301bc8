import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from kernel.errors import Conflict
from kernel.grants import is_granted
from kernel.keys import OwnerKeys
from lucid.v1.identity_pb2 import ROLE_READ, ROLE_RECORD, ROLE_WORK
from node.home import Home
from node.identity import ceremony
from node.identity.keystore import open_keystore
from node.identity.phrase import decode_phrase

Write = Callable[..., Path]


@pytest.fixture(autouse=True)
def dumps_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceremony, "_forbid_memory_dumps", lambda: None)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def init(home: Home, file: Path, *options: str) -> int:
    return ceremony.main(["init", "--home", str(home.root), "--passphrase-file", str(file), *options])


def test_init_makes_an_owner_and_a_device_and_shows_the_words(
    home: Home, passphrase_file: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    assert init(home, passphrase_file(), "--json", "--network", "dev") == 0
    shown = json.loads(capsys.readouterr().out)
    assert sorted(shown) == ["home", "network", "owner_id", "peer_id", "recovery_phrase"]
    opened = open_keystore(home.keystore, b"passphrase")
    identity = opened.identity
    assert (shown["peer_id"], shown["owner_id"]) == (identity.peer_id, identity.owner_id)
    assert (shown["network"], shown["home"]) == ("dev", str(home.root))
    owner = OwnerKeys.from_root(decode_phrase(shown["recovery_phrase"]))
    assert owner.identity.public_key == identity.owner
    assert opened.seal_keys == {0: owner.seal(0)}
    assert identity.grant_list.sequence == 1
    assert all(
        is_granted(identity.grant_list, identity.device, role, 1 << 40)
        for role in (ROLE_RECORD, ROLE_READ, ROLE_WORK)
    )
    assert home.root.stat().st_mode & 0o777 == 0o700
    assert [entry.name for entry in home.root.iterdir()] == ["keystore"]


def test_the_words_for_people_are_numbered_and_complete(
    home: Home, passphrase_file: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    assert init(home, passphrase_file()) == 0
    text = capsys.readouterr().out
    pieces = [line.split() for line in text.splitlines() if line.startswith("  ")]
    numbered = [piece for line in pieces for piece in zip(line[::2], line[1::2], strict=True)]
    assert [number for number, _ in numbered] == [str(place) for place in range(1, 25)]
    owner = OwnerKeys.from_root(decode_phrase(" ".join(word for _, word in numbered)))
    identity = open_keystore(home.keystore, b"passphrase").identity
    assert owner.identity.public_key == identity.owner
    assert identity.peer_id in text and identity.owner_id in text


def test_two_inits_make_two_nodes(tmp_path: Path, passphrase_file: Write) -> None:
    file = passphrase_file()
    first, second = Home(tmp_path / "first"), Home(tmp_path / "second")
    assert init(first, file) == init(second, file) == 0
    one, two = (open_keystore(home.keystore, b"passphrase").identity for home in (first, second))
    assert one.owner != two.owner and one.device != two.device


def test_an_existing_keystore_is_refused_before_anything_is_asked(
    home: Home, tmp_path: Path, passphrase_file: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    assert init(home, passphrase_file()) == 0
    before = home.keystore.read_bytes()
    capsys.readouterr()
    assert init(home, tmp_path / "missing") == 1
    output = capsys.readouterr()
    assert "already" in output.err and "--home" in output.err and not output.out
    assert home.keystore.read_bytes() == before


def test_a_home_that_is_too_long_or_shared_is_refused(
    tmp_path: Path, home: Home, passphrase_file: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    file = passphrase_file()
    long = Home(tmp_path / ("n" * 107))
    assert init(long, file) == 2
    assert "107 bytes" in capsys.readouterr().err
    assert not long.root.exists()
    home.root.mkdir()
    for mode in (0o770, 0o702, 0o777):
        home.root.chmod(mode)
        assert init(home, file) == 1
        assert "others may write" in capsys.readouterr().err
    home.root.chmod(0o755)
    assert init(home, file) == 0


def test_a_home_that_is_a_file_or_cannot_be_made_is_refused(
    tmp_path: Path, home: Home, passphrase_file: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    home.root.write_bytes(b"")
    assert init(home, passphrase_file()) == 1
    assert "no directory" in capsys.readouterr().err
    assert init(Home(home.root / "below"), passphrase_file()) == 1
    assert init(Home(tmp_path / "a" / "b"), passphrase_file()) == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_home_of_somebody_else_is_refused(
    home: Home, passphrase_file: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    home.root.mkdir(0o700)
    os.chown(home.root, 12345, 12345)
    assert init(home, passphrase_file()) == 1
    assert "belongs to user 12345" in capsys.readouterr().err


def test_the_words_are_shown_before_the_keystore_has_its_name(
    home: Home, passphrase_file: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[bool] = []
    monkeypatch.setattr(ceremony, "_show", lambda *_, **__: shown.append(home.keystore.exists()))
    assert init(home, passphrase_file()) == 0
    assert shown == [False] and home.keystore.exists()


def test_change(home: Home, passphrase_file: Write, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = passphrase_file(), passphrase_file(b"another", name="new")
    files = ["--old-passphrase-file", str(old), "--new-passphrase-file", str(new)]
    arguments = ["change", "--home", str(home.root), "--json", *files]
    assert ceremony.main(arguments) == 4
    assert "no node" in capsys.readouterr().err
    assert init(home, old) == 0
    capsys.readouterr()
    assert ceremony.main(arguments) == 0
    identity = open_keystore(home.keystore, b"another").identity
    assert json.loads(capsys.readouterr().out) == {"peer_id": identity.peer_id, "home": str(home.root)}
    assert ceremony.main(arguments) == 1  # the old one is the old one no more
    error = capsys.readouterr().err
    assert "does not open" in error and "another" not in error
    assert open_keystore(home.keystore, b"another").identity == identity


def test_change_refuses_a_shared_home(
    home: Home, passphrase_file: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    file = passphrase_file()
    assert init(home, file) == 0
    home.root.chmod(0o777)
    files = ["--old-passphrase-file", str(file), "--new-passphrase-file", str(file)]
    assert ceremony.main(["change", "--home", str(home.root), *files]) == 1
    assert "others may write" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["burn"], ["init", "--pass", "x"], ["change", "--x"]])
def test_bad_usage_exits_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        ceremony.main(arguments)
    assert caught.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_an_unknown_network_is_refused_before_anything_is_made(
    home: Home, passphrase_file: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    assert init(home, passphrase_file(), "--network", "moon") == 2
    assert "no network 'moon'" in capsys.readouterr().err
    assert not home.root.exists()


def test_a_damaged_keystore_fails_verification(
    home: Home, passphrase_file: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    file = passphrase_file()
    assert init(home, file) == 0
    home.keystore.write_bytes(home.keystore.read_bytes()[:-1])
    files = ["--old-passphrase-file", str(file), "--new-passphrase-file", str(file)]
    assert ceremony.main(["change", "--home", str(home.root), *files]) == 3
    assert "checksum" in capsys.readouterr().err


def test_prepare_home_keeps_a_private_home_as_it_is(home: Home) -> None:
    ceremony.prepare_home(home)
    (home.root / "lucid.toml").write_text("")
    ceremony.prepare_home(home)
    assert [entry.name for entry in home.root.iterdir()] == ["lucid.toml"]
    home.root.chmod(0o720)
    with pytest.raises(Conflict):
        ceremony.prepare_home(home)
