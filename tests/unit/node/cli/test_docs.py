import importlib.util
from pathlib import Path

import click

from node.cli.fields import COMMAND_FIELDS
from node.cli.groups import COMMANDS, root

ROOT = Path(__file__).parents[4]
SPEC = importlib.util.spec_from_file_location("cli_docs", ROOT / "scripts" / "cli_docs.py")
assert SPEC is not None
assert SPEC.loader is not None
cli_docs = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(cli_docs)

WITHOUT_DOCUMENT = {"run", "session play", "completion"}


def list_commands() -> dict[str, click.Command]:
    return dict(cli_docs.iter_commands(root, click.Context(root), ""))


def test_the_reference_is_what_the_commands_say() -> None:
    assert (ROOT / "docs" / "cli.md").read_text() == cli_docs.make_document(), "run scripts/cli_docs.py"


def test_every_command_of_the_table_is_there_with_its_help() -> None:
    commands = list_commands()
    for name, entry in COMMANDS.items():
        entries = entry.items() if isinstance(entry, dict) else [("", entry)]
        for part, (_, help_line) in entries:
            assert commands[f"{name} {part}".strip()].help == help_line


def test_every_command_takes_home_and_json() -> None:
    for name, command in list_commands().items():
        if name not in ("completion", "verify bundle"):  # these need no home
            assert {"home", "as_json"} <= {option.name for option in command.params}, name


def test_every_command_has_its_fields() -> None:
    documented = {name.removesuffix(" --resume").removesuffix(" --remote") for name in COMMAND_FIELDS}
    assert documented | WITHOUT_DOCUMENT == set(list_commands())


def test_every_option_says_what_it_is_for() -> None:
    for name, command in list_commands().items():
        for option in command.params:
            if isinstance(option, click.Option):
                assert option.help, f"{name} {option.name}"
