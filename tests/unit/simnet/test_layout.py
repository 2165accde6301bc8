"""The directory of a cluster."""

import socket
from pathlib import Path

import pytest

from kernel.errors import Conflict, LocalError, NotFound, UsageError
from simnet.layout import (
    SOCKET_NAME,
    Cluster,
    Layout,
    NodeEntry,
    check_layout,
    choose_layout,
    find_clusters,
    is_locked,
    lock_layout,
    read_cluster,
    write_cluster,
)

NODE = NodeEntry("/tmp/d/n0", "12D3", "/ip4/127.0.0.1/tcp/7", "127.0.0.1:7", 9)
CLUSTER = Cluster("tor", ["NumCPUs 1", "NumEntryGuards 2"], [NODE])


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_cluster(Layout(tmp_path), CLUSTER)
    assert read_cluster(Layout(tmp_path)) == CLUSTER
    assert [path.name for path in tmp_path.iterdir()] == ["cluster.json"]


def test_what_one_more_node_is_told() -> None:
    options = "NumCPUs 1\nNumEntryGuards 2"
    assert CLUSTER.environment == {"LUCID_TRANSPORT": "tor", "LUCID_TOR_OPTIONS": options}


def test_a_missing_file_is_told_from_a_damaged_one(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        read_cluster(Layout(tmp_path))
    for text in ("", "[]", '{"nodes": [1]}', '{"nodes": [{"home": "x"}]}', '{"nodes": []}', "\x00"):
        (tmp_path / "cluster.json").write_text(text)
        with pytest.raises(LocalError, match="cannot be read"):
            read_cluster(Layout(tmp_path))


def test_one_supervisor_at_a_time(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    assert not is_locked(layout)
    with lock_layout(layout):
        assert is_locked(layout)
        with pytest.raises(Conflict, match="runs in"), lock_layout(layout):
            pass
    assert not is_locked(layout)


def test_a_path_that_leaves_no_room_for_sockets_is_refused() -> None:
    longest = 107 - len("/n0/control.sock")
    check_layout(Layout(Path("/" + "x" * (longest - 1))), 10)
    with pytest.raises(UsageError) as caught:
        check_layout(Layout(Path("/" + "x" * (longest - 1))), 11)
    assert "--dir" in caught.value.hint
    with pytest.raises(UsageError):
        check_layout(Layout(Path("/" + "x" * longest)), 10)


def test_the_cluster_that_runs_is_found(tmp_path: Path) -> None:
    before = find_clusters()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / SOCKET_NAME))
        listener.listen()
        assert Layout(tmp_path) in find_clusters()
    (tmp_path / SOCKET_NAME).unlink()
    assert Layout(tmp_path) not in find_clusters()
    assert Layout(tmp_path) not in before


def test_which_cluster_is_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[Layout] = []
    monkeypatch.setattr("simnet.layout.find_clusters", lambda: found)
    assert choose_layout(str(tmp_path)) == Layout(tmp_path)
    with pytest.raises(NotFound):
        choose_layout(None)
    found.append(Layout(tmp_path))
    assert choose_layout(None) == Layout(tmp_path)
    found.append(Layout(tmp_path / "other"))
    with pytest.raises(UsageError, match="several"):
        choose_layout(None)
