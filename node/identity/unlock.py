"""Where a passphrase comes from: a file, a systemd credential, or a terminal. Never from argv or a variable.

Recovery words come from a file or a terminal. The bytes of a passphrase are taken as they are, without one
trailing newline of a file; no Unicode normalisation. What was typed is encoded as UTF-8.
"""

import getpass
import os
from collections.abc import Mapping
from pathlib import Path

from kernel.errors import UsageError
from node.identity.keystore import MAX_PASSPHRASE_BYTES, check_passphrase
from node.identity.secret_file import read_regular_file

CREDENTIAL = "passphrase"
MAX_PHRASE_BYTES = 1024


def get_passphrase(file: Path | None, environment: Mapping[str, str]) -> bytes:
    """The passphrase that opens the keystore for a running node.

    Args:
        file: what the user named; wins if given.
        environment: of the process; `CREDENTIALS_DIRECTORY` is where systemd puts credentials.

    Raises:
        LucidError: there is no way to get it, or what is there cannot be a passphrase.
    """
    if file is not None:
        return read_passphrase_file(file)
    directory = environment.get("CREDENTIALS_DIRECTORY")
    if directory:
        credential = Path(directory) / CREDENTIAL
        if credential.exists():
            # systemd lets a service user in by an ACL, which shows as a permission of the group.
            return read_passphrase_file(credential, forbidden_mode=0o007)
    return ask_passphrase("Passphrase: ")


def read_passphrase_file(path: Path, *, forbidden_mode: int = 0o077) -> bytes:
    """The contents of a file that only its owner may read, without one trailing newline.

    Raises:
        NotFound: there is no such file.
        UsageError: it is no regular file, readable by others, empty or too long.
        StoreError: it cannot be read.
    """
    contents = _read_secret(path, MAX_PASSPHRASE_BYTES + 1, "passphrase", forbidden_mode)
    passphrase = contents.removesuffix(b"\n")
    check_passphrase(passphrase)
    return passphrase


def read_phrase_file(path: Path) -> str:
    """The recovery words in a file that only its owner may read; their form is not checked.

    Raises:
        NotFound: there is no such file.
        UsageError: it is no regular file, readable by others, too long, or no text.
        StoreError: it cannot be read.
    """
    try:
        return _read_secret(path, MAX_PHRASE_BYTES, "recovery words", 0o077).decode("ascii")
    except UnicodeDecodeError:
        raise UsageError(f"{path} holds something else than words of the English list") from None


def _read_secret(path: Path, max_bytes: int, what: str, forbidden_mode: int) -> bytes:
    contents, mode = read_regular_file(path, max_bytes)
    if mode & forbidden_mode:
        raise UsageError(f"others may read the {what} in {path}", hint=f"Run: chmod 600 {path}")
    return contents


def ask_passphrase(prompt: str, option: str = "--passphrase-file", *, twice: bool = False) -> bytes:
    """Asks on the terminal of this process, without echo.

    Args:
        prompt: what to ask.
        option: where else to give the passphrase, for the hint.
        twice: ask again, and compare.

    Raises:
        UsageError: there is no terminal, the passphrase is empty, or the second one differs.
    """
    _check_terminal("passphrase", option)
    try:
        passphrase = getpass.getpass(prompt).encode()
        again = getpass.getpass("Again: ").encode() if twice else passphrase
    except (EOFError, UnicodeError) as error:
        raise UsageError("what was typed is no passphrase") from error
    check_passphrase(passphrase)
    if again != passphrase:
        raise UsageError("the two passphrases differ", hint="Nothing was changed; try again.")
    return passphrase


def ask_phrase(prompt: str, option: str = "--phrase-file") -> str:
    """Asks for the recovery words on the terminal of this process, all on one line, without echo.

    Raises:
        UsageError: there is no terminal, or what was typed is no text.
    """
    _check_terminal("recovery words", option)
    try:
        return getpass.getpass(prompt)
    except (EOFError, UnicodeError) as error:
        raise UsageError("what was typed is no text") from error


def _check_terminal(what: str, option: str) -> None:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR))  # getpass would fall back to standard input, with echo
    except OSError as error:
        raise UsageError(
            f"there is no terminal to ask for the {what}", hint=f"Give {option} FILE."
        ) from error
