"""All commands by name, and what help says of them; a command's module is loaded when the command is used."""

from importlib import import_module

import click

from node.cli.options import DIRECTORY

COMMANDS: "Table" = {
    "init": ("node.cli.init", "Set up a node: make its keys and show the recovery words."),
    "restore": (
        "node.cli.restore",
        "Set up a node from the recovery words, and bring recordings back.",
    ),
    "id": ("node.cli.id", "Show who this node is."),
    "status": ("node.cli.status", "Show how the daemon is doing."),
    "doctor": ("node.cli.doctor", "Examine a home, and rebuild a damaged index."),
    "passphrase": {"change": ("node.cli.passphrase", "Encrypt the keystore under another passphrase.")},
    "run": ("node.cli.run", "Run the node."),
    "service": {
        "install": ("node.cli.service", "Install a systemd unit that runs the node."),
        "uninstall": ("node.cli.service", "Remove the systemd unit."),
    },
    "replicas": ("node.cli.replicas", "Show which nodes hold copies of a recording."),
    "session": {
        "record": ("node.cli.session_record", "Record a file, a directory, standard input or a terminal."),
        "list": ("node.cli.session_list", "List sessions."),
        "show": ("node.cli.session_show", "Show everything about a session."),
        "verify": ("node.cli.session_verify", "Check that a recording is there, whole and unchanged."),
        "get": ("node.cli.session_get", "Write a recording into a file, or to standard output."),
        "play": ("node.cli.session_play", "Play a terminal recording."),
        "export": ("node.cli.session_export", "Write a terminal recording as asciicast."),
        "recover": ("node.cli.session_recover", "Go on with an interrupted session, or finalize it."),
        "share": ("node.cli.session_share", "Let another node read a recording."),
        "delete": ("node.cli.session_delete", "Erase a recording for good."),
        "hold": ("node.cli.session_hold", "Put a session under legal hold: it cannot be deleted."),
        "prove": ("node.cli.session_prove", "Write a proof bundle that an auditor checks offline."),
        "release": ("node.cli.session_hold", "End the legal hold of a session."),
    },
    "peers": ("node.cli.peers", "List the peers of this node."),
    "ping": ("node.cli.ping", "Call a peer and tell how long it takes."),
    "onion": {
        "show": ("node.cli.onion", "Show how the node stands in Tor."),
        "check": ("node.cli.onion", "Call this node through the network, as a stranger would."),
        "rotate": ("node.cli.onion", "Replace the onion service by a new one."),
    },
    "grpc-token": ("node.cli.grpc_token", "Print a header with which grpcurl may call this node."),
    "verify": {"bundle": ("node.cli.verify_bundle", "Check a proof bundle, offline.")},
    "completion": ("node.cli.completion", "Print the completion script of a shell."),
}
"""Commands by name: module and one line of help; groups are tables themselves. A module calls its command
`<name>_command`."""

GROUP_HELP = {
    "onion": "The node's onion services.",
    "passphrase": "The passphrase of the keystore.",
    "service": "The node as a service of systemd.",
    "session": "Record sessions, and use the recordings.",
    "verify": "Check what others hand you.",
}

Table = dict[str, tuple[str, str] | dict[str, tuple[str, str]]]


class LazyGroup(click.Group):
    """A group that loads a command's module when the command is used."""

    def __init__(self, name: str, table: Table, help_text: str, **settings: object) -> None:
        super().__init__(name, help=help_text, no_args_is_help=True, **settings)  # type: ignore[arg-type]
        self._table = table

    def list_commands(self, ctx: click.Context) -> list[str]:
        """See `click.Group`."""
        return list(self._table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """See `click.Group`."""
        entry = self._table.get(cmd_name)
        if entry is None:
            return None
        if isinstance(entry, dict):
            return LazyGroup(cmd_name, dict(entry), GROUP_HELP[cmd_name])
        command = getattr(import_module(entry[0]), f"{cmd_name.replace('-', '_')}_command")
        if not isinstance(command, click.Command):
            raise TypeError(f"{entry[0]} has no command {cmd_name}")
        command.help = command.short_help = entry[1]
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Lists the commands from the table, without loading their modules."""
        rows = [
            (name, GROUP_HELP[name] if isinstance(entry, dict) else entry[1])
            for name, entry in self._table.items()
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def _show_version(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"lucid-node {version('lucid-network')}")
        context.exit()


root = LazyGroup(
    "lucid-node",
    dict(COMMANDS),
    "Record sessions so that nobody can change them unseen, and run a node of the Lucid network.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    params=[
        click.Option(
            ["--home", "home_default"],
            metavar="DIR",
            type=DIRECTORY,
            help="Where the node lives [default: ~/.lucid].",
        ),
        click.Option(
            ["--version"],
            is_flag=True,
            expose_value=False,
            is_eager=True,
            callback=_show_version,
            help="Show the version and exit.",
        ),
    ],
    callback=lambda home_default: None,
)
