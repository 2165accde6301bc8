"""The first fact of a session: its ID, its sealed secret, its policy."""

import uuid

from blake3 import blake3

from kernel import aead
from kernel.domains import Domain, Label
from kernel.ports import Entropy
from lucid.v1 import session_pb2
from session.access import (
    RecorderKeys,
    derive_session_key,
    encrypt_message,
    seal_for_owner,
)
from session.control_policy import ControlPolicy
from session.recording_request import RecordingRequest


def make_opening(
    keys: RecorderKeys,
    entropy: Entropy,
    request: RecordingRequest,
    started_ns: int,
    secret: bytes,
    token: bytes,
) -> session_pb2.Opened:
    """The opening of a new session.

    Args:
        keys: of the recording device.
        entropy: for the session ID and what seals.
        request: what is to be recorded.
        started_ns: Unix time.
        secret: of the session, 32 fresh random bytes.
        token: lets the same client go on after a reconnect.
    """
    session_id = uuid.UUID(bytes=entropy.draw(16), version=4).bytes
    retain_until_s = started_ns // 1_000_000_000 + request.retain_s if request.retain_s else 0
    sealed = seal_for_owner(keys, session_id, secret, entropy)
    policy = ControlPolicy(session_id, (), request.records_input, retain_until_s).encode()
    nonce = entropy.draw(aead.NONCE_BYTES)
    return session_pb2.Opened(
        session_id=session_id,
        started_ns=started_ns,
        secrets=[sealed],
        metadata=encrypt_message(secret, Label.METADATA, session_id, nonce, request.metadata),
        policy=keys.device.sign(Domain.POLICY, keys.network, policy),
        live=request.live,
        resume_token_hash=blake3(token).digest(),
        kind=request.kind,
        retain_until_s=retain_until_s,
        session_key=derive_session_key(secret, session_id).public_key,
    )
