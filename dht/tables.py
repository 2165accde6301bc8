"""Tables of the index and streams of the journal that belong to spreading.

Tables, with keys and values:

    holdings    chunk ID                                       Holding: held for others
    heads       locator ‖ device                               KeptHead: the newest head of a device
    attested    session ID ‖ device                            GetAttestedResponse: co-signed last
    replicas    session ID ‖ index, 4 bytes ‖ replica, 1 byte  Replica: of our chunks, on others' nodes
    objects     name                                           what this node's own heads refer to
    peers       device                                         PeerRow

Streams (what cannot be lost; the tables above can be remade from them):

    held/<2 hex>/<chunk ID>      the leases of a chunk, newest last
    heads/<2 hex>/<locator>      heads, newest last
    attested/<2 hex>/<session>   checkpoints that were co-signed, newest last
"""

HOLDINGS = "holdings"
HEADS = "heads"
ATTESTED = "attested"
REPLICAS = "replicas"
OBJECTS = "objects"
PEERS = "peers"
TABLES = (HOLDINGS, HEADS, ATTESTED, REPLICAS, OBJECTS, PEERS)


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


def attested_stream(session_id: bytes) -> str:
    """Name of the stream with the checkpoints of a session that this node co-signed."""
    name = session_id.hex()
    return f"attested/{name[:2]}/{name}"
