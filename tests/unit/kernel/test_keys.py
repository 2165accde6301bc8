from collections.abc import Callable
from typing import Any

import pytest

from kernel.domains import Label
from kernel.kdf import derive
from kernel.keys import DeviceKeys, OwnerKeys
from kernel.onion import decode_onion
from kernel.sealing import compute_x25519_public
from kernel.signing import SigningKey

PUBLIC_KEY: dict[str, Callable[[bytes], bytes]] = {
    "ed25519": lambda seed: SigningKey.from_seed(seed).public_key,
    "x25519": compute_x25519_public,
}
SECP256K1_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


@pytest.mark.parametrize("name", ["owner", "device"])
def test_vectors_of_every_derivation(load_vectors: Callable[[str], Any], name: str) -> None:
    vector = load_vectors("identity")[name]
    for key in vector["keys"]:
        context = bytes.fromhex(key["context"])
        private = derive(bytes.fromhex(vector["root"]), Label(key["label"]), context)
        assert private.hex() == key["private"]
        if key["kind"] in PUBLIC_KEY:
            assert PUBLIC_KEY[key["kind"]](private).hex() == key["public"]
        if key["kind"] == "secp256k1":
            assert 0 < int.from_bytes(private, "big") < SECP256K1_ORDER


def test_the_keys_in_use_are_those_of_the_vectors(load_vectors: Callable[[str], Any]) -> None:
    vectors = load_vectors("identity")
    keys = {
        (key["label"], key["context"]): key for name in ("owner", "device") for key in vectors[name]["keys"]
    }
    owner = OwnerKeys.from_root(bytes.fromhex(vectors["owner"]["root"]))
    device = DeviceKeys.from_root(bytes.fromhex(vectors["device"]["root"]))
    assert owner.identity.public_key.hex() == keys["lucid owner", ""]["public"]
    assert device.identity.public_key.hex() == keys["lucid identity", ""]["public"]
    assert device.box.hex() == keys["lucid box", ""]["private"]
    for index in (0, 1, 4294967295):
        assert owner.seal(index).hex() == keys["lucid seal", f"{index:08x}"]["private"]
    for index in (0, 1):
        public = bytes.fromhex(keys["lucid onion", f"{index:08x}"]["public"])
        assert decode_onion(device.onion(index).host) == public


def test_every_label_of_a_root_has_a_vector(load_vectors: Callable[[str], Any]) -> None:
    vectors = load_vectors("identity")
    found = {key["label"] for name in ("owner", "device") for key in vectors[name]["keys"]}
    members = list(Label)
    assert found == {label.value for label in members[: members.index(Label.SEALING)]}


@pytest.mark.parametrize("size", [0, 16, 31, 33])
def test_a_root_of_another_length_is_refused(size: int) -> None:
    for kind in (OwnerKeys, DeviceKeys):
        with pytest.raises(ValueError, match="root"):
            kind.from_root(bytes(size))


def test_text_forms_hold_no_secret() -> None:
    root = bytes(range(32))
    for keys in (OwnerKeys.from_root(root), DeviceKeys.from_root(root)):
        text = f"{keys} {keys!r}"
        assert keys.identity.public_key.hex() in text
        assert root.hex() not in text and repr(root) not in text
