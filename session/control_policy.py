"""The control policy of a session: what the recorded side may do and what is recorded of it.

Trust nothing: what the document does not allow is refused. It is canonical JSON (RFC 8785), versioned,
signed by the recording device under its grant; its hash stands in the manifest, and a mismatch voids the
session. Binding it is the business of this module; enforcing it comes with the session controls. Format:
docs/spec/04-manifest.md.
"""

import re
from dataclasses import dataclass

import rfc8785
from blake3 import blake3

from kernel.errors import InvalidRecord, Reason
from session.canonical_json import is_count, load_canonical

VERSION = 1
MAX_POLICY_BYTES = 64 << 10

PERMISSIONS = ("clipboard", "file_transfer", "input", "microphone", "printing", "usb")
"""What a policy may allow to the remote side, in order. `input` is the keyboard and the pointer."""


@dataclass(frozen=True, slots=True)
class ControlPolicy:
    """A control policy.

    Attributes:
        session_id: the 16-byte ID of the one session that it governs.
        allows: permissions, a subset of `PERMISSIONS`; all others are refused.
        records_input: is what the user types part of the recording?
        retain_until_s: Unix seconds after which the recording may be erased; 0: never by itself.
    """

    session_id: bytes
    allows: tuple[str, ...]
    records_input: bool
    retain_until_s: int

    def encode(self) -> bytes:
        """The canonical JSON document."""
        return rfc8785.dumps(
            {
                "version": VERSION,
                "session_id": self.session_id.hex(),
                "default": "deny",
                "allows": sorted(self.allows),
                "records_input": self.records_input,
                "retain_until_s": self.retain_until_s,
            }
        )


def decode_policy(document: bytes) -> ControlPolicy:
    """Reads a policy document.

    Raises:
        InvalidRecord: it breaks the format.
    """
    keys = {"version", "session_id", "default", "allows", "records_input", "retain_until_s"}
    match load_canonical(document, "control policy", VERSION, keys, MAX_POLICY_BYTES):
        case {
            "session_id": str(session_id),
            "default": "deny",
            "allows": list(allows),
            "records_input": bool(records_input),
            "retain_until_s": retain_until_s,
        } if (
            re.fullmatch(r"[0-9a-f]{32}", session_id)
            and allows == [permission for permission in PERMISSIONS if permission in allows]
            and is_count(retain_until_s)
        ):
            return ControlPolicy(bytes.fromhex(session_id), tuple(allows), records_input, retain_until_s)
    raise InvalidRecord(Reason.MALFORMED, "the control policy breaks its format")


def compute_policy_hash(document: bytes) -> bytes:
    """What the manifest names the policy by."""
    return blake3(document).digest()
