"""Checkpoints of a run: the state and the position in the data, by orbax."""

import contextlib
import errno
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from jaxhash.training.digests import check_digests, write_digests
from jaxhash.training.distributed import all_hosts, broadcast_from_host0, is_main_process
from jaxhash.training.model_selection import Candidate, rank_candidates
from jaxhash.training.state import TrainState
from jaxhash.utils.errors import UserError, first_line


class Checkpoints:
    """The checkpoints under one folder, of which the newest and the best candidates are kept.

    Saving is asynchronous and atomic: a step that was being written when the process died is
    not there afterwards. A checkpoint holds the candidates so far too, so that they are those of
    its step, and what it replaces is removed only after it is there. It holds the digests of its
    files, which are compared before anything is read. States are in the global form of
    `jaxhash.training.parallel`; each process writes its part of them, and the first the digests.

    Args:
        folder: made if it is not there; all processes see the same one.
        newest: how many are kept to go on from.
        best: of how many best candidates one is kept.
        data: what is known of the data, in JSON: kept in each checkpoint.
        say: is told of a checkpoint that is damaged, and of one that has no digests.
    """

    def __init__(
        self,
        folder: Path,
        *,
        newest: int = 2,
        best: int = 1,
        data: Mapping[str, Any] | None = None,
        print_line: Callable[[str], None] = lambda line: None,
    ):
        self._best, self._data, self._say = best, dict(data or {}), print_line
        self._preserved = _NewestAndBest(newest)
        self._saving: int | None = None
        self._checked: set[int] = set()
        self._damaged: set[int] = set()
        options = ocp.CheckpointManagerOptions(
            preservation_policy=self._preserved,
            create=True,
            # All files of all processes are there, and the folder has not taken its name yet.
            async_options=ocp.AsyncOptions(post_finalization_callback=self._write_digests),
        )
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_) -> None:
        try:
            with self._written():
                self._manager.close()
        except UserError:
            if kind is None:  # else what ended the training comes first
                raise

    def wait(self) -> None:
        """Wait until the last checkpoint is there.

        Raises:
            UserError: if it could not be written.
        """
        with self._written():
            self._manager.wait_until_finished()

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
        self._check(step)
        if not (self._folder(step) / "candidates").exists():
            return []  # the run of an older version
        found = self._read(step, "candidates", ocp.args.JsonRestore())
        with self._readable(step):
            return [Candidate(**fields) for fields in found]

    def _read(self, step: int, name: str, how: Any) -> Any:
        """One item of a checkpoint."""
        with self._readable(step):
            return self._manager.restore(step, args=ocp.args.Composite(**{name: how}))[name]

    def _folder(self, step: int) -> Path:
        return Path(self._manager.directory) / str(step)

    def _write_digests(self) -> None:
        if is_main_process():
            folder = Path(self._manager.directory)
            unnamed = folder.glob(f"{self._saving}.orbax-checkpoint-tmp*")
            written = next(unnamed, self._folder(self._saving))  # named from the start in a bucket
            write_digests(written, exclude=("_CHECKPOINT_METADATA",))  # orbax is still at that one

    def _check(self, step: int) -> None:
        """Compare the files of a checkpoint with their digests; to be called by all processes.

        Raises:
            UserError: in all of them, if a file is another than it was.
        """
        if step in self._checked:
            return

        def check() -> bool:
            with self._readable(step):
                return check_digests(self._folder(step))

        try:
            has_digests = broadcast_from_host0(check)
        except UserError:
            self._damaged.add(step)
            raise
        if not has_digests:
            self._say(
                f"warning: the checkpoint {self._folder(step)} has no digests, as older versions "
                "wrote none: damage may go unseen"
            )
        self._checked.add(step)

    def newest(self, like: TrainState) -> tuple[int, TrainState] | None:
        """The newest checkpoint that can be read: its step and state.

        Newer ones, which were damaged since they were written, are put aside into a folder beside
        the checkpoints, for their steps are about to be done again.

        Args:
            like: a state of the same shapes.

        Returns:
            None where there is no checkpoint.

        Raises:
            UserError: if there are checkpoints, and none can be read; those that are damaged are put
                aside, so that the same call begins anew. Or if the data have changed.
        """
        broken = {}
        for step in reversed(self.steps):
            reason = None
            try:
                found = step, self.restore(like, step)
                data = self._read(step, "data", ocp.args.JsonRestore())
                self._check_step(step, data)
                self._candidates(step)
            except UserError as error:
                reason = str(error)
            if all_hosts(reason is None):
                self._check_data(step, data)
                break
            broken[step] = reason or f"another process cannot read the checkpoint of step {step}"
        else:
            if not broken:
                return None
            if self._damaged >= broken.keys():
                aside = [str(self._put_aside(step)) for step in broken]
                raise UserError(
                    f"{'; '.join(broken.values())}; no other is there: put aside as "
                    f"{', '.join(aside)}, and the same command begins anew"
                )
            raise UserError(
                f"{'; '.join(broken.values())}; no other is there: without the folder "
                f"{self._manager.directory} the training begins anew"
            )
        for step, reason in broken.items():
            aside = self._put_aside(step)
            self._say(f"warning: {reason}; it is put aside as {aside}, and the one before is used")
        return found

    def _put_aside(self, step: int) -> Path:
        """Move a checkpoint to where none is looked for; return where it is."""
        folder = Path(self._manager.directory)
        aside = folder.with_name(f"broken_{folder.name}")
        target = aside / f"{step}-{time.time_ns()}"
        if is_main_process():
            aside.mkdir(exist_ok=True)
            self._folder(step).rename(target)
        self._checked.discard(step)
        all_hosts(True)  # the others wait
        self._manager.reload()
        return target

    def _check_step(self, step: int, data: Mapping[str, Any]) -> None:
        """Raise unless a checkpoint is that of its folder's name; an old one does not say."""
        if (own := data.get("step", step)) != step:
            raise UserError(f"the checkpoint {self._folder(step)} is that of step {own}")

    def _check_data(self, step: int, data: Mapping[str, Any]) -> None:
        """Raise if a checkpoint knows other data than there are; an old one knows nothing of them."""
        other = [
            f"{name} {data[name]} then, {value} now"
            for name, value in self._data.items()
            if data.get(name, value) != value
        ]
        if other:
            raise UserError(
                f"the data have changed since the checkpoint of step {step}: {'; '.join(other)}"
            )

    def should_keep(self, candidate: Candidate, candidates: Sequence[Candidate]) -> bool:
        """Whether a checkpoint of this one of the candidates is among those that are kept."""
        return candidate in rank_candidates(candidates)[: self._best]

    def save(self, step: int, state: TrainState, candidates: Sequence[Candidate] = ()) -> None:
        """Save the state and the candidates after ``step`` steps.

        The candidates that `should_keep` says must have been saved with their own step, this one or an
        earlier one.

        Raises:
            UserError: if the last checkpoint could not be written, or this one cannot.
        """
        self.wait()  # else the one before, still being written, would be taken for this one
        self._saving = step
        self._preserved.best = [
            candidate.step for candidate in rank_candidates(candidates)[: self._best]
        ]
        with self._written():
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(state),
                    data=ocp.args.JsonSave({**self._data, "step": step}),
                    candidates=ocp.args.JsonSave([each._asdict() for each in candidates]),
                ),
            )

    def restore(self, like: TrainState, step: int | None = None) -> TrainState:
        """A checkpoint, on the devices of ``specs_of``.

        Args:
            like: a state of the same shapes.
            step: which one; the newest if not given.

        Raises:
            UserError: if it cannot be read, or is that of another model.
        """
        step = self.latest_step if step is None else step
        self._check(step)
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        return self._read(step, "state", ocp.args.StandardRestore(abstract))

    @contextlib.contextmanager
    def _written(self) -> Iterator[None]:
        """A write that fails, perhaps that of the checkpoint before, is told in one line."""
        try:
            yield
        except Exception as error:
            there = self.steps
            good = "there is none"
            if there:
                good = f"that of step {there[-1]} is there, and the same command goes on from it"
            raise UserError(
                f"a checkpoint could not be written into {self._manager.directory} "
                f"({_reason(error)}); {good}"
            ) from error

    @contextlib.contextmanager
    def _readable(self, step: int) -> Iterator[None]:
        """A damaged file can raise anything, from the layers of a format that are in one another."""
        try:
            yield
        except Exception as error:
            folder = self._folder(step)
            raise UserError(f"the checkpoint {folder} cannot be read ({_reason(error)})") from error


def _reason(error: Exception) -> str:
    """The first line of what an error says; of a full disk, which many layers report, that alone."""
    full = os.strerror(errno.ENOSPC)
    if full in str(error):
        return full
    return first_line(error)


class _NewestAndBest:
    """Orbax's question which checkpoints stay, given all of them from old to new."""

    def __init__(self, newest: int):
        self._newest = newest
        self.best: list[int] = []

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        newest = [checkpoint.step for checkpoint in checkpoints[-self._newest :]]
        return [c.step in newest or c.step in self.best for c in checkpoints]
