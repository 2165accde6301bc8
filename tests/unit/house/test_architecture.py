"""The rules between rooms that neither import-linter nor ruff can state by themselves."""

import re
import sys
import tomllib
from pathlib import Path

import grimp
import pytest

# What node/ plugs together; none of it may know how messages travel.
ROOMS = ("kernel", "session", "storage", "dht")
MAX_LINES = 400
VAGUE = {"utils", "util", "helpers", "helper", "misc", "common"}


def find_transport_imports(graph: grimp.ImportGraph, rooms: tuple[str, ...]) -> set[tuple[str, str]]:
    """Imports of generated gRPC stubs by modules of `rooms`, also those inside functions."""
    return {
        (module, imported)
        for module in graph.modules
        if module.split(".")[0] in rooms
        for imported in graph.find_modules_directly_imported_by(module)
        if imported.endswith("_pb2_grpc")
    }


def is_shipped(path: str) -> bool:
    return path.endswith(".py") and path.split("/")[0] in (*ROOMS, "node", "simnet")


def test_transport_imports_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("wire_sample", "room_sample"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
    (tmp_path / "wire_sample/control_pb2_grpc.py").touch()
    (tmp_path / "room_sample/flow.py").write_text("def f():\n    from wire_sample import control_pb2_grpc\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    graph = grimp.build_graph("room_sample", "wire_sample", cache_dir=None)
    assert find_transport_imports(graph, ("room_sample",)) == {
        ("room_sample.flow", "wire_sample.control_pb2_grpc")
    }


def test_rooms_do_not_import_transport() -> None:
    graph = grimp.build_graph(*ROOMS, "lucid", cache_dir=None)
    assert "lucid.v1.control_pb2_grpc" in graph.modules
    assert find_transport_imports(graph, ROOMS) == set()


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_keeps_the_list_of_banned_names(room: str, root: Path) -> None:
    config = tomllib.loads((root / room / "ruff.toml").read_text())
    assert config["extend"] == "../ruff-rooms.toml"
    assert set(config) <= {"extend", "lint"}
    assert set(config.get("lint", {})) <= {"extend-per-file-ignores"}


@pytest.mark.parametrize("room", ROOMS)
def test_exemptions_name_files_that_exist(room: str, root: Path) -> None:
    lint = tomllib.loads((root / room / "ruff.toml").read_text()).get("lint", {})
    assert [
        name for name in lint.get("extend-per-file-ignores", {}) if not (root / room / name).is_file()
    ] == []


def test_what_every_room_bans_holds_for_all_code(root: Path) -> None:
    def read_bans(lint: dict[str, dict[str, dict[str, object]]]) -> set[str]:
        return set(lint["flake8-tidy-imports"]["banned-api"])

    everywhere = read_bans(tomllib.loads((root / "pyproject.toml").read_text())["tool"]["ruff"]["lint"])
    assert everywhere < read_bans(tomllib.loads((root / "ruff-rooms.toml").read_text())["lint"])


def test_one_module_knows_libp2p(texts: dict[str, str]) -> None:
    """It is slow to load and large: who imports it decides when."""
    importing = re.compile(r"""(?:^\s*(?:from|import)\s+|import_module\(["'])(?:libp2p|multiaddr)\b""", re.M)
    found = [path for path, text in texts.items() if is_shipped(path) and importing.search(text)]
    assert found == ["node/identity/peer_record.py"]


def test_a_file_is_about_one_thing(texts: dict[str, str]) -> None:
    lengths = {path: text.count("\n") for path, text in texts.items() if is_shipped(path)}
    assert {path: lines for path, lines in lengths.items() if lines > MAX_LINES} == {}


def test_names_say_what_is_inside(texts: dict[str, str]) -> None:
    assert [path for path in texts if VAGUE & {Path(part).stem for part in Path(path).parts}] == []
