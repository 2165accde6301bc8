"""Witnesses that lie. See `adversaries`."""

from blake3 import blake3

from dht.ports import PeerIdentity
from dht.witnessing import Witnesses
from kernel.attestation import sign_attestation
from kernel.domains import Domain
from kernel.errors import Conflict
from kernel.signing import SigningKey
from lucid.v1 import identity_pb2, session_pb2, witness_pb2

Attest = witness_pb2.AttestRequest
Attested = witness_pb2.AttestResponse
GetAttested = witness_pb2.GetAttestedRequest
GotAttested = witness_pb2.GetAttestedResponse

FAR = 1000
"""So many checkpoints more than there are does a witness make up."""


class CoSignsAnything(Witnesses):
    """Co-signs whatever is brought, forks too, and knows of nothing that it has co-signed."""

    async def attest(self, request: Attest, caller: PeerIdentity) -> Attested:
        """See `Witnesses.attest`."""
        return Attested(attestation=self._sign(request.checkpoint, _read(request.checkpoint).session_id))

    async def get_attested(self, request: GetAttested) -> GotAttested:
        """See `Witnesses.get_attested`."""
        return GotAttested()

    def _sign(self, checkpoint: identity_pb2.Signed, session_id: bytes) -> identity_pb2.Signed:
        return sign_attestation(self._key, self._network, checkpoint, session_id, self._clock.wall_ns())


class WrongHash(CoSignsAnything):
    """Attests another checkpoint than it was asked to."""

    async def attest(self, request: Attest, caller: PeerIdentity) -> Attested:
        """See `Witnesses.attest`."""
        other = identity_pb2.Signed(payload=request.checkpoint.payload + b"\0")
        return Attested(attestation=self._sign(other, _read(request.checkpoint).session_id))


class WrongSession(CoSignsAnything):
    """Attests the checkpoint as if it were of another session."""

    async def attest(self, request: Attest, caller: PeerIdentity) -> Attested:
        """See `Witnesses.attest`."""
        return Attested(attestation=self._sign(request.checkpoint, bytes(16)))


class WrongSignature(CoSignsAnything):
    """Attests what is right, in its own name, with a signature that does not hold."""

    async def attest(self, request: Attest, caller: PeerIdentity) -> Attested:
        """See `Witnesses.attest`."""
        response = await super().attest(request, caller)
        signature = response.attestation.signature
        response.attestation.signature = bytes((signature[0] ^ 1,)) + signature[1:]
        return response


class OtherName(CoSignsAnything):
    """Attests what is right with a key that it has made up, as if there were one more witness."""

    async def attest(self, request: Attest, caller: PeerIdentity) -> Attested:
        """See `Witnesses.attest`."""
        key = SigningKey.from_seed(blake3(self._key.public_key).digest())
        session_id = _read(request.checkpoint).session_id
        now_ns = self._clock.wall_ns()
        return Attested(
            attestation=sign_attestation(key, self._network, request.checkpoint, session_id, now_ns)
        )


class RefusesAll(Witnesses):
    """Calls every checkpoint a fork, and shows none."""

    async def attest(self, request: Attest, caller: PeerIdentity) -> Attested:
        """See `Witnesses.attest`."""
        raise Conflict("a fork")

    async def get_attested(self, request: GetAttested) -> GotAttested:
        """See `Witnesses.get_attested`."""
        return GotAttested()


class Forgets(Witnesses):
    """Co-signs what is right, and knows of nothing that it has co-signed."""

    async def get_attested(self, request: GetAttested) -> GotAttested:
        """See `Witnesses.get_attested`."""
        return GotAttested()


class ServesFirst(Witnesses):
    """Co-signs what is right, and shows the first that it co-signed of each session, however many came."""

    _firsts: dict[bytes, GotAttested] | None = None

    async def attest(self, request: Attest, caller: PeerIdentity) -> Attested:
        """See `Witnesses.attest`."""
        response = await super().attest(request, caller)
        self._firsts = self._firsts or {}
        first = GotAttested(checkpoint=request.checkpoint, attestation=response.attestation)
        self._firsts.setdefault(_read(request.checkpoint).session_id, first)
        return response

    async def get_attested(self, request: GetAttested) -> GotAttested:
        """See `Witnesses.get_attested`."""
        return (self._firsts or {}).get(request.session_id, GotAttested())


class MakesUp(CoSignsAnything):
    """Refuses everything as old: shows a checkpoint far ahead, which nobody but itself has signed.

    With it, a store that is whole would look like an old copy.
    """

    _seen: dict[bytes, session_pb2.Checkpoint] | None = None

    async def attest(self, request: Attest, caller: PeerIdentity) -> Attested:
        """See `Witnesses.attest`."""
        checkpoint = _read(request.checkpoint)
        self._seen = self._seen or {}
        self._seen[checkpoint.session_id] = checkpoint
        raise Conflict("a fork")

    async def get_attested(self, request: GetAttested) -> GotAttested:
        """See `Witnesses.get_attested`."""
        made = session_pb2.Checkpoint()
        made.CopyFrom((self._seen or {}).get(request.session_id, made))
        made.session_id, made.sequence = request.session_id, made.sequence + FAR
        signed = self._key.sign(Domain.CHECKPOINT, self._network, made.SerializeToString(deterministic=True))
        return GotAttested(checkpoint=signed, attestation=self._sign(signed, request.session_id))


class StealsSessions(MakesUp):
    """The same, with another session's checkpoint, which the device did sign."""

    _newest: identity_pb2.Signed | None = None

    async def attest(self, request: Attest, caller: PeerIdentity) -> Attested:
        """See `Witnesses.attest`."""
        best = self._newest
        if best is None or _read(request.checkpoint).sequence > _read(best).sequence:
            self._newest = request.checkpoint
        return await CoSignsAnything.attest(self, request, caller)

    async def get_attested(self, request: GetAttested) -> GotAttested:
        """See `Witnesses.get_attested`."""
        if self._newest is None or self._newest.public_key != request.device:
            return GotAttested()
        attestation = self._sign(self._newest, request.session_id)
        return GotAttested(checkpoint=self._newest, attestation=attestation)


def _read(signed: identity_pb2.Signed) -> session_pb2.Checkpoint:
    return session_pb2.Checkpoint.FromString(signed.payload)


LYING_WITNESSES: dict[str, type[Witnesses]] = {
    "cosigns-anything": CoSignsAnything,
    "attests-wrong-hash": WrongHash,
    "attests-wrong-session": WrongSession,
    "attests-wrong-signature": WrongSignature,
    "attests-in-other-name": OtherName,
    "refuses-all": RefusesAll,
    "forgets-attested": Forgets,
    "serves-first-attested": ServesFirst,
    "makes-up-checkpoints": MakesUp,
    "steals-checkpoints": StealsSessions,
}
