"""`lucid-node id`."""

from typing import TYPE_CHECKING

from node.cli.options import command

if TYPE_CHECKING:
    from node.home import Home


@command("id")
def id_command(home: "Home", as_json: bool) -> None:
    """Shows the public part of the keystore; needs neither daemon nor passphrase."""
    from node.cli.output import emit, format_facts
    from node.identity.keystore import read_public

    identity = read_public(home.keystore)
    document = {
        "peer_id": identity.peer_id,
        "owner_id": identity.owner_id,
        "device": identity.device.hex(),
        "network": identity.network.name,
        "home": str(home.root),
    }
    names = ("Node ID", "Owner ID", "Device", "Network", "Home")
    emit(document, format_facts(list(zip(names, document.values(), strict=True))), as_json=as_json)
