"""Tables of the index and streams of the journal that belong to spreading.

Tables, with keys and values:

    holdings    chunk ID                                       Holding: held for others
    heads       locator ‖ device                               KeptHead: the newest head of a device
    attested    session ID ‖ device                            Attested: what this node co-signed last
    attestations  session ID ‖ sequence, 8 bytes ‖ witness     Signed: of our checkpoints, by others
    replicas    session ID ‖ index, 4 bytes ‖ replica, 1 byte  Replica: of our chunks, on others' nodes
    objects     "head"                                         PublishedHead: the newest of this node
                "s" ‖ session ID                               PublishedSession: copies of its facts
                "r" ‖ chunk ID of the first part               StoredObject: released when a newer head stands
    devices     device                                         Signed HeadGrant: the owner's other devices
    peers       device                                         PeerRow

Streams (what cannot be lost; the tables above can be remade from them):

    held/<2 hex>/<chunk ID>      the leases of a chunk, newest last
    heads/<2 hex>/<locator>      heads, newest last
    attested/<2 hex>/<session>-<device>-<0 or 1>
                                 Attested: what was co-signed, newest last; two that take turns
    devices                      head grants of the owner's other devices
"""

import re

HOLDINGS = "holdings"
HEADS = "heads"
ATTESTED = "attested"
ATTESTATIONS = "attestations"
REPLICAS = "replicas"
OBJECTS = "objects"
DEVICES = "devices"
PEERS = "peers"
TABLES = (HOLDINGS, HEADS, ATTESTED, ATTESTATIONS, REPLICAS, OBJECTS, DEVICES, PEERS)


ATTESTED_STREAMS = "attested/"
_ATTESTED_STREAM = re.compile(r"attested/[0-9a-f]{2}/([0-9a-f]{32})-([0-9a-f]{64})-[01]")

DEVICES_STREAM = "devices"
HEAD_KEY = b"head"
SESSION_PREFIX = b"s"
RETIRED_PREFIX = b"r"


def replica_key(session_id: bytes, index: int, replica: int) -> bytes:
    """Key of a replica row."""
    return session_id + index.to_bytes(4, "big") + bytes((replica,))


def head_key(locator: bytes, device: bytes) -> bytes:
    """Key of a head row."""
    return locator + device


def attested_key(session_id: bytes, device: bytes) -> bytes:
    """Key of an attested row."""
    return session_id + device


def held_stream(chunk_id: bytes) -> str:
    """Name of the stream with the leases of a held chunk."""
    name = chunk_id.hex()
    return f"held/{name[:2]}/{name}"


def heads_stream(locator: bytes) -> str:
    """Name of the stream with the heads under a locator."""
    name = locator.hex()
    return f"heads/{name[:2]}/{name}"


def attested_stream(session_id: bytes, device: bytes, slot: int) -> str:
    """Name of a stream with what this node co-signed of a session; `slot` is 0 or 1."""
    name = session_id.hex()
    return f"{ATTESTED_STREAMS}{name[:2]}/{name}-{device.hex()}-{slot}"


def parse_attested_stream(name: str) -> tuple[bytes, bytes] | None:
    """Session ID and device of such a stream; None for any other name."""
    found = _ATTESTED_STREAM.fullmatch(name)
    return (bytes.fromhex(found[1]), bytes.fromhex(found[2])) if found else None


def attestation_key(session_id: bytes, sequence: int, witness: bytes) -> bytes:
    """Key of an attestation row."""
    return session_id + sequence.to_bytes(8, "big") + witness


def parse_attestation_key(key: bytes) -> tuple[int, bytes]:
    """Sequence and witness of an attestation row."""
    return int.from_bytes(key[16:24], "big"), key[24:]
