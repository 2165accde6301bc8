import getpass
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from kernel.errors import NotFound, UsageError
from node.identity.unlock import ask_passphrase, get_passphrase, read_passphrase_file

Write = Callable[..., Path]


@pytest.fixture
def type_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """A terminal on which these lines are typed."""

    def type_in(*lines: str) -> None:
        typed = list(lines)
        real_open = os.open
        monkeypatch.setattr(
            os, "open", lambda path, _: real_open(path if path != "/dev/tty" else tmp_path, 0)
        )
        monkeypatch.setattr(getpass, "getpass", lambda _prompt: typed.pop(0))

    return type_in


@pytest.fixture
def no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(6, "No such device or address")

    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr(getpass, "getpass", lambda _prompt: pytest.fail("asked without a terminal"))


@pytest.mark.parametrize(
    ("contents", "expected"),
    [
        (b"secret\n", b"secret"),
        (b"secret", b"secret"),
        (b"secret\n\n", b"secret\n"),
        (b" secret \r\n", b" secret \r"),
        (b"\xff\x00", b"\xff\x00"),
        (b"x" * 4096 + b"\n", b"x" * 4096),
    ],
)
def test_a_file_gives_its_bytes_without_one_newline(
    passphrase_file: Write, contents: bytes, expected: bytes
) -> None:
    assert read_passphrase_file(passphrase_file(contents)) == expected


@pytest.mark.parametrize("contents", [b"", b"\n", b"x" * 4097, b"x" * 4098, b"x" * 100_000])
def test_an_empty_or_endless_file_is_refused(passphrase_file: Write, contents: bytes) -> None:
    with pytest.raises(UsageError):
        read_passphrase_file(passphrase_file(contents))


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o640, 0o620, 0o644, 0o666, 0o601])
def test_a_file_that_others_may_touch_is_refused(passphrase_file: Write, mode: int) -> None:
    path = passphrase_file(mode=mode)
    with pytest.raises(UsageError, match="others") as caught:
        read_passphrase_file(path)
    assert caught.value.hint == f"Run: chmod 600 {path}"
    assert "passphrase\n" not in str(caught.value)


def test_no_file_and_no_regular_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        read_passphrase_file(tmp_path / "missing")
    with pytest.raises(UsageError):
        read_passphrase_file(tmp_path)
    with pytest.raises(UsageError):
        read_passphrase_file(Path("/dev/zero"))


def test_file_then_credential_then_terminal(
    tmp_path: Path, passphrase_file: Write, type_in: Callable[..., None]
) -> None:
    file = passphrase_file(b"from the file\n")
    passphrase_file(b"from systemd\n", 0o440, name="passphrase")  # as an ACL for the service user shows
    credentials = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    type_in("typed")
    assert get_passphrase(file, credentials) == b"from the file"
    assert get_passphrase(None, credentials) == b"from systemd"
    assert get_passphrase(None, {"CREDENTIALS_DIRECTORY": str(tmp_path / "empty")}) == b"typed"
    with pytest.raises(NotFound):  # a file that was named and is missing is an error, not a reason to look on
        get_passphrase(tmp_path / "missing", credentials)


def test_a_credential_that_everybody_may_read_is_refused(tmp_path: Path, passphrase_file: Write) -> None:
    passphrase_file(mode=0o444, name="passphrase")
    with pytest.raises(UsageError, match="others"):
        get_passphrase(None, {"CREDENTIALS_DIRECTORY": str(tmp_path)})


def test_no_terminal_and_no_file_is_a_clear_error(no_terminal: None) -> None:
    with pytest.raises(UsageError, match="no terminal") as caught:
        get_passphrase(None, {})
    assert caught.value.hint == "Give --passphrase-file FILE."
    with pytest.raises(UsageError) as caught:
        ask_passphrase("Old: ", "--old-passphrase-file")
    assert caught.value.hint == "Give --old-passphrase-file FILE."


def test_typed_twice_must_be_typed_alike(type_in: Callable[..., None]) -> None:
    type_in("pässwörd", "pässwörd")
    assert ask_passphrase("", twice=True) == "pässwörd".encode()
    type_in("first", "second")
    with pytest.raises(UsageError, match="differ") as caught:
        ask_passphrase("", twice=True)
    assert "first" not in str(caught.value) and "second" not in str(caught.value)
    type_in("", "")
    with pytest.raises(UsageError, match="empty"):
        ask_passphrase("", twice=True)


def test_what_cannot_be_a_passphrase_is_refused(
    type_in: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    type_in("\udcff")
    with pytest.raises(UsageError, match="no passphrase"):
        ask_passphrase("")

    def end(_prompt: str) -> str:
        raise EOFError

    monkeypatch.setattr(getpass, "getpass", end)
    with pytest.raises(UsageError, match="no passphrase"):
        ask_passphrase("")
