import pytest
from blake3 import blake3

from kernel.domains import NETWORKS, Domain, Label, Network, get_network
from kernel.errors import UsageError


def test_domains_and_labels_are_unique_ascii_and_short() -> None:
    names = [*Domain.__members__.values(), *Label.__members__.values()]
    texts = [name.value for name in names]
    assert len(set(texts)) == len(texts) >= 21
    for text in texts:
        assert text.isascii() and 0 < len(text) < 256 and text.startswith("lucid ")


def test_networks_have_distinct_ids() -> None:
    assert NETWORKS["dev"].id == blake3(b"lucid network dev").digest()
    assert NETWORKS["dev"].fork_version == 0
    assert len({network.id for network in NETWORKS.values()}) == len(NETWORKS)
    assert all(name == network.name for name, network in NETWORKS.items())


def test_an_unknown_network_is_refused_by_name() -> None:
    assert get_network("dev") is NETWORKS["dev"]
    with pytest.raises(UsageError, match="'moon'") as caught:
        get_network("moon")
    assert "dev" in caught.value.hint


@pytest.mark.parametrize(("size", "version"), [(31, 0), (33, 0), (32, -1), (32, 1 << 32)])
def test_an_impossible_network_is_refused(size: int, version: int) -> None:
    with pytest.raises(ValueError, match="network ID"):
        Network("x", bytes(size), version)
