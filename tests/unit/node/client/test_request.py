import pytest

from kernel.errors import UsageError
from lucid.v1 import data_pb2, session_pb2
from node.client.request import RecordRequest, build_request, clean_text, describe_origin
from node.data.requests import check_metadata


def test_a_new_session() -> None:
    metadata = session_pb2.Metadata(kind=session_pb2.SOURCE_KIND_STREAM, name="source")
    frame = build_request(RecordRequest(tags=("a",), retain_s=5), metadata, records_input=True)
    expected = session_pb2.Metadata(kind=session_pb2.SOURCE_KIND_STREAM, name="source", tags=["a"])
    assert frame.start == data_pb2.StartRecording(
        kind=session_pb2.SOURCE_KIND_STREAM, metadata=expected, retain_s=5, records_input=True
    )


def test_the_owner_goes_on() -> None:
    frame = build_request(RecordRequest(session_id=b"i" * 16), session_pb2.Metadata())
    assert frame.continue_recording == data_pb2.ContinueRecording(session_id=b"i" * 16)
    with pytest.raises(UsageError):
        build_request(RecordRequest(session_id=b"i"), session_pb2.Metadata())


def test_names_that_are_no_text() -> None:
    assert clean_text("a\udcffé") == "a\ufffdé"
    frame = build_request(RecordRequest(tags=("\udcff",), name="\udcff"), session_pb2.Metadata())
    assert list(frame.start.metadata.tags) == ["\ufffd"]
    assert frame.start.metadata.name == "\ufffd"


def test_nothing_that_is_too_long_keeps_a_session_from_being_recorded() -> None:
    metadata = session_pb2.Metadata(
        kind=session_pb2.SOURCE_KIND_TERMINAL, term="x" * 5000, tty="t" * 300, columns=50_000, rows=1 << 31
    )
    frame = build_request(RecordRequest(name="echo " + "x" * 10_000), metadata)
    check_metadata(frame.start.metadata)
    assert frame.start.metadata.name.startswith("echo xxx")


def test_origin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "\udcff")
    metadata = describe_origin()
    assert metadata.term == "\ufffd"
    assert metadata.user
    assert metadata.host
