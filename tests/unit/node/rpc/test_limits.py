import pytest

from lucid.v1 import chunk_pb2, node_pb2, share_pb2, witness_pb2
from node.rpc import limits
from node.rpc.limits import METHODS, Who

SERVICES = [
    service
    for module in (node_pb2, chunk_pb2, witness_pb2, share_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
]
BESIDE = {
    "grpc.health.v1.Health/Check",
    "grpc.health.v1.Health/Watch",
    "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
}


def test_every_method_between_nodes_has_its_row() -> None:
    named = {f"{service.full_name}/{method.name}" for service in SERVICES for method in service.methods}
    assert len(named) == 14
    assert set(METHODS) == named | BESIDE


def test_streams_of_requests_may_not_be_silent_for_long() -> None:
    for service in SERVICES:
        for method in service.methods:
            if method.client_streaming or method.server_streaming:
                assert METHODS[f"{service.full_name}/{method.name}"].idle_s


@pytest.mark.parametrize("name", list(METHODS))
def test_rows_are_sound(name: str) -> None:
    limit = METHODS[name]
    assert 0 < limit.max_request_bytes <= limits.MAX_MESSAGE_BYTES
    assert limit.rate_per_s > 0
    assert limit.burst >= 1
    assert 0 < limit.deadline_s <= 3600


def test_strangers_may_only_introduce_themselves_and_look_around() -> None:
    assert {name for name, limit in METHODS.items() if limit.who is Who.ANYBODY} == {
        "lucid.v1.NodeService/Hello",
        "lucid.v1.NodeService/Authenticate",
        "grpc.health.v1.Health/Check",
        "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    }


def test_strangers_cannot_take_all_calls_there_may_be() -> None:
    open_to_all = [name for name, limit in METHODS.items() if limit.who is Who.ANYBODY]
    assert len(open_to_all) * limits.MAX_STRANGERS_PER_METHOD < limits.MAX_CONCURRENT_CALLS / 2
