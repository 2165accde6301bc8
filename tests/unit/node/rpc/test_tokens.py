import pytest

from dht.ports import PeerIdentity
from node.adapters import SystemEntropy
from node.rpc import tokens
from node.rpc.tokens import MAX_TOKENS_PER_PEER, TOKEN_TTL_S, Caller, Tokens


class HeldClock:
    now_ns = 0

    def wall_ns(self) -> int:
        return self.now_ns

    def monotonic_ns(self) -> int:
        return self.now_ns

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("nobody waits for a token")


def identity(number: int) -> PeerIdentity:
    return PeerIdentity(bytes([number]) * 32, b"o" * 32, b"b" * 32)


def make() -> tuple[Tokens, HeldClock]:
    clock = HeldClock()
    return Tokens(clock, SystemEntropy()), clock


def test_a_token_stands_for_its_peer_until_it_ends() -> None:
    issued, clock = make()
    token = issued.issue(Caller(identity(1)))
    assert len(token) == 32
    assert issued.find(token) == Caller(identity(1))
    clock.now_ns = TOKEN_TTL_S * 10**9 - 1
    assert issued.find(token) == Caller(identity(1))
    clock.now_ns += 1
    assert issued.find(token) is None
    assert issued.find(token) is None


@pytest.mark.parametrize("token", [b"", b"x" * 32, b"x" * 31, b"x" * 5000])
def test_what_was_never_issued_stands_for_nobody(token: bytes) -> None:
    issued, _ = make()
    issued.issue(Caller(identity(1)))
    assert issued.find(token) is None


def test_memory_holds_no_token() -> None:
    issued, _ = make()
    token = issued.issue(Caller(identity(1)))
    assert token not in issued._callers
    assert token.hex() not in repr(vars(issued))


def test_a_peer_has_few_and_the_oldest_one_ends() -> None:
    issued, _ = make()
    other = issued.issue(Caller(identity(2)))
    owner = issued.issue(Caller(identity(1), is_owner=True))
    mine = [issued.issue(Caller(identity(1))) for _ in range(MAX_TOKENS_PER_PEER + 1)]
    assert issued.find(mine[0]) is None
    assert all(issued.find(token) for token in mine[1:])
    assert issued.find(other)
    assert issued.find(owner) == Caller(identity(1), is_owner=True)


def test_their_number_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "MAX_TOKENS", 3)
    issued, _ = make()
    made = [issued.issue(Caller(identity(number))) for number in range(4)]
    assert [issued.find(token) is not None for token in made] == [False, True, True, True]


def test_strangers_push_out_no_tokens_of_known_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "MAX_TOKENS", 4)
    issued = Tokens(HeldClock(), SystemEntropy(), lambda device: device == identity(1).device)
    kept = [issued.issue(Caller(identity(1))), issued.issue(Caller(identity(9), is_owner=True))]
    strangers = [issued.issue(Caller(identity(number))) for number in range(2, 9)]
    assert None not in [issued.find(token) for token in kept]
    assert [issued.find(token) is not None for token in strangers] == [False] * 5 + [True] * 2
