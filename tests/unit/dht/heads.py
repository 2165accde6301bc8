"""Heads for tests."""

from dht.heads import sign_head
from kernel.head_grants import sign_head_grant
from kernel.signing import SigningKey
from lucid.v1 import chunk_pb2
from tests.unit.dht.holder import DAY_S, NETWORK, make_key

LOCATOR = make_key("locator")


def make_entry(
    now_s: int,
    sequence: int = 1,
    *,
    device: SigningKey | None = None,
    locator: SigningKey = LOCATOR,
    days: float = 365,
    sealed: bytes = b"sealed",
) -> chunk_pb2.HeadEntry:
    """A head and its grant."""
    device = device or make_key("device")
    head = chunk_pb2.Head(
        locator=locator.public_key,
        device=device.public_key,
        sequence=sequence,
        time_s=now_s,
        expires_s=now_s + round(days * DAY_S),
        sealed=sealed,
    )
    grant = sign_head_grant(locator, NETWORK, device.public_key)
    return chunk_pb2.HeadEntry(head=sign_head(device, NETWORK, head), grant=grant)
