"""Checkpoints of a run: the state and the position in the data, by orbax."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from jaxhash.training.choice import Candidate, best
from jaxhash.training.state import TrainState

#: Newest checkpoints that are kept, to go on from.
NEWEST = 2


class Checkpoints:
    """The checkpoints under one folder; the newest two and the best candidate are kept.

    Saving is asynchronous and atomic: a step that was being written when the process died is
    not there afterwards. A checkpoint holds the candidates so far too, so that they are those of
    its step, and what it replaces is removed only after it is there.
    """

    def __init__(self, folder: Path):
        self._preserved = _NewestAndBest()
        options = ocp.CheckpointManagerOptions(preservation_policy=self._preserved, create=True)
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_) -> None:
        self._manager.close()

    @property
    def steps(self) -> list[int]:
        """Steps of the checkpoints that are there, in order."""
        return sorted(self._manager.all_steps())

    @property
    def latest_step(self) -> int | None:
        """Step of the newest checkpoint; None where there is none."""
        return self._manager.latest_step()

    @property
    def candidates(self) -> list[Candidate]:
        """The candidates that the newest checkpoint knows of; none where there is no checkpoint."""
        step = self.latest_step
        if not (self._manager.directory / str(step) / "candidates").exists():
            return []  # the run of an older version
        restored = self._manager.restore(
            step, args=ocp.args.Composite(candidates=ocp.args.JsonRestore())
        )
        return [Candidate(**fields) for fields in restored.candidates]

    def save(
        self,
        step: int,
        state: TrainState,
        data: dict[str, Any],
        candidates: Sequence[Candidate] = (),
    ) -> None:
        """Save the state, the state of the data iterator and the candidates after ``step`` steps.

        The best candidate must have been saved with its own step, this one or an earlier one.
        """
        self._preserved.best = best(candidates).step if candidates else None
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state),
                data=ocp.args.JsonSave(data),
                candidates=ocp.args.JsonSave([candidate._asdict() for candidate in candidates]),
            ),
        )

    def restore(
        self, like: TrainState, step: int | None = None
    ) -> tuple[TrainState, dict[str, Any]]:
        """A checkpoint, on the devices of ``like``, and its data iterator's state.

        Args:
            like: a state of the same shapes.
            step: which one; the newest if not given.
        """
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        restored = self._manager.restore(
            self.latest_step if step is None else step,
            args=ocp.args.Composite(
                state=ocp.args.StandardRestore(abstract), data=ocp.args.JsonRestore()
            ),
        )
        return restored.state, restored.data


class _NewestAndBest:
    """Orbax's question which checkpoints stay, given all of them from old to new."""

    best: int | None = None

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        newest = [checkpoint.step for checkpoint in checkpoints[-NEWEST:]]
        return [c.step in newest or c.step == self.best for c in checkpoints]
