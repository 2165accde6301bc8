"""What a proof bundle proves, and what it does not, in words."""

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from blake3 import blake3

from kernel.peer_id import encode_peer_id
from session.bundle_verifier import BundleReport, ProvenChunk
from session.encryptor import ChunkFlag


def describe_verdict(report: BundleReport) -> str:
    """One line."""
    times = report.trusted_times
    if not times:
        return "consistent, unattested"
    return f"consistent, attested by {len(times)} trusted witness{'es' if len(times) > 1 else ''}"


def describe_proven(report: BundleReport) -> list[str]:
    """What holds, one sentence each."""
    checkpoint, manifest = report.checkpoint, report.manifest
    sentences = [
        f"The owner {report.owner.hex()} lets the device {encode_peer_id(report.device)} record in its name"
        f" (grant list {report.grants_sequence}, network {report.network.name}).",
        f"This device signed that session {UUID(bytes=report.session_id)} consists"
        f"{'' if manifest is not None else ' so far'} of exactly {checkpoint.chunk_count} chunks under"
        f" the root {checkpoint.root.hex()}"
        f" (checkpoint {checkpoint.sequence}): none can be changed, left out, added or moved unseen.",
    ]
    if manifest is not None:
        gaps = ", ".join(map(str, manifest.gaps[:20])) + (" …" if len(manifest.gaps) > 20 else "")
        sentences.append(
            "It signed that the recording is complete, "
            + (f"with gaps before the chunks {gaps}." if manifest.gaps else "without gaps.")
        )
    sentences.append(
        "It signed the control policy of the session, which allows the remote side"
        f" {', '.join(report.policy.allows) or 'nothing'}, and by which what is typed is"
        f" {'' if report.policy.records_input else 'not '}recorded."
    )
    sentences += _describe_times(report.trusted_times)
    if report.chunk is not None:
        sentences += _describe_chunk(report.chunk)
    return sentences


def _describe_times(times: Sequence[int]) -> list[str]:
    """What honest witnesses imply: if more than half of n are, then one of the ⌈n/2⌉ earliest is."""
    if not times:
        return []
    if len(times) == 1:
        return [f"It existed not later than {_iso(times[0])}, if the witness is honest."]
    middle = _iso(times[(len(times) - 1) // 2])
    majority = f", than {middle} if more than half of them are" if len(times) > 2 else ""
    return [
        f"It existed not later than {_iso(times[0])} if all {len(times)} trusted witnesses are honest"
        f"{majority}, and than {_iso(times[-1])} if any of them is."
    ]


def _describe_chunk(chunk: ProvenChunk) -> list[str]:
    flags = [flag.name.lower() for flag in ChunkFlag if flag & chunk.flags and flag.name]
    sentences = [
        f"Chunk {chunk.index} of it is the stored chunk {chunk.chunk_id.hex()} of {chunk.size_bytes} bytes"
        + (f" (marked {', '.join(flags)})." if flags else ".")
    ]
    if chunk.plaintext is not None:
        sentences.append(
            f"Under the enclosed key, which its header commits to, it opens to {len(chunk.plaintext)} bytes"
            f" and to nothing else (BLAKE3 {blake3(chunk.plaintext).hexdigest()})."
        )
    elif chunk.end_byte > chunk.first_byte:
        sentences.append(
            f"Its encrypted bytes {chunk.first_byte} to {chunk.end_byte - 1} are those in the bundle."
        )
    return sentences


def describe_unproven(report: BundleReport) -> list[str]:
    """What a reader might think is proven, and is not; one sentence each."""
    sentences = []
    if not report.trusted_times:
        others = len(report.attested)
        seen = (
            f" {others} nodes have co-signed it; whether you trust them, only you can say." if others else ""
        )
        sentences.append(
            "When it existed: nobody whom you trust has co-signed it, so owner and device may have made all"
            f" of it today.{seen}"
        )
    sentences.append(
        f"That it is not older: {_iso(report.checkpoint.time_ns)}, the time in the checkpoint, is the"
        " device's own claim, and so is the start of the recording."
    )
    if report.manifest is None:
        sentences.append("How the recording went on: it was not complete when this was made.")
    if report.chunk is None or report.chunk.plaintext is None:
        sentences.append("What the recording shows: no key is enclosed.")
    sentences.append("That what the device was given to record was genuine, and who stands behind the keys.")
    sentences.append("That anybody still keeps the recording.")
    return sentences


def _iso(unix_ns: int) -> str:
    try:
        return datetime.fromtimestamp(unix_ns // 10**9, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        return f"{unix_ns} ns"
