"""The keys with which a node meets others."""

from dataclasses import dataclass

from kernel.domains import Network
from kernel.keys import DeviceKeys
from lucid.v1 import identity_pb2


@dataclass(frozen=True, slots=True)
class PeerKeys:
    """With what a node presents itself.

    Attributes:
        network: where signatures hold.
        device: signs what the node says; its box key opens what others seal to it.
        grants: the grant list of the owner, under which the node works.
        head_grant: lets the node write heads; None in keystores of before there were heads.
    """

    network: Network
    device: DeviceKeys
    grants: identity_pb2.Signed
    head_grant: identity_pb2.Signed | None = None
