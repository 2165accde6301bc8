"""`lucid-node session verify`."""

from typing import TYPE_CHECKING, Any

import click

from node.cli.options import command, session_argument
from node.cli.replica_wait import NOT_ENOUGH_PEERS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lucid.v1 import control_pb2, data_pb2
    from node.home import Home

VERIFICATION_FAILED = 3


@command("verify")
@session_argument
@click.option("--remote", is_flag=True, help="Ask the holders of its copies instead, for random parts.")
@click.option("--percent", type=click.IntRange(1, 100), help="Of the chunks [default: 100].")
def verify_command(home: "Home", session: str, remote: bool, percent: int | None, as_json: bool) -> int:
    """Checks a session, also while it is being recorded."""
    from kernel.errors import UsageError
    from node.cli.output import emit
    from node.cli.progress import show_progress
    from node.control.client import ControlClient

    if remote:
        return audit_session(home, session, percent or 100, as_json=as_json)
    if percent is not None:
        raise UsageError("--percent is for --remote", hint="Here, everything is checked.")
    with ControlClient(home) as client, show_progress("Verifying", quiet=as_json) as on_progress:
        result = client.verify_session(session, on_progress)
    emit(describe_result(result), format_result(result), as_json=as_json)
    return 0 if result.valid else VERIFICATION_FAILED


def describe_findings(findings: "Sequence[data_pb2.Finding]") -> list[dict[str, Any]]:
    """Findings as JSON."""
    return [
        {"chunk": one.index if one.has_index else None, "what": one.what, "healed": one.healed}
        for one in findings
    ]


def format_finding(finding: "data_pb2.Finding") -> str:
    """A finding for people."""
    return f"chunk {finding.index}: {finding.what}" if finding.has_index else finding.what


def describe_result(result: "control_pb2.VerifyResult") -> dict[str, Any]:
    """The result as JSON."""
    from node.cli.output import format_id, iso_time, state_name

    return {
        "session_id": format_id(result.session_id),
        "state": state_name(result.state),
        "valid": result.valid,
        "root": result.root.hex(),
        "chunks": result.chunks,
        "plaintext_bytes": result.plaintext_bytes,
        "checkpoints": result.checkpoints,
        "checkpoint_time": iso_time(result.checkpoint_ns),
        "gaps": result.gaps,
        "sealed": result.sealed,
        "findings": describe_findings(result.findings),
    }


def format_result(result: "control_pb2.VerifyResult") -> str:
    """The result for people."""
    from node.cli.output import format_facts, format_id, format_time, state_name
    from node.units import format_size

    facts = [
        ("Verification", "PASSED" if result.valid else "FAILED"),
        ("Session", f"{format_id(result.session_id)} ({state_name(result.state)})"),
        (
            "Checked",
            f"{result.chunks} chunks, {format_size(result.plaintext_bytes)},"
            f" {result.checkpoints} checkpoints",
        ),
        ("Last checkpoint", format_time(result.checkpoint_ns)),
        ("Root", result.root.hex()),
        ("Gaps", str(result.gaps) if result.gaps else ""),
        ("Not decrypted", "no key of this node opens it" if result.sealed else ""),
    ]
    return format_facts(facts + list_findings(result.findings))


def list_findings(findings: "Sequence[data_pb2.Finding]") -> list[tuple[str, str]]:
    """Findings as names and values for people."""
    return [("Healed" if one.healed else "Finding", format_finding(one)) for one in findings]


def audit_session(home: "Home", session: str, percent: int, *, as_json: bool) -> int:
    """Asks the holders of a session's copies for random parts; returns the exit code."""
    from node.cli.output import emit, format_facts, format_id
    from node.cli.progress import show_progress
    from node.control.client import ControlClient

    with (
        ControlClient(home) as client,
        show_progress("Asking holders", quiet=as_json, unit="chunks") as on_progress,
    ):
        result = client.audit_session(session, percent, on_progress)
    document = {
        "session_id": format_id(result.session_id),
        "valid": result.valid,
        "leaves": result.leaves,
        "holders": result.holders,
        "findings": describe_findings(result.findings),
    }
    facts = [
        ("Audit", "PASSED" if result.valid else "FAILED" if result.holders else "NOBODY holds copies"),
        ("Session", format_id(result.session_id)),
        ("Asked", f"{result.holders} holders for {percent} % of the chunks"),
        ("Right", f"{result.leaves} parts of 4 KiB"),
    ]
    emit(document, format_facts(facts + list_findings(result.findings)), as_json=as_json)
    return 0 if result.valid else VERIFICATION_FAILED if result.holders else NOT_ENOUGH_PEERS
