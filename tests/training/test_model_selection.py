"""Selection of the model to evaluate, and the checkpoints that are kept for it."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxhash.models import MLP, Encoder
from jaxhash.objectives import hswd
from jaxhash.training.checkpoint import Checkpoints
from jaxhash.training.model_selection import (
    SELECTION_DESCRIPTIONS,
    Candidate,
    CandidateTracker,
    best_candidate,
    select_model,
)
from jaxhash.training.state import create_state
from jaxhash.utils.errors import UserError

FOUND = [Candidate(2, 16, 0.5), Candidate(4, 32, 0.7), Candidate(6, 48, 0.7), Candidate(7, 56, 0.1)]


def test_best_is_the_first_of_equals():
    assert best_candidate(FOUND) == FOUND[1]
    assert best_candidate(FOUND[::-1]) == FOUND[2]


def test_candidates_come_every_few_epochs_and_last():
    scores = {16: 0.5, 32: 0.7, 48: 0.7, 56: 0.1}
    candidates = CandidateTracker(scores.get, every=2, steps_per_epoch=8, total_steps=56)
    due = [step for step in range(1, 57) if candidates.should_evaluate(step)]
    assert due == [16, 32, 48, 56]
    assert [candidates.add(step, step) for step in due] == FOUND == candidates.found


def test_candidates_go_on_from_those_found():
    before = FOUND[:2]
    candidates = CandidateTracker(
        lambda _: 0.7, every=2, steps_per_epoch=8, total_steps=56, found=before
    )
    candidates.add(48, None)
    assert candidates.found == FOUND[:3] and before == FOUND[:2]


def test_without_a_score_there_are_no_candidates():
    candidates = CandidateTracker(None, every=1, steps_per_epoch=1, total_steps=3)
    assert not any(candidates.should_evaluate(step) for step in (1, 2, 3))


@pytest.mark.parametrize("rule", SELECTION_DESCRIPTIONS)
def test_selection_and_its_description(rule):
    """Selection on the queries is described as optimistic."""
    found = [] if rule == "last" else FOUND
    choice = select_model(rule, found, epochs=7, total_steps=56)
    assert (choice["epoch"], choice["step"]) == ((7, 56) if rule == "last" else (4, 32))
    assert [Candidate(**fields) for fields in choice["candidates"]] == found
    assert choice["rule"] == rule
    assert ("touched once" in choice["says"]) == (rule != "best-on-test")
    assert ("optimistic" in choice["says"]) == (rule == "best-on-test")


# Checkpoints


@pytest.fixture(scope="module")
def state():
    return create_state(
        jax.random.key(0),
        np.zeros((1, 3), np.float32),
        model=Encoder(MLP, 4),
        objective=hswd(),
        optimizer=optax.sgd(0.1),
        items=5,
        classes=2,
    )


def save_all(folder, state, maps, *, stop=None, **kept):
    """Saves steps 10, 20, ... up to ``stop`` as a run does; steps with a mAP are candidates."""
    with Checkpoints(folder, **kept) as checkpoints:
        start, found = checkpoints.latest_step or 0, checkpoints.candidates
        for step, value in zip(range(10, 10 * len(maps) + 1, 10), maps, strict=True):
            if start < step <= (stop or step):
                found += [] if value is None else [Candidate(step // 10, step, value)]
                at_step = state.replace(step=jnp.int32(step))
                checkpoints.save(step, at_step, found)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("maps", "kept"),
    [
        ([None] * 6, [50, 60]),
        ([None, 0.9, None, 0.1, None, 0.2], [20, 50, 60]),
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [50, 60]),
        ([0.6, 0.5, 0.6, 0.6, 0.5, 0.6], [10, 50, 60]),  # the first of equals
    ],
)
@pytest.mark.parametrize("stop", [None, 10, 30, 50])
def test_the_newest_two_and_the_best_candidate_are_kept(tmp_path, state, maps, kept, stop):
    """Also if the training was resumed."""
    for until in (stop, None) if stop else (None,):
        save_all(tmp_path, state, maps, stop=until)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.steps == kept
        assert sorted(int(p.name) for p in tmp_path.iterdir() if p.name.isdigit()) == kept
        for step in kept:
            assert checkpoints.restore(state, step).step == step
        assert checkpoints.restore(state).step == 60


@pytest.mark.parametrize(
    ("newest", "best", "kept"),
    [
        (1, 1, [20, 60]),
        (3, 1, [20, 40, 50, 60]),
        (1, 2, [20, 40, 60]),
        (1, 4, [10, 20, 30, 40, 60]),
    ],
)
@pytest.mark.parametrize("stop", [None, 30])
def test_the_last_n_and_the_best_k_are_kept(tmp_path, state, newest, best, kept, stop):
    maps = [0.3, 0.9, 0.4, 0.5, 0.1, 0.2]
    for until in (stop, None) if stop else (None,):
        save_all(tmp_path, state, maps, stop=until, newest=newest, best=best)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.steps == kept


def test_data_that_changed_since_the_checkpoint_are_refused(tmp_path, state):
    """A checkpoint of an older version, without facts about the data, is accepted."""
    facts = {"items": 100, "split": "abc"}
    with Checkpoints(tmp_path, data=facts) as checkpoints:
        checkpoints.save(20, state)
    for data in (facts, {}, facts | {"new": 1}):
        with Checkpoints(tmp_path, data=data) as checkpoints:
            assert checkpoints.newest(state)[0] == 20
    with (
        Checkpoints(tmp_path, data={"items": 99, "split": "abd"}) as checkpoints,
        pytest.raises(UserError) as caught,
    ):
        checkpoints.newest(state)
    parts = ("step 20", "items 100 then, 99 now", "split abc then, abd now")
    assert all(part in str(caught.value) for part in parts)


def test_candidates_are_restored_exactly(tmp_path, state):
    found = [Candidate(1, 10, 0.1 + 0.2), Candidate(2, 20, 1 / 3)]
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(20, state, found)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.candidates == found


def test_a_checkpoint_of_an_older_version_has_no_candidates(tmp_path, state):
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.candidates == []
        checkpoints.save(20, state, FOUND[:1])
    shutil.rmtree(tmp_path / "20" / "candidates")
    (tmp_path / "20" / "digests.json").unlink()
    said = []
    with Checkpoints(tmp_path, print_line=said.append) as checkpoints:
        assert checkpoints.candidates == []
        assert checkpoints.newest(state)[0] == 20
    (line,) = said
    assert str(tmp_path / "20") in line and "digests" in line
