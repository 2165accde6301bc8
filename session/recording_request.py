"""What a client asks for when it starts a recording."""

from dataclasses import dataclass

from lucid.v1 import session_pb2


@dataclass(frozen=True, slots=True)
class RecordingRequest:
    """What is to be recorded.

    Attributes:
        kind: of the source.
        metadata: for readers.
        live: True if the source cannot be read again.
        retain_s: seconds until the node may erase it; 0 keeps it.
        records_input: is what the user types part of it?
    """

    kind: "session_pb2.SourceKind.ValueType"
    metadata: session_pb2.Metadata
    live: bool
    retain_s: int = 0
    records_input: bool = False
