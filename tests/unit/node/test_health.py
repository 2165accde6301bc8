from kernel.errors import Conflict, StoreDamaged, StoreError, StoreFull
from node.health import LEAST_FREE_BYTES, MAX_PROBLEMS, Health, find_space_problem
from node.ports import Usage

ROOMY = Usage(0, 0, 0, 1 << 40)
FULL = Usage(0, 0, 0, LEAST_FREE_BYTES - 1)


def test_a_new_node_serves() -> None:
    assert Health().serving
    assert Health().problems == []


def test_space_is_what_disk_and_quota_leave() -> None:
    assert find_space_problem(ROOMY, 0) == ""
    assert "disk is full" in find_space_problem(FULL, 0)
    used = Usage(8 << 20, 1 << 20, 1 << 30, 1 << 40)
    assert find_space_problem(used, 10 << 20) == ""
    assert "quota is used up" in find_space_problem(used, (10 << 20) - 1)


def test_a_full_store_serves_again_when_there_is_room() -> None:
    health = Health()
    health.on_write(StoreFull("no space"))
    assert not health.serving
    health.on_space(FULL, 0)
    assert len(health.problems) == 2
    health.on_space(ROOMY, 0)
    assert health.serving


def test_a_failing_disk_is_not_mended_by_room() -> None:
    health = Health()
    health.on_write(StoreError("input/output error"))
    health.on_space(ROOMY, 0)
    assert not health.serving
    assert "input/output error" in health.problems[0]
    health.on_write(None)
    assert health.serving


def test_an_error_of_the_user_is_no_trouble() -> None:
    health = Health()
    health.on_write(Conflict("not now"))
    health.on_error(Conflict("not now"))
    assert health.serving
    assert health.problems == []


def test_damage_is_remembered_once_and_bounded() -> None:
    health = Health()
    for number in range(3 * MAX_PROBLEMS):
        health.on_error(StoreDamaged(f"record {number // 2}"))
    assert health.serving
    assert len(health.problems) == MAX_PROBLEMS == len(set(health.problems))


def test_a_stopping_node_does_not_serve() -> None:
    health = Health(stopping=True)
    assert not health.serving
    assert health.problems == ["the node is shutting down"]
