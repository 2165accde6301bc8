"""`lucid-node verify bundle`: offline; needs neither home nor daemon."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from session.bundle_verifier import BundleReport, ProvenChunk


@click.command("bundle", help="")
@click.argument("bundle", metavar="F")
@click.option(
    "--witness",
    "witnesses",
    metavar="PEER",
    multiple=True,
    help="Peer ID of a node that you trust, and that must have co-signed it; may be given again.",
)
@click.option(
    "--recording",
    metavar="X",
    help="Compare with this file: the plaintext of a revealed chunk must stand in it; of any other chunk it"
    " must be the stored bytes.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
def bundle_command(bundle: str, witnesses: tuple[str, ...], recording: str | None, as_json: bool) -> None:
    """Checks a bundle, and says what it proves and what not."""
    from node.cli.output import emit
    from node.cli.recording_match import match_recording
    from session.bundle_verifier import verify_bundle

    trusted = [parse_witness(text) for text in witnesses]
    report = verify_bundle(read_bundle(Path(bundle)), trusted)
    matched = None if recording is None else match_recording(Path(recording), report.chunk)
    emit(describe_report(report, matched), format_report(report, matched), as_json=as_json)


def parse_witness(text: str) -> bytes:
    """The key of a peer ID.

    Raises:
        UsageError: it is none.
    """
    from kernel.errors import InvalidRecord, UsageError
    from kernel.peer_id import decode_peer_id

    try:
        return decode_peer_id(text)
    except InvalidRecord as error:
        raise UsageError(f'"{text}" is no peer ID', hint=error.hint) from error


def read_bundle(path: Path) -> bytes:
    """The bytes of a bundle, no more than one may have and one to tell.

    Raises:
        NotFound: there is no such file.
    """
    from kernel.errors import NotFound
    from session.bundle import MAX_BUNDLE_BYTES

    try:
        with path.open("rb") as file:
            return file.read(MAX_BUNDLE_BYTES + 1)
    except FileNotFoundError as error:
        raise NotFound(f"there is no file {path}") from error


def describe_report(report: "BundleReport", matched: str | None) -> dict[str, Any]:
    """The report as JSON."""
    from kernel.peer_id import encode_peer_id
    from node.cli.output import format_id, iso_time
    from session.bundle_words import describe_proven, describe_unproven, describe_verdict

    manifest = report.manifest
    return {
        "verdict": describe_verdict(report),
        "session_id": format_id(report.session_id),
        "network": report.network.name,
        "owner_id": report.owner.hex(),
        "device": encode_peer_id(report.device),
        "complete": manifest is not None,
        "chunks": report.checkpoint.chunk_count,
        "root": report.checkpoint.root.hex(),
        "checkpoint": report.checkpoint.sequence,
        "checkpoint_time": iso_time(report.checkpoint.time_ns),
        "manifest_hash": report.manifest_hash.hex(),
        "gaps": None if manifest is None else list(manifest.gaps),
        "attestations": [
            {"witness": encode_peer_id(one.witness), "time": iso_time(one.time_ns), "trusted": one.trusted}
            for one in report.attested
        ],
        "chunk": None if report.chunk is None else describe_chunk(report.chunk),
        "recording": matched,
        "proven": describe_proven(report),
        "not_proven": describe_unproven(report),
    }


def describe_chunk(chunk: "ProvenChunk") -> dict[str, Any]:
    """The chunk as JSON."""
    from blake3 import blake3

    from session.encryptor import ChunkFlag

    text = chunk.plaintext
    return {
        "index": chunk.index,
        "chunk_id": chunk.chunk_id.hex(),
        "bytes": chunk.size_bytes,
        "flags": [flag.name.lower() for flag in ChunkFlag if flag & chunk.flags and flag.name],
        "first_byte": chunk.first_byte,
        "end_byte": chunk.end_byte,
        "plaintext_bytes": None if text is None else len(text),
        "plaintext_blake3": None if text is None else blake3(text).hexdigest(),
    }


def format_report(report: "BundleReport", matched: str | None) -> str:
    """The report for people."""
    from session.bundle_words import describe_proven, describe_unproven, describe_verdict

    lines = [f"The bundle is {describe_verdict(report)}.", "", "Proven:"]
    lines += [f"  - {each}" for each in describe_proven(report)]
    if matched is not None:
        lines.append(f"  - {matched}")
    lines += ["", "Not proven:", *(f"  - {each}" for each in describe_unproven(report))]
    return "\n".join(lines)
