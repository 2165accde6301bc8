"""What a device signed about a whole session, against what is stored of it: opening and manifest."""

from blake3 import blake3

from kernel.checkpoint import compute_checkpoint_hash
from kernel.domains import Domain, Label
from kernel.errors import InvalidRecord, Reason
from kernel.signing import verify_signed
from lucid.v1 import session_pb2
from session.access import RecorderKeys, decrypt_message, derive_session_key
from session.control_policy import compute_policy_hash, decode_policy
from session.manifest import MAX_GAPS, decode_manifest
from session.origin import check_recorder, get_owner


def check_opening(
    keys: RecorderKeys, session_id: bytes, row: session_pb2.SessionRow, secret: bytes | None
) -> None:
    """Checks that a device of the owner signed the control policy, for this session and its retention.

    Who can read the session also checks its metadata and its key.

    Raises:
        InvalidRecord: it did not, or over something else.
    """
    opened = row.opened
    if opened.session_id != session_id:
        raise InvalidRecord(Reason.WRONG_SESSION, "the index holds another session in its place")
    check_recorder(keys, row)
    policy = decode_policy(
        verify_signed(opened.policy, Domain.POLICY, keys.network, signer=opened.policy.public_key)
    )
    if policy.session_id != session_id:
        raise InvalidRecord(Reason.WRONG_SESSION, "the control policy belongs to another session")
    if policy.retain_until_s != opened.retain_until_s:
        raise InvalidRecord(Reason.NOT_CONSISTENT, "the retention is not that of the control policy")
    if secret is not None:
        decrypt_message(secret, Label.METADATA, session_id, opened.metadata, session_pb2.Metadata)
        if derive_session_key(secret, session_id).public_key != opened.session_key:
            raise InvalidRecord(Reason.NOT_CONSISTENT, "the session key is not that of the session")


def check_manifest(
    keys: RecorderKeys, session_id: bytes, row: session_pb2.SessionRow, secret: bytes | None
) -> None:
    """Checks that the manifest of a complete session was signed over what is stored of it.

    Raises:
        InvalidRecord: it was not, or there is none.
    """
    if row.HasField("closed") != (row.state == session_pb2.STATE_COMPLETE):
        raise InvalidRecord(Reason.NOT_CONSISTENT, "the session is complete without a manifest")
    if not row.HasField("closed"):
        return
    device, opened, closed = row.opened.policy.public_key, row.opened, row.closed
    manifest = decode_manifest(verify_signed(closed.manifest, Domain.MANIFEST, keys.network, signer=device))
    expected = {
        "session ID": (manifest.session_id, session_id),
        "network": (manifest.network, keys.network.id),
        "device": (manifest.device, device),
        "owner": (manifest.owner, get_owner(keys, row)),
        "session key": (manifest.session_key, opened.session_key),
        "start": (manifest.started_ms, opened.started_ns // 1_000_000),
        "number of chunks": (manifest.chunk_count, row.chunk_count),
        "root": (manifest.root, row.root),
        "list of gaps": (manifest.gaps, tuple(row.gaps[:MAX_GAPS])),
        "control policy": (manifest.policy_hash, compute_policy_hash(opened.policy.payload)),
        "metadata": (manifest.metadata_hash, blake3(opened.metadata).digest()),
        "ending": (manifest.ending_hash, blake3(closed.ending).digest()),
        "last checkpoint": (manifest.checkpoint_hash, compute_checkpoint_hash(row.last_checkpoint.payload)),
        "number of checkpoints": (manifest.checkpoint_count, row.checkpoint_count),
    }
    for what, (signed, stored) in expected.items():
        if signed != stored:
            raise InvalidRecord(
                Reason.NOT_CONSISTENT, f"the manifest was signed over another {what} than is stored"
            )
    if secret is not None:
        decrypt_message(secret, Label.ENDING, session_id, closed.ending, session_pb2.Ending)
