"""The order of operations in the training loop."""

from types import SimpleNamespace

import jax.numpy as jnp
import pytest

from jaxhash.training.loop import fit
from jaxhash.training.speed import Profile


class Watch:
    """A monitor that notes each report, and remembers something new at some steps."""

    def __init__(self, done, changes=()):
        self.done, self.changes, self.changed = done, changes, False

    def __call__(self, step, metrics):
        self.done.append(f"report {step}")
        self.changed = step in self.changes


class Records(list):
    """A metrics file that keeps the steps that it is told to, and every third."""

    def write(self, step, metrics, *, required=False):
        if required or step % 3 == 0:
            self.append(step)


def run(total_steps, *, start=0, checkpoint_every=100, changes=(), records=None):
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
        monitor=Watch(done, changes),
        stop=stub,
        profile=Profile(None, start=start, total_steps=total_steps),
        metrics_file=records,
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


def test_a_record_is_required_of_what_a_resumed_training_needs():
    """Of the first step, which compiled; of steps that are saved; and of what the monitor remembers."""
    records = Records()
    run(12, checkpoint_every=5, changes=(7,), records=records)
    assert records == [1, 3, 5, 6, 7, 9, 10, 12]
