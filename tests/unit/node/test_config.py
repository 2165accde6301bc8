import pytest

from kernel.errors import UsageError
from node.config import SETTINGS, get_default, load_config
from node.home import Home
from node.setting_values import DEFAULT_PORT, get_onion_port

PEER_ID = "12D3KooWGvkQVRi3BQxSocaVi1u5T3hggVn3zJGexxZ6gTPQcJLX"
ONION = "hnvcppgow2sc2yvdvdicu3ynonsteflxdxrehjr2ybekdc2z3iu63yid"


def test_defaults(home: Home) -> None:
    config = load_config(home, {}, {})
    assert (config.network, config.quota, config.metrics_listen) == ("dev", 0, "127.0.0.1:0")


def test_flags_beat_environment_beats_file_beats_defaults(home: Home) -> None:
    home.config.write_text('quota = "1G"\nretention = "1d"\nmax_recordings = 3\n')
    environment = {"LUCID_QUOTA": "2G", "LUCID_RETENTION": "2d", "PATH": "x", "LUCID_HOME": "y"}
    config = load_config(home, environment, {"quota": "3G", "retention": None})
    assert (config.quota, config.retention, config.max_recordings) == (3 << 30, 2 * 86400, 3)


@pytest.mark.parametrize(("name", "meant"), [("quotta", "quota"), ("metric_listen", "metrics_listen")])
def test_unknown_names_lead_to_the_nearest(home: Home, name: str, meant: str) -> None:
    home.config.write_text(f"{name} = 1\n")
    with pytest.raises(UsageError, match=name) as caught:
        load_config(home, {}, {})
    assert f'"{meant}"' in caught.value.hint
    home.config.unlink()
    with pytest.raises(UsageError) as caught:
        load_config(home, {f"LUCID_{name.upper()}": "1"}, {})
    assert f'"LUCID_{meant.upper()}"' in caught.value.hint


def test_variables_of_the_client_are_not_ours(home: Home) -> None:
    load_config(home, {"LUCID_CLIENT_SHELL": "x", "LUCID_CLIENT_CONFIG": "y", "LUCID_SESSION_ID": "z"}, {})


@pytest.mark.parametrize(
    "line",
    [
        "quota = -1",
        'quota = "much"',
        "quota = true",
        "quota = [1]",
        'network = "moon"',
        'metrics_listen = "0.0.0.0:9000"',
        'metrics_listen = "192.0.2.1:9000"',
        'metrics_listen = "localhost:9000"',
        'metrics_listen = "127.0.0.1:99999"',
        'metrics_listen = "127.0.0.1"',
        'record_socket = "relative"',
        f'record_socket = "/{"x" * 107}"',
        'log_level = "loud"',
        "workers = 1000",
        "max_recordings = 0",
        "this is no TOML",
        "quota = 1\nquota = 2",
        "[table]\nquota = 1",
        "# " + "x" * 70_000,
    ],
)
def test_bad_settings_are_named(home: Home, line: str) -> None:
    home.config.write_text(line + "\n")
    with pytest.raises(UsageError, match=r"lucid\.toml"):
        load_config(home, {}, {})


def test_bytes_that_are_no_text_are_no_configuration(home: Home) -> None:
    home.config.write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError):
        load_config(home, {}, {})


def test_a_configuration_that_cannot_be_read_is_not_passed_over(home: Home) -> None:
    home.config.mkdir()
    with pytest.raises(UsageError, match="cannot be read"):
        load_config(home, {}, {})


def test_a_bad_flag_is_named_as_one(home: Home) -> None:
    with pytest.raises(UsageError, match="--metrics-listen"):
        load_config(home, {}, {"metrics_listen": "0.0.0.0:1"})


def test_every_setting_has_a_meaning_and_a_sound_default(home: Home) -> None:
    for name, setting in SETTINGS.items():
        assert setting.metadata["meaning"]
        if setting.default != "":
            assert setting.metadata["parse"](get_default(name)) == setting.default


def test_peers_come_from_file_environment_and_flags(home: Home) -> None:
    first, second = "/ip4/127.0.0.1/tcp/4001", "/ip6/::1/tcp/4002"
    home.config.write_text(f'transport = "loopback"\npeers = ["{first}", "{second}"]\nlisten = "{first}"\n')
    config = load_config(home, {}, {})
    assert [str(address) for address in config.peers] == [first, second]
    assert str(config.listen) == first
    config = load_config(home, {"LUCID_PEERS": f"{second}, {second}"}, {"listen": "/ip6/::1/tcp/0"})
    assert [str(address) for address in config.peers] == [second]
    assert str(config.listen) == "/ip6/::1/tcp/0"
    assert load_config(home, {"LUCID_LISTEN": ""}, {}).listen == ""


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"listen": "/ip4/10.0.0.1/tcp/1"}, "--listen.*no loopback address"),
        ({"listen": f"/onion3/{ONION}:1"}, "no place to listen on"),
        ({"listen": f"/ip4/127.0.0.1/tcp/1/p2p/{PEER_ID}"}, "no place to listen on"),
        ({"listen": "onion:0"}, "from 1 to 65535"),
        ({"listen": "onion:65536"}, "from 1 to 65535"),
        ({"listen": "onion:"}, "no place to listen on"),
        ({"peers": "127.0.0.1:4001"}, "--peer.*no address of a node"),
        ({"peers": "/ip4/127.0.0.1/tcp/0"}, "each with a port"),
        ({"peers": " ".join(f"/ip4/127.0.0.1/tcp/{port}" for port in range(1, 66))}, "65 peers"),
    ],
)
def test_addresses_that_no_node_may_have_are_refused(home: Home, flags: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_config(home, {}, flags)


LOOPBACK = "/ip4/127.0.0.1/tcp/1"
CLEARNET = "/ip4/192.0.2.1/tcp/1"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"peers": LOOPBACK}, "not reached over the transport tor"),
        ({"listen": LOOPBACK}, "does not go with the transport tor"),
        ({"peers": CLEARNET}, "no loopback address: nodes are reached over onion services alone"),
        ({"transport": "loopback", "peers": CLEARNET}, "no loopback address"),
        ({"transport": "loopback", "peers": f"/onion3/{ONION}:1"}, "not reached over the transport loopback"),
        ({"transport": "loopback", "listen": "onion"}, "does not go with the transport loopback"),
        ({"transport": "clearnet"}, "not one of tor, loopback"),
        ({"peers": "/onion3/expyuzz4wqqyqhjn:80"}, "no address of a node"),
        ({"peers": f"/onion3/{ONION[:-1]}e:1"}, "version"),
        ({"peers": f"/onion3/{'b' if ONION[0] != 'b' else 'c'}{ONION[1:]}:1"}, "checksum"),
    ],
)
def test_nothing_but_the_chosen_transport_is_taken(home: Home, flags: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_config(home, {}, flags)


def test_tor_is_the_default_and_its_service_has_a_port(home: Home) -> None:
    config = load_config(home, {}, {"peers": f"/onion3/{ONION}:1"})
    assert (config.transport, get_onion_port(config.listen)) == ("tor", 0)
    assert get_onion_port(load_config(home, {}, {"listen": "onion"}).listen) == DEFAULT_PORT
    assert get_onion_port(load_config(home, {}, {"listen": "onion:80"}).listen) == 80


def test_lines_for_tor_come_from_arrays_lines_and_repeated_flags(home: Home) -> None:
    home.config.write_text(
        'tor_options = ["NumCPUs 1", "EntryNodes a, b"]\ntor_bridges = ["192.0.2.3:1 AB"]\n'
    )
    config = load_config(home, {}, {})
    assert config.tor_options == ("NumCPUs 1", "EntryNodes a, b")
    assert config.tor_bridges == ("192.0.2.3:1 AB",)
    assert load_config(home, {"LUCID_TOR_OPTIONS": "NumCPUs 2\n\n"}, {}).tor_options == ("NumCPUs 2",)


def test_owners_to_keep_things_for_are_named_by_their_ids(home: Home) -> None:
    ids = ["ab" * 32, "01" * 32]
    home.config.write_text(f"hosting_for = {ids!r}")
    assert load_config(home, {}, {}).hosting_for == tuple(map(bytes.fromhex, ids))
    named = load_config(home, {"LUCID_HOSTING_FOR": ids[1]}, {})
    assert named.hosting_for == (b"\x01" * 32,)
    assert load_config(home, {}, {"hosting_for": "none"}).hosting_for == (bytes(32),)
    for text in ("ab", "AB" * 32, "none " + ids[0], " ".join(["ab" * 32] * 257)):
        with pytest.raises(UsageError, match="owner IDs"):
            load_config(home, {}, {"hosting_for": text})
