import json
from collections.abc import Callable
from pathlib import Path

import pytest

from kernel.errors import StoreDamaged, StoreTooNew
from kernel.ports import Rng
from storage.faults import Died
from storage.memory_files import MemoryFiles
from storage.schema import PRESENT, VERSION, Schema, decode_format, encode_format, read_version, write_version

MakeRng = Callable[[int], Rng]
VECTORS = json.loads((Path(__file__).parents[2] / "vectors/store.json").read_text())


def test_vectors() -> None:
    for vector in VECTORS["formats"]:
        assert encode_format(vector["version"]).decode() == vector["file"]
        assert decode_format(vector["file"].encode()) == vector["version"]


def test_any_single_flip_leaves_the_version_readable() -> None:
    whole = encode_format(12)
    for bit in range(8 * len(whole)):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        assert decode_format(bytes(flipped)) == 12


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"lucid store 1",
        b"lucid store 1 0000000000000000\n" * 2,
        b"\xff" * 100,
        "lucid store ².".encode(),
    ],
)
def test_what_names_no_version_is_damaged(make_rng: MakeRng, data: bytes) -> None:
    files = MemoryFiles(make_rng(1))
    files.create("format", [data])
    with pytest.raises(StoreDamaged):
        read_version(files, PRESENT)


def test_a_store_without_a_version_has_none(make_rng: MakeRng) -> None:
    assert read_version(MemoryFiles(make_rng(1)), PRESENT) is None


def test_a_newer_store_is_refused_in_clear_words(make_rng: MakeRng) -> None:
    files = MemoryFiles(make_rng(1))
    write_version(files, VERSION + 1)
    with pytest.raises(
        StoreTooNew, match=f"version {VERSION + 1}; this version of the software knows {VERSION}"
    ):
        read_version(files, PRESENT)
    assert read_version(files, Schema(VERSION + 1, {})) == VERSION + 1


def test_a_huge_format_file_is_not_read_into_memory(make_rng: MakeRng) -> None:
    files = MemoryFiles(make_rng(1))
    files.create("format", [encode_format(1), bytes(1 << 20)])
    sizes = []
    real = files.read

    def read(path: str, offset: int = 0, size_bytes: int | None = None) -> bytes:
        sizes.append(size_bytes)
        return real(path, offset, size_bytes)

    files.read = read  # type: ignore[method-assign]
    assert read_version(files, PRESENT) == 1
    assert sizes == [4096]


def test_writing_is_durable_and_whole_or_not_at_all(make_rng: MakeRng) -> None:
    for seed in range(40):
        files = MemoryFiles(make_rng(seed))
        write_version(files, 1)
        files.faults.die_at = files.faults.operations + seed % 4
        with pytest.raises(Died):
            write_version(files, 2)
        files.power_cut()
        assert read_version(files, Schema(2, {})) in (1, 2)
