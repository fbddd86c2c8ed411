"""The order of operations in the training loop."""

from types import SimpleNamespace

import jax.numpy as jnp
import pytest

from jaxhash.training.loop import fit
from jaxhash.training.speed import Profile


def run(total_steps, *, start=0, checkpoint_every=100):
    """Returns the operations of the loop, for a training whose state is the number of steps."""
    done = []

    def batches():
        for number in range(start + 1, total_steps + 1):
            done.append(f"read {number}")
            yield number

    class DataParallel:
        def __call__(self, state, batch):
            assert batch == state + 1
            done.append(f"launch {batch}")
            return batch, {"loss": jnp.float32(batch)}

        def shard_batch(self, batch):
            done.append(f"put {batch}")
            return batch

        def to_global(self, state):
            return state

    stub = SimpleNamespace(
        should_evaluate=lambda step: False,
        found=[],
        should_stop=lambda step: False,
        print=print,
        update=lambda *_: None,
        save=lambda step, state, _: done.append(f"save {state}"),
    )
    state = fit(
        start,
        batches(),
        DataParallel(),
        start=start,
        total_steps=total_steps,
        checkpoint_every=checkpoint_every,
        checkpoints=stub,
        candidates=stub,
        monitor=lambda step, metrics: done.append(f"report {step}"),
        stop=stub,
        profile=Profile(None, start=start, total_steps=total_steps),
        metrics_file=None,
        progress=stub,
    )
    assert state == total_steps
    return done


@pytest.fixture(autouse=True)
def unchecked_stand_ins(unchecked):
    """The stand-ins do not have the annotated types."""


def test_a_batch_is_put_onto_the_devices_while_the_step_before_runs():
    assert run(3) == [
        *("read 1", "put 1", "launch 1", "read 2", "put 2"),
        *("launch 2", "read 3", "put 3", "report 1"),
        *("launch 3", "report 2", "report 3", "save 3"),
    ]


def test_nothing_is_read_beyond_the_last_step():
    assert run(4, start=4) == []
    assert [word for word in run(5, start=3) if "read" in word] == ["read 4", "read 5"]


def test_a_checkpoint_comes_after_the_report_of_its_step():
    done = run(3, checkpoint_every=2)
    assert done.index("report 2") < done.index("save 2") < done.index("launch 3")
    assert done.index("put 3") < done.index("save 2")
