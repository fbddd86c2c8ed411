"""One training at a time writes into a folder."""

import errno
import json
import signal
import subprocess
import sys

import pytest

from jaxhash.runs.folder import open_folder
from jaxhash.runs.presets import digits_hashnet_hswd
from jaxhash.utils.errors import UserError

HOLD = """
import pathlib, sys, time
from jaxhash.runs import folder as folder_module
from jaxhash.runs.folder import open_folder
with open_folder(pathlib.Path(sys.argv[1]), {"bits": 16}):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_second_training_is_kept_out_until_the_first_ends(tmp_path):
    folder = tmp_path / "runs" / "one"
    with open_folder(folder, {"bits": 16}):
        with (
            pytest.raises(UserError, match="another training is writing into .*one; choose"),
            open_folder(folder, {"bits": 32}),
        ):
            raise AssertionError
        assert json.loads((folder / "config.json").read_text()) == {"bits": 16}
        with open_folder(tmp_path / "runs" / "other", {"bits": 16}):
            pass
    with pytest.raises(ZeroDivisionError), open_folder(folder, {"bits": 16}):
        1 / 0  # noqa: B018
    with open_folder(folder, {"bits": 32}):
        assert json.loads((folder / "config.json").read_text()) == {"bits": 32}


def test_a_lock_that_is_a_link_is_not_followed(tmp_path):
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="lock"), open_folder(tmp_path, {"bits": 16}):
        raise AssertionError
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_a_killed_training_holds_nothing(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(UserError), open_folder(tmp_path, {"bits": 16}):
            pass
        other.send_signal(signal.SIGKILL)
        other.wait()
    with open_folder(tmp_path, {"bits": 16}):
        pass


def test_a_file_system_without_locks_keeps_nobody_out(tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr("jaxhash.utils.files.fcntl.flock", flock)
    with open_folder(tmp_path, {}), open_folder(tmp_path, {}):
        pass


def test_the_command_line_says_so(tmp_path, monkeypatch, refusal):
    monkeypatch.chdir(tmp_path)
    with open_folder(tmp_path / "run", digits_hashnet_hswd().to_json()):
        line = refusal("train", "--run-dir", "run")
    assert line == (
        "jaxhash: another training is writing into run; choose another --run-dir, or wait\n"
    )
