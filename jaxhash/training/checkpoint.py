"""Checkpoints of a run: the state and the position in the data, by orbax."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from jaxhash.errors import UserError
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
        return [] if step is None else self._candidates(step)

    def _candidates(self, step: int) -> list[Candidate]:
        if not (self._manager.directory / str(step) / "candidates").exists():
            return []  # the run of an older version
        with self._readable(step):
            restored = self._manager.restore(
                step, args=ocp.args.Composite(candidates=ocp.args.JsonRestore())
            )
            return [Candidate(**fields) for fields in restored.candidates]

    def newest(
        self, like: TrainState, say: Callable[[str], None]
    ) -> tuple[int, TrainState, dict[str, Any]] | None:
        """The newest checkpoint that can be read: its step, state and data iterator's state.

        Newer ones, which were damaged since they were written, are put aside into a folder beside
        the checkpoints, for their steps are about to be done again.

        Args:
            like: a state of the same shapes.
            say: is told of each that cannot be read.

        Returns:
            None where there is no checkpoint.

        Raises:
            UserError: if there are checkpoints, and none can be read; they stay as they are.
        """
        broken = {}
        for step in reversed(self.steps):
            try:
                found = (step, *self.restore(like, step))
                self._candidates(step)
                break
            except UserError as error:
                broken[step] = str(error)
        else:
            if broken:
                raise UserError("; ".join(broken.values()))
            return None
        for step, reason in broken.items():
            aside = self._put_aside(step)
            say(f"warning: {reason}; it is put aside as {aside}, and the one before is used")
        return found

    def _put_aside(self, step: int) -> Path:
        """Move a checkpoint to where none is looked for; return where it is."""
        folder = Path(self._manager.directory)
        aside = folder.with_name(f"broken_{folder.name}")
        aside.mkdir(exist_ok=True)
        target = aside / f"{step}-{time.time_ns()}"
        (folder / str(step)).rename(target)
        self._manager.reload()
        return target

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

        Raises:
            UserError: if it cannot be read, or is that of another model.
        """
        step = self.latest_step if step is None else step
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        with self._readable(step):
            restored = self._manager.restore(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardRestore(abstract), data=ocp.args.JsonRestore()
                ),
            )
            return restored.state, restored.data

    @contextlib.contextmanager
    def _readable(self, step: int) -> Iterator[None]:
        """A damaged file can raise anything, from the layers of a format that are in one another."""
        try:
            yield
        except Exception as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
            folder = Path(self._manager.directory) / str(step)
            raise UserError(f"the checkpoint {folder} cannot be read ({reason})") from error


class _NewestAndBest:
    """Orbax's question which checkpoints stay, given all of them from old to new."""

    best: int | None = None

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        newest = [checkpoint.step for checkpoint in checkpoints[-NEWEST:]]
        return [c.step in newest or c.step == self.best for c in checkpoints]
