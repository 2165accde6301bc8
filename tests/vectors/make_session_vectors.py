"""Writes the golden bytes of one recorded session: `python -m tests.vectors.make_session_vectors`.

What the files hold: tests/vectors/FORMAT.md.
"""

import json
from collections.abc import Callable
from pathlib import Path

from tests.vectors.session_bundle_vectors import build_bundle
from tests.vectors.session_chunk_vectors import Case, build_chunk, build_merkle
from tests.vectors.session_document_vectors import (
    build_checkpoint,
    build_frame,
    build_manifest,
    build_metadata,
    build_policy,
)
from tests.vectors.witness_vectors import build_attestation

BUILDERS: dict[str, Callable[[], Case]] = {
    "chunk.json": build_chunk,
    "merkle.json": build_merkle,
    "frame.json": build_frame,
    "checkpoint.json": build_checkpoint,
    "metadata.json": build_metadata,
    "policy.json": build_policy,
    "manifest.json": build_manifest,
    "attestation.json": build_attestation,
    "bundle.json": build_bundle,
}


def render(document: Case) -> str:
    """The text of a file."""
    return json.dumps(document, indent=2) + "\n"


if __name__ == "__main__":
    for name, build in BUILDERS.items():
        (Path(__file__).parent / name).write_text(render(build()))
