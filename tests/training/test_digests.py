"""Any damage of a checkpoint is detected before it is read."""

import shutil

import jax
import numpy as np
import optax
import pytest

from jaxhash.models import MLP, Encoder
from jaxhash.objectives import hswd
from jaxhash.training.checkpoint import Checkpoints
from jaxhash.training.digests import DIGESTS_FILE
from jaxhash.training.state import create_state
from jaxhash.utils.errors import UserError

#: Files of orbax that do not affect the state.
UNCHECKED = ("_CHECKPOINT_METADATA", "commit_success.txt")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Returns a folder with the checkpoints of steps 1 and 2, and their states."""
    folder = tmp_path_factory.mktemp("run") / "checkpoints"
    states = {
        step: create_state(
            jax.random.key(step),
            np.zeros((1, 3), np.float32),
            model=Encoder(MLP, 4),
            objective=hswd(),
            optimizer=optax.sgd(0.1),
            items=5,
            classes=2,
        )
        for step in (1, 2)
    }
    with Checkpoints(folder) as checkpoints:
        for step, state in states.items():
            checkpoints.save(step, state)
    return folder, states


def files_of(folder):
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.name not in UNCHECKED)


def flip(path, position, bit):
    content = bytearray(path.read_bytes())
    content[position % len(content)] ^= 1 << bit
    path.write_bytes(content)


def swap(path):
    """Swaps the two halves of a file."""
    content = path.read_bytes()
    half = len(content) // 2
    path.write_bytes(content[half:] + content[:half] if half else b"?")


DAMAGES = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    "swapped": swap,
    "gone": lambda path: path.unlink(),
}


def comparable(state):
    return state.replace(key=jax.random.key_data(state.key))


def newest_after(folder, states):
    """Restores the newest checkpoint, checks its state, and returns its step and the warnings."""
    warnings = []
    with Checkpoints(folder, print_line=warnings.append) as checkpoints:
        step, state = checkpoints.newest(states[2])
    jax.tree.map(np.testing.assert_array_equal, comparable(state), comparable(states[step]))
    return step, warnings


@pytest.mark.parametrize("damage", list(DAMAGES))
def test_any_damage_of_the_largest_file_is_named(written, tmp_path, damage):
    folder, states = tmp_path / "checkpoints", written[1]
    shutil.copytree(written[0], folder)
    path = max(files_of(folder / "2"), key=lambda path: path.stat().st_size)
    DAMAGES[damage](path)
    step, warnings = newest_after(folder, states)
    assert step == 1 and len(warnings) == 1
    assert path.relative_to(folder / "2").as_posix() in warnings[0]
    assert len(list((tmp_path / "broken_checkpoints").iterdir())) == 1


def test_no_undamaged_checkpoint(written, tmp_path):
    """All are moved; the next call starts from the beginning."""
    folder = tmp_path / "checkpoints"
    shutil.copytree(written[0], folder)
    for step in ("1", "2"):
        swap(max(files_of(folder / step), key=lambda path: path.stat().st_size))
    with Checkpoints(folder) as checkpoints:
        with pytest.raises(UserError, match="broken_checkpoints"):
            checkpoints.newest(written[1][2])
        assert checkpoints.newest(written[1][2]) is None
    assert len(list((tmp_path / "broken_checkpoints").iterdir())) == 2


@pytest.mark.slow
def test_any_bit_of_any_file(written, tmp_path):
    """A flipped bit is detected, or changes only the whitespace of the digests."""
    rng = np.random.default_rng(0)
    found = 0
    for number, name in enumerate([p.relative_to(written[0]) for p in files_of(written[0] / "2")]):
        folder = tmp_path / str(number) / "checkpoints"
        shutil.copytree(written[0], folder)
        flip(folder / name, int(rng.integers(10**6)), int(rng.integers(8)))
        step, warnings = newest_after(folder, written[1])
        assert step == 2 - len(warnings)
        assert step == 1 or name.name == DIGESTS_FILE or not (written[0] / name).stat().st_size
        found += step == 1
    assert found > 5


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", "3", '{"state/_METADATA": 3}', "\x00"])
def test_damaged_digests(written, tmp_path, content):
    """The checkpoint counts as damaged."""
    folder = tmp_path / "checkpoints"
    shutil.copytree(written[0], folder)
    (folder / "2" / DIGESTS_FILE).write_text(content)
    step, warnings = newest_after(folder, written[1])
    assert step == 1 and len(warnings) == 1


def test_a_later_file_is_ignored(written, tmp_path):
    folder = tmp_path / "checkpoints"
    shutil.copytree(written[0], folder)
    (folder / "2" / "state" / ".nfs0001").write_bytes(b"somebody's")
    assert newest_after(folder, written[1]) == (2, [])


def test_restoring_a_damaged_one_is_refused(written, tmp_path):
    """An evaluation restores a given step, without a fallback."""
    folder = tmp_path / "checkpoints"
    shutil.copytree(written[0], folder)
    path = max(files_of(folder / "2"), key=lambda path: path.stat().st_size)
    flip(path, 1000, 6)
    with Checkpoints(folder) as checkpoints, pytest.raises(UserError, match="is damaged"):
        checkpoints.restore(written[1][2], 2)


def test_a_checkpoint_under_the_name_of_another_step_is_moved(written, tmp_path):
    """Its files are undamaged, but the state belongs to another step."""
    folder, states = written
    copy = tmp_path / "checkpoints"
    shutil.copytree(folder, copy)
    shutil.rmtree(copy / "2")
    shutil.copytree(copy / "1", copy / "2")
    step, warnings = newest_after(copy, states)
    assert step == 1 and "checkpoints/2 " in warnings[0] and "step 1" in warnings[0]
