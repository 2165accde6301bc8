"""Errors of commands reach whoever is still there to read them."""

import json
import sys

import click
import pytest

from kernel.errors import InvalidRecord, LucidError, NotFound, Reason, StoreFull, Unavailable, UsageError
from node.cli.errors import report


class ClosedTerminal:
    """A standard error whose terminal has gone."""

    def write(self, text: str) -> int:
        raise OSError(5, "Input/output error")

    def flush(self) -> None:
        raise OSError(5, "Input/output error")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StoreFull("full", hint="free some"), 1),
        (UsageError("what?"), 2),
        (InvalidRecord(Reason.WRONG_HASH, "changed"), 3),
        (NotFound("nothing"), 4),
        (Unavailable("no daemon"), 6),
    ],
)
def test_each_error_has_its_exit_code_and_its_words(
    error: LucidError, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report(error, as_json=True) == code
    told = json.loads(capsys.readouterr().err)["error"]
    assert told == {"code": type(error).__name__, "message": str(error), "hint": error.hint}
    assert report(error, as_json=False) == code
    assert str(error) in capsys.readouterr().err


def test_the_line_breaks_of_a_usage_error_are_no_escapes(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(click.UsageError("Missing. Choose from:\n\tbash,\n\tzsh"), as_json=False) == 2
    assert capsys.readouterr().err == "Error: Missing. Choose from: bash, zsh\n"


def test_a_closed_terminal_changes_no_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", ClosedTerminal())
    assert report(NotFound("nothing"), as_json=False) == 4
    assert sys.stderr is None
