"""Reading canonical JSON (RFC 8785): who checks a document sees exactly the bytes that were signed."""

import json
from typing import Any, TypeGuard

import rfc8785

from kernel.errors import InvalidRecord, Reason

MAX_INTEGER = 2**53 - 1
"""Greatest integer that RFC 8785 carries exactly."""


def is_count(value: object) -> TypeGuard[int]:
    """True for an integer, not a boolean, in [0, 2^53)."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_INTEGER


def load_canonical(
    document: bytes, what: str, version: int, keys: set[str], max_bytes: int
) -> dict[str, Any]:
    """Parses a bounded canonical JSON object with exactly these keys.

    Raises:
        InvalidRecord: too large, no JSON, not canonical, or other keys.
    """
    if len(document) > max_bytes:
        raise InvalidRecord(Reason.TOO_LARGE, f"the {what} has {len(document)} bytes")
    try:
        parsed = json.loads(document)
        canonical = rfc8785.dumps(parsed)
    except (ValueError, RecursionError, rfc8785.CanonicalizationError) as error:
        raise InvalidRecord(Reason.MALFORMED, f"the {what} is no JSON: {error}") from error
    if not isinstance(parsed, dict) or canonical != document:
        raise InvalidRecord(Reason.MALFORMED, f"the {what} is not in its canonical form")
    if parsed.get("version") is True or parsed.get("version") != version:
        raise InvalidRecord(Reason.WRONG_VERSION, f"the {what} has an unknown version")
    if set(parsed) != keys:
        raise InvalidRecord(Reason.MALFORMED, f"the {what} has other fields than its version says")
    return parsed
