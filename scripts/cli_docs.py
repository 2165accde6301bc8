"""Writes docs/cli.md from the commands themselves, the table of JSON fields and the table of settings.

python scripts/cli_docs.py           writes the file
python scripts/cli_docs.py --check   fails if the file is not what would be written
"""

import sys
from collections.abc import Iterator
from inspect import cleandoc
from pathlib import Path

import click

from node.cli.errors import EXIT_CODES
from node.cli.fields import COMMAND_FIELDS, Fields
from node.cli.groups import root
from node.config import SETTINGS, get_default
from simnet import fields as simnet_fields
from simnet.commands import root as simnet_root

TARGET = Path(__file__).parents[1] / "docs" / "cli.md"
_HEAD = """\
# The command line

<!-- Made by scripts/cli_docs.py from the commands themselves: change them, not this file. -->

`lucid-node` sets up and runs a node, and records, checks and gives back sessions. `lucid-shell` is a login
shell that records ([terminal.md](terminal.md)). How a node is run is told in [operations.md](operations.md).
`lucid-simnet` is told in [simnet.md](simnet.md); what it prints with --json about simulated worlds stands at
the end of this page.

- The home of a node is `--home DIR`, else `$LUCID_HOME`, else `~/.lucid`. `--home` may stand before or behind
  the command.
- `ID` is a session's ID or an unambiguous beginning of it.
- With `--json` a command prints one JSON object on standard output: numbers of bytes are raw, times are ISO
  8601 in UTC. What goes wrong is one object on standard error: `{"error": {"code", "message", "hint"}}`;
  `code` is the name of an error class (kernel/errors.py). `run` and `session play` put out no object: there
  --json is for their errors.
- Progress is shown on a terminal only. Text that came from elsewhere is printed without control characters.
- The exit status of `session record -- CMD` is that of CMD (127: not found, 126: not executable, 128 + n:
  killed by signal n).
"""


def iter_commands(
    group: click.Group, context: click.Context, path: str
) -> Iterator[tuple[str, click.Command]]:
    """All commands that do something, by their full name."""
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        full = f"{path} {name}".strip()
        if isinstance(command, click.Group):
            yield from iter_commands(command, context, full)
        elif command is not None:
            yield full, command


def describe(
    name: str,
    command: click.Command,
    program: str = "lucid-node",
    documented: dict[str, Fields] = COMMAND_FIELDS,
) -> Iterator[str]:
    """One command's section."""
    context = click.Context(command, info_name=f"{program} {name}")
    usage = " ".join(command.collect_usage_pieces(context))
    yield f"## `{name}`" if program == "lucid-node" else f"## `{program} {name}`"
    yield cleandoc(command.help or "")
    yield f"```\n{program} {name} {usage}\n```"
    rows = [
        record
        for option in command.params
        if isinstance(option, click.Option) and (record := option.get_help_record(context)) is not None
    ]
    if rows:
        yield "| option | meaning |\n|---|---|\n" + "\n".join(
            f"| `{_escape(option)}` | {_escape(' '.join(meaning.split()))} |" for option, meaning in rows
        )
    for key in (name, f"{name} --resume", f"{name} --remote"):
        if key in documented:
            title = "JSON:" if key == name else f"JSON with `{key.removeprefix(name).strip()}`:"
            fields = "\n".join(f"| `{field}` | {meaning} |" for field, meaning in documented[key].items())
            yield f"{title}\n\n| field | meaning |\n|---|---|\n{fields}"


def _escape(text: str) -> str:
    return text.replace("|", "\\|")


def make_document() -> str:
    """The whole file."""
    sections = [_HEAD.rstrip()]
    codes = "\n".join(f"| {code} | {meaning} |" for code, meaning in EXIT_CODES.items())
    sections.append(f"## Exit codes\n\n| code | meaning |\n|---|---|\n{codes}")
    settings = "\n".join(
        f"| `{name}` | `LUCID_{name.upper()}` | {setting.metadata['meaning']} | `{get_default(name)}` |"
        for name, setting in SETTINGS.items()
    )
    sections.append(
        "## Settings of the node\n\nDefaults < `lucid.toml` in the home < environment < flags of `run`"
        " (`--log-level` for `log_level`). An unknown name is an error.\n\n"
        f"| in lucid.toml | environment | meaning | default |\n|---|---|---|---|\n{settings}"
    )
    context = click.Context(root, info_name="lucid-node")
    for name, command in iter_commands(root, context, ""):
        sections += describe(name, command)
    for name in simnet_fields.COMMAND_FIELDS:
        command = simnet_root.commands[name]
        sections += describe(name, command, "lucid-simnet", simnet_fields.COMMAND_FIELDS)
    return "\n\n".join(sections).replace("`` |", "(empty) |") + "\n"


def main() -> int:
    """Writes or checks the file."""
    document = make_document()
    if sys.argv[1:] == ["--check"]:
        if TARGET.read_text() != document:
            print("docs/cli.md is not up to date: run `python scripts/cli_docs.py`", file=sys.stderr)
            return 1
        return 0
    TARGET.write_text(document)
    return 0


if __name__ == "__main__":
    sys.exit(main())
