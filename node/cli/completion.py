"""`lucid-node completion`."""

import click

PROGRAM = "lucid-node"
VARIABLE = "_LUCID_NODE_COMPLETE"


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion_command(shell: str) -> None:
    """Prints a script; for bash: `eval "$(lucid-node completion bash)"` in ~/.bashrc."""
    from click.shell_completion import get_completion_class

    from node.cli.groups import root

    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"there is no completion for {shell}")
    click.echo(kind(root, {}, PROGRAM, VARIABLE).source())
