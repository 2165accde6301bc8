"""Commands that documents tell people to type exist, with the options that are shown."""

import re
import shlex

import click
import pytest

FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
# Shown in documents as what the reader fills in.
PLACEHOLDER = re.compile(r"[\[\]{}|…<>]")


def find_commands(text: str, program: str = "lucid-node") -> list[list[str]]:
    """Words behind the name of a program in code spans and at the start of lines of fenced blocks."""
    lines = re.findall(rf"`{program} ([^`\n]+)`", FENCE.sub("", text))
    lines += re.findall(rf"^\s*\$?\s*{program} (.+)$", "\n".join(FENCE.findall(text)), re.M)
    return [
        shlex.split(PLACEHOLDER.sub(" ", line.replace("\\", " ").replace("'", " ")), comments=True)
        for line in lines
    ]


def explain_unknown(command: click.Command, words: list[str]) -> str | None:
    """What `command` does not know of `words`; None if it knows all of it."""
    context = click.Context(command)
    options = {name for parameter in command.get_params(context) for name in parameter.opts}
    for position, word in enumerate(words):
        if word == "--":
            return None
        if word.startswith("--") and word.partition("=")[0] not in options:
            return f"{command.name} has no option {word}"
        if isinstance(command, click.Group) and re.fullmatch(r"[a-z][a-z-]*", word):
            inner = command.get_command(context, word)
            if inner is not None:
                return explain_unknown(inner, words[position + 1 :])
            if position == 0 or words[position - 1].partition("=")[0] not in options:
                return f"{command.name} has no command {word}"
    return None


@pytest.fixture(scope="module")
def program() -> click.Command:
    from node.cli.groups import root

    return root


def test_commands_are_seen() -> None:
    text = (
        "say `lucid-node status --json` or\n```\n$ lucid-node session verify ID # why\n```\nlucid-node runs"
    )
    assert find_commands(text) == [["status", "--json"], ["session", "verify", "ID"]]


def test_what_is_unknown_is_seen() -> None:
    leaf = click.Command("leaf", params=[click.Option(["--good"]), click.Argument(["name"])])
    tree = click.Group("tree", commands={"leaf": leaf}, params=[click.Option(["--home"])])
    assert explain_unknown(tree, ["--home", "place", "leaf", "--good", "x", "name"]) is None
    assert explain_unknown(tree, ["leaf", "--bad"]) == "leaf has no option --bad"
    assert explain_unknown(tree, ["stem"]) == "tree has no command stem"


def test_documents_show_commands_that_exist(documents: dict[str, str], program: click.Command) -> None:
    shown = {(path, tuple(words)) for path, text in documents.items() for words in find_commands(text)}
    assert len(shown) > 10
    wrong = {(path, problem) for path, words in shown if (problem := explain_unknown(program, list(words)))}
    assert wrong == set()


def test_documents_show_commands_of_simnet_that_exist(documents: dict[str, str]) -> None:
    from simnet.commands import root

    shown = {
        (path, tuple(words))
        for path, text in documents.items()
        for words in find_commands(text, "lucid-simnet")
    }
    assert len(shown) > 5
    wrong = {(path, problem) for path, words in shown if (problem := explain_unknown(root, list(words)))}
    assert wrong == set()
