"""A reserved port is nobody's but the daemon's that is meant to have it."""

import socket

import grpc
import pytest

from simnet.addresses import HOST, OnionAddress, reserve_address


def test_a_reserved_port_is_not_handed_out_again() -> None:
    reserved = [reserve_address() for _ in range(50)]
    assert len({address.port for address in reserved}) == 50
    for address in reserved:
        address.reservation.close()


def test_whoever_does_not_share_cannot_have_it() -> None:
    address = reserve_address()
    with address.reservation, socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind((HOST, address.port))


@pytest.mark.parametrize("reuse_port", [0, 1])
async def test_a_server_gets_it_again_and_again_while_it_is_reserved(reuse_port: int) -> None:
    address = reserve_address()
    with address.reservation:
        for _ in range(3):
            server = grpc.aio.server(options=[("grpc.so_reuseport", reuse_port)])
            assert server.add_insecure_port(address.grpc) == address.port
            await server.start()
            with socket.create_connection((HOST, address.port), timeout=10):
                pass
            await server.stop(None)


def test_forms() -> None:
    address = reserve_address()
    with address.reservation:
        assert address.grpc == f"127.0.0.1:{address.port}"
        assert address.multiaddr == f"/ip4/127.0.0.1/tcp/{address.port}"
    onion = OnionAddress("a" * 56, 4001)
    assert onion.grpc == f"{'a' * 56}.onion:4001"
    assert onion.multiaddr == f"/onion3/{'a' * 56}:4001"
