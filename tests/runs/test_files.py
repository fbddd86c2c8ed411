"""Files in a run's folder: undamaged and of the right kinds."""

import io
import json
import os

import pytest
from rich.console import Console

from jaxhash.runs.evaluate_run import evaluate
from jaxhash.runs.folder import FILES, FOLDERS, check_free, print_results, read_config, read_results
from jaxhash.runs.presets import digits_hashnet_hswd
from jaxhash.utils.errors import UserError

CONFIG = digits_hashnet_hswd().to_json()


@pytest.fixture
def folder(tmp_path):
    """The folder of a run, with nothing but its configuration."""
    path = tmp_path / "run"
    path.mkdir()
    (path / "config.json").write_text(json.dumps(CONFIG))
    return path


def refused(folder):
    with pytest.raises(UserError) as caught:
        check_free(folder, "run")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "name", [*FILES, "metrics.jsonl.partial", "results.json.partial", *FOLDERS]
)
def test_links_and_pipes_under_a_runs_own_names_are_refused(folder, name):
    """A link could lead anywhere, and a pipe keeps whoever opens it waiting."""
    path, kept = folder / name, (folder / "config.json").read_text()
    for make, word in ((os.mkfifo, "a named pipe"), (lambda p: p.symlink_to("/tmp"), "link")):
        path.unlink(missing_ok=True)
        make(path)
        said = refused(folder)
        assert str(path) in said and word in said and "remove it" in said
        with pytest.raises(UserError, match=name):
            evaluate(folder, Console(quiet=True))
    path.unlink()
    (folder / "config.json").write_text(kept)
    assert not check_free(folder, "run")


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/etc/hostname")])
def test_links_and_pipes_deep_in_a_runs_folders_are_refused(folder, make):
    deep = folder / "checkpoints" / "16" / "state"
    deep.mkdir(parents=True)
    assert not check_free(folder, "run")
    make(deep / "data")
    assert str(deep / "data") in refused(folder)


def test_files_where_folders_should_be_and_the_reverse_are_refused(folder):
    (folder / "report").write_text("")
    assert "report is a file, where a folder" in refused(folder)
    (folder / "report").unlink()
    (folder / "codes.npz").mkdir()
    assert "codes.npz is a folder, where a file" in refused(folder)


def test_what_is_not_a_runs_own_may_be_anything(folder, tmp_path):
    (folder / "notes").symlink_to("/etc")
    os.mkfifo(folder / "mine")
    assert not check_free(folder, "run")
    (tmp_path / "elsewhere").symlink_to(folder)  # the folder itself may lie elsewhere
    assert not check_free(tmp_path / "elsewhere", "run")


@pytest.mark.parametrize("path", ["/proc/there/run", "/dev/null/run"])
def test_folders_that_cannot_be_made_are_refused_before_the_data_are_opened(refusal, path):
    said = refusal("train", "--run-dir", path, "--dataset", "features:nowhere.npz")
    assert f"--run-dir {path}: " in said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"batch_size": 0}, "`batch_size` must be at least 1, got 0"),
        ({"batch_size": "5"}, "'batch_size' cannot be '5'"),
        ({"batch_size": 5.0}, "'batch_size' cannot be '5.0'"),
        ({"batch_size": True}, "'batch_size' cannot be 'True'"),
        ({"bits": None}, "'bits' cannot be 'None'"),
        ({"model": "nope"}, "'model' cannot be 'nope'"),
        ({"model": ["cnn"]}, "'model' cannot be"),
        ({"protocol": None}, "'protocol' cannot be 'None'"),
        ({"flip": 1}, "'flip' cannot be '1'"),
        ({"seed": -1}, "`seed` must be at least 0"),
        ({"learning_rate": float("nan")}, "`learning_rate` must be"),
        ({"learning_rate": 10**400}, "'learning_rate' cannot be '1000"),
        ({"learning_rate": 0}, "`learning_rate` must be above 0"),
        ({"data_dir": 3}, "'data_dir' cannot be '3'"),
        ({"objective_options": 5}, "'objective_options' cannot be '5'"),
        ({"objective_options": [5]}, "'objective_options' cannot be"),
        ({"objective_options": ["color=red"]}, "has no option color"),
        ({"colour": "red"}, "there is no field 'colour'"),
        ({"head_multiplier": 1}, "whose models had other parameters"),
        ({"sweep": 3}, "'sweep' must have"),
        ({"sweep": None}, "'sweep' must have"),
        ({"sweep": {"seeds": 2, "axes": {"clip_norm": [10**400]}}}, "'sweep' must have"),
        ({"sweep": {"seeds": 2, "axes": {"clip_norm": [float("nan")]}}}, "'sweep' must have"),
        ({"sweep": {"seeds": 2, "axes": {"clip_norm": ["x"]}}}, "'sweep' must have"),
    ],
)
def test_configurations_are_checked_as_those_of_commands(folder, change, said):
    (folder / "config.json").write_text(json.dumps(CONFIG | change))
    with pytest.raises(UserError) as caught:
        read_config(folder)
    assert said in str(caught.value) and "put a sound copy back" in str(caught.value)
    assert str(folder / "config.json") in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"5", b"[]", b"\xff\xfe", b"[" * 10**5, b'{"a": 1'])
@pytest.mark.parametrize("name", ["config.json", "results.json"])
def test_json_that_is_damaged_names_file_and_remedy(folder, name, content):
    (folder / name).write_bytes(content)
    read = read_config if name == "config.json" else read_results
    with pytest.raises(UserError, match=f"{name} is damaged .*; (put|remove)") as caught:
        read(folder)
    assert "\n" not in str(caught.value)


def test_results_that_lack_what_is_shown_name_it(folder):
    (folder / "results.json").write_text('{"map": 0.5}')
    with pytest.raises(UserError, match=r"results.json is damaged \(no '\w+'\); remove it"):
        print_results(folder, read_results(folder), Console(file=io.StringIO()))
