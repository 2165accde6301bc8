import pytest

from kernel import errors
from kernel.errors import InvalidRecord, LucidError, Reason
from lucid.v1 import data_pb2
from node.failures import MAX_TEXT, decode_failure, encode_failure

CLASSES = [
    value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, LucidError)
]


@pytest.mark.parametrize("kind", [kind for kind in CLASSES if kind is not InvalidRecord])
def test_every_class_comes_back(kind: type[LucidError]) -> None:
    error = decode_failure(encode_failure(kind("what happened", hint="what to do")))
    assert (type(error), str(error), error.hint) == (kind, "what happened", "what to do")


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_comes_back(reason: Reason) -> None:
    error = decode_failure(encode_failure(InvalidRecord(reason, "bad")))
    assert isinstance(error, InvalidRecord)
    assert error.reason == reason


@pytest.mark.parametrize("code", ["", "SystemExit", "Reason", "InvalidRecord", "InvalidRecord.NEWER", "Enum"])
def test_unknown_codes_are_errors_all_the_same(code: str) -> None:
    error = decode_failure(data_pb2.Failure(code=code, message="m"))
    assert isinstance(error, LucidError)
    assert str(error) == "m"


def test_texts_are_bounded() -> None:
    failure = encode_failure(LucidError("x" * 10_000, hint="y" * 10_000))
    assert (len(failure.message), len(failure.hint)) == (MAX_TEXT, MAX_TEXT)
