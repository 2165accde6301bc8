"""Errors across a socket: what the daemon raises, its client raises again.

A `Failure` names the class of the error (with the reason, for `InvalidRecord`), its message and its hint.
Both the control socket and the data socket use it. A name that is not known becomes a plain `LucidError`.
"""

from kernel import errors
from kernel.errors import InvalidRecord, LucidError, Reason
from lucid.v1 import data_pb2

_CLASSES: dict[str, type[LucidError]] = {
    value.__name__: value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, LucidError)
}
MAX_TEXT = 2000


def encode_failure(error: LucidError) -> data_pb2.Failure:
    """The message that stands for `error`; texts are cut at 2000 characters."""
    code = type(error).__name__
    if isinstance(error, InvalidRecord):
        code = f"{code}.{error.reason.name}"
    return data_pb2.Failure(code=code, message=str(error)[:MAX_TEXT], hint=error.hint[:MAX_TEXT])


def decode_failure(failure: data_pb2.Failure) -> LucidError:
    """The error that a `Failure` stands for."""
    name, _, reason = failure.code.partition(".")
    if name == InvalidRecord.__name__:
        known = reason if reason in Reason.__members__ else Reason.MALFORMED.name
        return InvalidRecord(Reason[known], failure.message, hint=failure.hint)
    return _CLASSES.get(name, LucidError)(failure.message, hint=failure.hint)


def may_pass(error: errors.LucidError) -> bool:
    """Is it worth trying again?"""
    return isinstance(error, errors.Unavailable | errors.Conflict) or (
        isinstance(error, errors.StoreError) and not error.permanent
    )
