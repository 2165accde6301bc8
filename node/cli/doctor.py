"""`lucid-node doctor`."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from node.cli.options import command

if TYPE_CHECKING:
    from node.check import Check
    from node.home import Home


@command("doctor")
@click.option(
    "--rebuild", is_flag=True, help="Remake the index from the journals; the daemon must be stopped."
)
def doctor_command(home: "Home", rebuild: bool, as_json: bool) -> int:
    """Examines the home; needs neither daemon nor passphrase."""
    import time

    from node.check import Verdict
    from node.cli.output import emit
    from node.cli.progress import show_progress
    from node.doctor import examine_home, rebuild_home

    rebuilt: list[str] = []
    if rebuild:
        with show_progress("Rebuilding", quiet=as_json) as on_progress:
            rebuilt = rebuild_home(home, os.environ, on_progress)
    checks = list(examine_home(home, os.environ, time.time_ns()))
    healthy = all(check.state != Verdict.WRONG for check in checks)
    document = {
        "home": str(home.root),
        "healthy": healthy,
        "checks": [
            {"name": check.name, "state": check.state.value, "what": check.what, "hint": check.hint}
            for check in checks
        ],
        "rebuilt": rebuilt,
    }
    emit(document, format_checks(checks, rebuilt), as_json=as_json)
    return 0 if healthy else 1


def format_checks(checks: "Sequence[Check]", rebuilt: Sequence[str]) -> str:
    """Findings for people."""
    from node.cli.output import printable

    lines = [f"rebuilt  {printable(line)}" for line in rebuilt]
    for check in checks:
        lines.append(f"{check.state.value:<7}  {check.name}: {printable(check.what)}")
        if check.hint:
            lines.append(f"         {printable(check.hint)}")
    return "\n".join(lines)
