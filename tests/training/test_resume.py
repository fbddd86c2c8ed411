"""A run that is stopped anywhere and started again ends with the bits of one that was not."""

import shutil
import signal
import subprocess

import pytest
from rich.console import Console
from trainings import (
    FLAGS,
    assert_same_run,
    assert_same_training,
    config,
    results_of,
    signal_a_training,
    terminate_at,
    train_with_a_kill,
    train_with_an_interruption,
)

from jaxhash.cli.main import RESUME_ME
from jaxhash.runs import train_run as run
from jaxhash.runs.evaluate_run import evaluate
from jaxhash.runs.metrics_file import read_metrics
from jaxhash.training import loop
from jaxhash.training.checkpoint import Checkpoints
from jaxhash.utils.errors import Stopped, UserError

pytestmark = pytest.mark.usefixtures("plotless")


@pytest.mark.slow
# Before the first checkpoint, and amid an epoch.
@pytest.mark.parametrize("at", [pytest.param(3, marks=pytest.mark.slow), 13])
def test_interrupted_and_started_again(undisturbed, tmp_path, console, monkeypatch, at):
    again = config(tmp_path / "run")
    train_with_an_interruption(again, console, monkeypatch, at=at)
    assert_same_run(undisturbed, again)


@pytest.mark.slow
def test_a_bank_of_the_last_rows_goes_on_where_it_was(tmp_path, console, monkeypatch):
    """Of 250 rows, of which 13 batches of 100 have filled five rounds and a part."""
    options = {"objective_options": ("bank_size=250",)}
    one, other = (config(tmp_path / name, **options) for name in ("one", "other"))
    run.train(one, console)
    train_with_an_interruption(other, console, monkeypatch, at=13)
    assert_same_run(one, other)


def test_killed_and_started_again(undisturbed, tmp_path, console):
    again = config(tmp_path / "run")
    train_with_a_kill(again, FLAGS, console, after=5)
    assert_same_run(undisturbed, again)


@pytest.mark.slow
def test_terminated_and_started_again(undisturbed, tmp_path, console):
    """SIGTERM leaves a checkpoint of the step under way, and a status that asks for another start."""
    again = config(tmp_path / "run", checkpoint_every=1000)
    with pytest.MonkeyPatch.context() as patched:  # the first checkpoint comes by the signal alone
        patched.setattr("jaxhash.training.loop._report", terminate_at(13))
        with pytest.raises(Stopped, match="step 14 is saved, and the same command goes on"):
            run.train(again, console)
    with Checkpoints(again.run.run_dir / "checkpoints") as checkpoints:
        assert checkpoints.steps == [14]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    run.train(again, console)
    assert_same_training(undisturbed, again)
    assert results_of(undisturbed)["map"] == results_of(again)["map"]

    endless = config(tmp_path / "endless")
    flags = ["--epochs", "5000", "--checkpoint-every", "5"]
    status, said = signal_a_training(endless, flags, signal.SIGTERM, after=5)
    assert status == RESUME_ME == 75
    assert said.splitlines()[-1].startswith("jaxhash: stopped by SIGTERM; step ")


@pytest.mark.slow
def test_a_signal_at_the_last_step_leaves_the_evaluation_to_the_same_command(
    undisturbed, tmp_path, console
):
    again = config(tmp_path / "run")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(loop, "_report", terminate_at(24))
        with pytest.raises(Stopped, match="the same command goes on"):
            run.train(again, console)
    run.train(again, console)
    assert_same_run(undisturbed, again)


def truncate(folder):
    """Cut each file of the state in half, as a disk that was full leaves them."""
    files = [path for path in (folder / "state").rglob("*") if path.is_file()]
    for path in files:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert files


def other_model(folder, run_dir):
    """The checkpoint of a run with longer codes."""
    other = config(run_dir, bits=48)
    run.train(other, Console(quiet=True))
    shutil.rmtree(folder)
    shutil.copytree(run_dir / "checkpoints" / "20", folder)


DAMAGES = {
    "truncated": lambda folder, _: truncate(folder),
    "no data": lambda folder, _: shutil.rmtree(folder / "data"),
    "no state": lambda folder, _: shutil.rmtree(folder / "state"),
    "broken candidates": lambda folder, _: [
        path.write_text("{") for path in (folder / "candidates").iterdir()
    ],
    "foreign": other_model,
}


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def broken(config):
    return (config.run.run_dir / "broken_checkpoints").iterdir()


@pytest.fixture
def stopped(undisturbed, tmp_path):
    """A run as a kill after step 20 leaves it, with checkpoints of steps 15 and 20."""
    again = config(tmp_path / "run")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(loop, "_report", terminate_at(19))
        with pytest.raises(Stopped):
            run.train(again, Console(quiet=True))
    return again


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(damage, id=name, marks=() if name == "truncated" else pytest.mark.slow)
        for name, damage in DAMAGES.items()
    ],
)
def test_a_damaged_checkpoint_is_named_and_the_one_before_used(
    undisturbed, stopped, tmp_path, capsys, damage
):
    folder = stopped.run.run_dir / "checkpoints" / "20"
    damage(folder, tmp_path / "other")
    before = contents(folder)
    capsys.readouterr()
    run.train(stopped, Console(width=200))
    said = capsys.readouterr().out
    assert f"warning: the checkpoint {folder} cannot be read (" in said
    assert "going on from step 15 of 24" in said
    assert_same_run(undisturbed, stopped)
    (aside,) = broken(stopped)
    assert aside.name.startswith("20-")
    assert contents(aside) == before


def test_where_no_checkpoint_can_be_read_nothing_is_lost(stopped, console):
    """The damaged ones are put aside as they are; it takes another call to begin anew."""
    folders = [stopped.run.run_dir / "checkpoints" / step for step in ("15", "20")]
    for folder in folders:
        truncate(folder)
    before = [contents(folder) for folder in folders]
    records = read_metrics(stopped.run.run_dir / "metrics.jsonl")
    with pytest.raises(UserError) as caught:
        run.train(stopped, console)
    assert all(f"the checkpoint {folder} cannot be read" in str(caught.value) for folder in folders)
    assert before == [contents(aside) for aside in sorted(broken(stopped))]
    assert read_metrics(stopped.run.run_dir / "metrics.jsonl") == records


def test_evaluating_a_damaged_checkpoint(undisturbed, tmp_path, console):
    shutil.copytree(undisturbed.run.run_dir, tmp_path / "run")
    truncate(tmp_path / "run" / "checkpoints" / "24")
    with pytest.raises(UserError, match="checkpoints/24 cannot be read"):
        evaluate(tmp_path / "run", console)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [{"augment_on": "device"}, pytest.param({"workers": 2}, marks=pytest.mark.slow)],
    ids=str,
)
def test_where_batches_are_made_changes_no_bit(undisturbed, tmp_path, console, options):
    """A run may go on with other workers, and with images that are cropped elsewhere."""
    again = config(tmp_path / "run")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(loop, "_report", terminate_at(9))
        with pytest.raises(Stopped):
            run.train(again, console)
    run.train(again.replace(**options), console)
    assert_same_training(undisturbed, again)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 32 MB; a checkpoint takes half of one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a disk cannot be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.slow
def test_a_full_disk_stops_the_run_and_leaves_what_was_there(undisturbed, small_disk, console):
    """With room again the same command ends with the bits of a run that had it from the start."""
    again = config(small_disk / "run", checkpoint_every=1, keep_newest=10**6)
    (small_disk / "something").write_bytes(bytes(28 * 2**20))
    with pytest.raises(UserError) as caught:
        run.train(again, console)
    said = str(caught.value)
    assert "checkpoints (No space left on device); that of step " in said
    step = int(said.split("step ")[1].split()[0])
    with Checkpoints(again.run.run_dir / "checkpoints") as checkpoints:
        assert checkpoints.latest_step == step
    (small_disk / "something").unlink()
    run.train(again, console)
    assert_same_training(undisturbed, again)
