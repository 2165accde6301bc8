"""`lucid-node grpc-token`."""

from typing import TYPE_CHECKING

from node.cli.options import command

if TYPE_CHECKING:
    from node.home import Home


@command("grpc-token")
def grpc_token_command(home: "Home", as_json: bool) -> None:
    """Prints a header that lets its bearer call the node as its owner, for an hour: keep it to yourself.

    Where HOST:PORT is, and how grpcurl reaches it through Tor, tells docs/operations.md.

    grpcurl -plaintext -H "$(lucid-node grpc-token)" HOST:PORT lucid.v1.NodeService/GetInfo
    """
    import base64

    from kernel.multiaddr import parse_multiaddr
    from node.cli.output import emit
    from node.control.client import ControlClient

    with ControlClient(home) as client:
        answer = client.make_token()
        address = parse_multiaddr(client.get_status().listen)
    header = f"lucid-token-bin: {base64.b64encode(answer.token).decode()}"
    host = {"ip6": f"[{address.host}]", "onion3": f"{address.host}.onion"}.get(address.kind, address.host)
    document = {"header": header, "address": f"{host}:{address.port}", "token_ttl_s": answer.token_ttl_s}
    emit(document, header, as_json=as_json)
