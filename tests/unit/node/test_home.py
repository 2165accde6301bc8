import os
import subprocess
import sys
from pathlib import Path

import pytest

from kernel.errors import Conflict, LocalError, NotFound, UsageError
from node.home import Home, check_initialised, check_private, find_home, lock_holder, lock_home


def test_the_option_beats_the_variable_beats_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/someone")
    assert find_home("/a", {"LUCID_HOME": "/b"}).root == Path("/a")
    assert find_home(None, {"LUCID_HOME": "/b"}).root == Path("/b")
    assert find_home(None, {}).root == Path("/someone/.lucid")
    assert find_home("relative", {}).root == Path.cwd() / "relative"


@pytest.mark.parametrize("text", ["", "a\0b"])
def test_paths_that_are_none(text: str) -> None:
    with pytest.raises(UsageError):
        find_home(text, {})


def test_the_longest_home_is_the_one_whose_sockets_just_fit() -> None:
    room = 107 - len("/control.sock")
    assert find_home("/" + "x" * (room - 1), {}).control_socket
    with pytest.raises(UsageError, match="95 bytes long") as caught:
        find_home("/" + "x" * room, {})
    assert str(room) in caught.value.hint


def test_a_home_without_keystore_is_not_initialised(home: Home) -> None:
    with pytest.raises(NotFound) as caught:
        check_initialised(home)
    assert "init" in caught.value.hint


def test_a_home_that_others_may_change_is_refused(home: Home) -> None:
    check_private(home)
    home.root.chmod(0o777)
    with pytest.raises(Conflict) as caught:
        check_private(home)
    assert "chmod 700" in caught.value.hint


def test_a_home_has_one_user_at_a_time_and_names_it(home: Home) -> None:
    assert lock_holder(home) is None
    with lock_home(home):
        assert lock_holder(home) == os.getpid()
        with pytest.raises(Conflict, match=f"pid {os.getpid()}"), lock_home(home):
            pass
        # Whoever was refused has not taken the lock away.
        assert lock_holder(home) == os.getpid()
    assert lock_holder(home) is None
    with lock_home(home):
        pass


def test_a_killed_process_holds_nothing(home: Home) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from node.home import Home, lock_home\n"
        "with lock_home(Home(Path(sys.argv[1]))): os.kill(os.getpid(), signal.SIGKILL)"
    )
    environment = {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code, str(home.root)], env=environment, check=False)
    assert home.lock.read_text().strip().isdecimal()
    assert lock_holder(home) is None
    with lock_home(home):
        pass


def test_a_lock_that_is_a_link_is_not_followed(home: Home, tmp_path: Path) -> None:
    (tmp_path / "target").write_text("precious")
    home.lock.symlink_to(tmp_path / "target")
    with pytest.raises(LocalError), lock_home(home):
        pass
    assert (tmp_path / "target").read_text() == "precious"
