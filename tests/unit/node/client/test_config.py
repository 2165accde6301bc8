from pathlib import Path

import pytest

from kernel.errors import UsageError
from node.client.config import ClientConfig, OnRecordingFailure, load_client_config, load_shell_config

STOP = OnRecordingFailure.STOP
FULL = """
socket = "/run/x.sock"
shell = "/bin/bash"
on_recording_failure = "stop"
record_input = true
name = "n"
tags = ["a", "b"]
"""
FULL_CONFIG = ClientConfig(Path("/run/x.sock"), Path("/bin/bash"), STOP, True, "n", ("a", "b"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "client.toml"


def environ(file: Path, **more: str) -> dict[str, str]:
    return {"LUCID_CLIENT_CONFIG": str(file), **more}


def test_everything_can_be_set(file: Path) -> None:
    file.write_text(FULL)
    assert load_client_config(environ(file)) == FULL_CONFIG
    assert load_shell_config({}, system_path=file) == (FULL_CONFIG, [])


def test_without_a_file_the_defaults_hold(tmp_path: Path) -> None:
    assert load_shell_config({}, system_path=tmp_path / "none") == (ClientConfig(), [])


def test_the_environment_counts_more_than_the_file(file: Path) -> None:
    file.write_text(FULL)
    variables = {
        "LUCID_CLIENT_RECORD_INPUT": "false",
        "LUCID_CLIENT_TAGS": "x, y,",
        "LUCID_CLIENT_NAME": "other",
        "LUCID_CLIENT_ON_RECORDING_FAILURE": "continue",
    }
    config = load_client_config(environ(file, **variables))
    assert (config.record_input, config.tags, config.name) == (False, ("x", "y"), "other")
    assert config.on_recording_failure is OnRecordingFailure.CONTINUE
    assert config.shell == Path("/bin/bash")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('socket = "relative"', "absolute path"),
        ("socket = 5", "absolute path"),
        ('shell = "/a\\u0000b"', "absolute path"),
        ('on_recording_failure = "maybe"', '"continue" or "stop"'),
        ("on_recording_failure = []", '"continue" or "stop"'),
        ("record_input = 1", "true or false"),
        ("name = 1", "a string"),
        ('tags = "a"', "a list of strings"),
        ("tags = [1]", "a list of strings"),
        ("nonsense", "no TOML"),
        ('name = "\\udc00"', "no TOML"),
    ],
)
def test_wrong_settings(file: Path, text: str, said: str) -> None:
    file.write_text(text)
    with pytest.raises(UsageError, match=said):
        load_client_config(environ(file))
    config, problems = load_shell_config({}, system_path=file)
    assert config == ClientConfig()
    assert said in str(problems[0])


def test_unknown_settings_name_the_nearest(file: Path) -> None:
    file.write_text('sockt = "/x"')
    with pytest.raises(UsageError) as caught:
        load_client_config(environ(file))
    assert 'Did you mean "socket"?' in caught.value.hint
    file.write_text("")
    with pytest.raises(UsageError, match="the environment"):
        load_client_config(environ(file, LUCID_CLIENT_SHEL="/x"))


@pytest.mark.parametrize("contents", [b"\xff", b"x" * 70_000])
def test_files_that_are_none(file: Path, contents: bytes) -> None:
    file.write_bytes(contents)
    with pytest.raises(UsageError):
        load_client_config(environ(file))
    assert load_shell_config({}, system_path=file)[1]


def test_a_named_file_must_exist(file: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        load_client_config(environ(file))


def test_a_broken_file_cannot_let_anybody_in_against_its_word(file: Path) -> None:
    for text in (
        'on_recording_failure = "stop"\nsockt = "/x"\nshell = "/bin/bash"',
        'on_recording_failure = "stop"\n[[[',
        "on_recording_failure = stop\n",
        "  'on_recording_failure'='stop' # nothing unrecorded\nname = '",
    ):
        file.write_text(text)
        config, problems = load_shell_config({}, system_path=file)
        assert problems
        assert config.on_recording_failure is STOP


def test_a_broken_file_locks_nobody_out(file: Path) -> None:
    for text in (
        'sockt = "/x"\nshell = "/bin/bash"',
        '# on_recording_failure = "stop"\nsockt = "/x"\nshell = "/bin/bash"',
    ):
        file.write_text(text)
        config, problems = load_shell_config({}, system_path=file)
        assert problems
        assert config.on_recording_failure is OnRecordingFailure.CONTINUE
        assert config.shell == Path("/bin/bash")  # what is right counts


def test_a_file_that_cannot_be_read_may_say_stop(tmp_path: Path) -> None:
    config, problems = load_shell_config({}, system_path=tmp_path)
    assert problems
    assert config.on_recording_failure is STOP


def test_the_administrators_file_cannot_be_overridden(file: Path, tmp_path: Path) -> None:
    file.write_text(FULL)
    own = tmp_path / "own.toml"
    own.write_text('on_recording_failure = "continue"')
    variables = environ(own, LUCID_CLIENT_ON_RECORDING_FAILURE="continue")
    assert load_shell_config(variables, system_path=file) == (FULL_CONFIG, [])
    config, _ = load_shell_config(environ(own, LUCID_CLIENT_NAME="mine"), system_path=tmp_path / "none")
    assert config.name == "mine"
