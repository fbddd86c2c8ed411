"""Checkpoints of a run, saved with orbax: the state, the candidates, and facts about the data."""

import contextlib
import errno
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jaxtyping import PyTree

from jaxhash.training.digests import check_digests, write_digests
from jaxhash.training.distributed import all_hosts, broadcast_from_host0, is_main_process
from jaxhash.training.model_selection import Candidate, rank_candidates
from jaxhash.training.state import TrainState
from jaxhash.utils.errors import UserError, first_line


class Checkpoints:
    """The checkpoints in a folder; keeps the newest ones and those of the best candidates.

    Saving is asynchronous and atomic: a step that was being written when the process died does not
    exist afterwards. A checkpoint also holds the candidates up to its step, and old checkpoints are
    removed only after the new one exists. It holds digests of its files, which are compared before
    anything is read. States are in the global form of `jaxhash.training.parallel`. Each process
    writes its part of the state, and process 0 writes the digests.

    Args:
        folder: created if it does not exist; all processes see the same folder.
        newest: number of newest checkpoints to keep.
        best: number of best candidates whose checkpoints to keep.
        data: facts about the data, as JSON values, stored in each checkpoint.
        print_line: called with a warning about a damaged checkpoint, or one without digests.
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
        self._best, self._data, self._print_line = best, dict(data or {}), print_line
        self._preservation = _NewestAndBest(newest)
        self._saving: int | None = None
        self._checked: set[int] = set()
        self._damaged: set[int] = set()
        options = ocp.CheckpointManagerOptions(
            preservation_policy=self._preservation,
            create=True,
            async_options=ocp.AsyncOptions(
                # Called when all processes have written their files, before the folder is renamed.
                post_finalization_callback=self._write_digests,
                # That a folder exists would be told to all joined processes by the number of the save, also
                # to those of a sweep, whose saves of this number are others.
                create_directories_asynchronously=False,
            ),
        )
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            with self._write_errors():
                self._manager.close()
        except UserError:
            if kind is None:  # otherwise the exception that ended the training takes precedence
                raise

    def wait(self) -> None:
        """Waits until the last checkpoint is written.

        Raises:
            UserError: if it could not be written.
        """
        with self._write_errors():
            self._manager.wait_until_finished()

    @property
    def steps(self) -> list[int]:
        """Steps of the existing checkpoints, in order."""
        return sorted(self._manager.all_steps())

    @property
    def latest_step(self) -> int | None:
        """Step of the newest checkpoint; None if there is none."""
        return self._manager.latest_step()

    @property
    def candidates(self) -> list[Candidate]:
        """The candidates in the newest checkpoint; empty if there is none."""
        step = self.latest_step
        return [] if step is None else self._candidates(step)

    def _candidates(self, step: int) -> list[Candidate]:
        self._check(step)
        if not (self._folder(step) / "candidates").exists():
            return []  # written by an older version
        found = self._read(step, "candidates", ocp.args.JsonRestore())
        with self._read_errors(step):
            return [Candidate(**fields) for fields in found]

    def _read(self, step: int, name: str, args: Any) -> Any:
        """Reads one item of a checkpoint with orbax arguments."""
        with self._read_errors(step):
            return self._manager.restore(step, args=ocp.args.Composite(**{name: args}))[name]

    def _folder(self, step: int) -> Path:
        return Path(self._manager.directory) / str(step)

    def _write_digests(self) -> None:
        if is_main_process():
            folder = Path(self._manager.directory)
            temporary = folder.glob(f"{self._saving}.orbax-checkpoint-tmp*")
            # In a bucket, the folder has its final name from the start.
            written = next(temporary, self._folder(self._saving))
            # Orbax has not finished the metadata yet.
            write_digests(written, exclude=("_CHECKPOINT_METADATA",))

    def _check(self, step: int) -> None:
        """Compares the files of a checkpoint with their digests; all processes call it.

        Raises:
            UserError: in all processes, if a file is missing or damaged.
        """
        if step in self._checked:
            return

        def check() -> bool:
            with self._read_errors(step):
                return check_digests(self._folder(step))

        try:
            has_digests = broadcast_from_host0(check)
        except UserError:
            self._damaged.add(step)
            raise
        if not has_digests:
            self._print_line(
                f"warning: the checkpoint {self._folder(step)} has no digests, as older versions "
                "wrote none: damage may go unseen"
            )
        self._checked.add(step)

    def newest(self, like: TrainState) -> tuple[int, TrainState] | None:
        """Restores the newest readable checkpoint.

        Newer checkpoints that cannot be read are moved to a folder beside the checkpoints, since
        their steps are about to be repeated.

        Args:
            like: state with the shapes, dtypes and shardings to restore.

        Returns:
            The step and the state; None if there is no checkpoint.

        Raises:
            UserError: if checkpoints exist but none can be read, or if the data have changed.
                Damaged checkpoints are moved first, so that the same call starts from the
                beginning.
        """
        unreadable = {}
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
            unreadable[step] = (
                reason or f"another process cannot read the checkpoint of step {step}"
            )
        else:
            if not unreadable:
                return None
            if self._damaged >= unreadable.keys():
                moved = [str(self._move_aside(step)) for step in unreadable]
                raise UserError(
                    f"{'; '.join(unreadable.values())}; no other is there: put aside as "
                    f"{', '.join(moved)}, and the same command begins anew"
                )
            raise UserError(
                f"{'; '.join(unreadable.values())}; no other is there: without the folder "
                f"{self._manager.directory} the training begins anew"
            )
        for step, reason in unreadable.items():
            moved = self._move_aside(step)
            self._print_line(
                f"warning: {reason}; it is put aside as {moved}, and the one before is used"
            )
        return found

    def _move_aside(self, step: int) -> Path:
        """Moves a checkpoint to a folder of unreadable checkpoints; returns its new path."""
        folder = Path(self._manager.directory)
        parent = folder.with_name(f"broken_{folder.name}")
        target = parent / f"{step}-{time.time_ns()}"
        if is_main_process():
            parent.mkdir(exist_ok=True)
            self._folder(step).rename(target)
        self._checked.discard(step)
        all_hosts(True)  # a barrier: the others wait for the move
        self._manager.reload()
        return target

    def _check_step(self, step: int, data: Mapping[str, Any]) -> None:
        """Raises if a checkpoint holds another step than its folder's name; old ones hold none."""
        if (stored := data.get("step", step)) != step:
            raise UserError(f"the checkpoint {self._folder(step)} is that of step {stored}")

    def _check_data(self, step: int, data: Mapping[str, Any]) -> None:
        """Raises if the data differ from those of a checkpoint; old checkpoints hold no facts."""
        changed = [
            f"{name} {data[name]} then, {value} now"
            for name, value in self._data.items()
            if data.get(name, value) != value
        ]
        if changed:
            raise UserError(
                f"the data have changed since the checkpoint of step {step}: {'; '.join(changed)}"
            )

    def should_keep(self, candidate: Candidate, candidates: Sequence[Candidate]) -> bool:
        """Returns whether a checkpoint of this candidate would be kept among the best."""
        return candidate in rank_candidates(candidates)[: self._best]

    def save(self, step: int, state: TrainState, candidates: Sequence[Candidate] = ()) -> None:
        """Saves the state and the candidates after ``step`` steps.

        A candidate that `should_keep` accepts must have been saved at its own step.

        Args:
            step: number of steps done.
            state: state in the global form.
            candidates: candidates up to this step.

        Raises:
            UserError: if this checkpoint or the previous one cannot be written.
        """
        self.wait()  # `_write_digests` identifies the checkpoint being written by `_saving`
        self._saving = step
        self._preservation.best = [
            candidate.step for candidate in rank_candidates(candidates)[: self._best]
        ]
        with self._write_errors():
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(state),
                    data=ocp.args.JsonSave({**self._data, "step": step}),
                    candidates=ocp.args.JsonSave([each._asdict() for each in candidates]),
                ),
            )

    def restore(self, like: TrainState, step: int | None = None) -> TrainState:
        """Restores a checkpoint onto the devices of ``like``.

        Args:
            like: state with the shapes, dtypes and shardings to restore.
            step: step of the checkpoint; the newest by default.

        Raises:
            UserError: if it cannot be read, or belongs to another model.
        """
        step = self.latest_step if step is None else step
        self._check(step)
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        return self._read(step, "state", ocp.args.StandardRestore(abstract))

    @contextlib.contextmanager
    def _write_errors(self) -> Iterator[None]:
        """Turns a failed write, perhaps of the previous checkpoint, into a `UserError`."""
        try:
            yield
        except Exception as error:
            existing = self.steps
            remaining = "there is none"
            if existing:
                remaining = (
                    f"that of step {existing[-1]} is there, and the same command goes on from it"
                )
            raise UserError(
                f"a checkpoint could not be written into {self._manager.directory} "
                f"({_reason(error)}); {remaining}"
            ) from error

    @contextlib.contextmanager
    def _read_errors(self, step: int) -> Iterator[None]:
        """Turns a failed read into a `UserError`; a damaged file can raise any exception."""
        try:
            yield
        except Exception as error:
            folder = self._folder(step)
            raise UserError(f"the checkpoint {folder} cannot be read ({_reason(error)})") from error


def read_variables(folder: Path, like: dict[str, PyTree]) -> dict[str, PyTree]:
    """Reads the model's variables from a checkpoint, and nothing else of its state, onto the host.

    The rest of the state has shapes that depend on the data. Any process can call it alone.

    Args:
        folder: folder of the checkpoint.
        like: variables with the shapes and dtypes to read, as `TrainState.variables` has them.

    Raises:
        UserError: if the checkpoint is missing or damaged, or belongs to another model.
    """
    if not folder.is_dir():
        raise UserError(f"there is no checkpoint {folder}")
    stored = {name: tree for name, tree in like.items() if tree}
    wanted = stored | {"params": {"model": stored["params"]}}
    arguments = jax.tree.map(
        lambda leaf: ocp.RestoreArgs(restore_type=np.ndarray, dtype=leaf.dtype), wanted
    )
    try:
        check_digests(folder)
        found = ocp.PyTreeCheckpointHandler().restore(
            (folder / "state").absolute(),
            args=ocp.args.PyTreeRestore(wanted, arguments, partial_restore=True),
        )
    except Exception as error:  # a damaged file can raise any exception
        raise UserError(f"the checkpoint {folder} cannot be read ({_reason(error)})") from error
    found["params"] = found["params"]["model"]
    for path, leaf in jax.tree.leaves_with_path(stored):
        one = found
        for key in path:
            one = one[key.key]
        # Orbax returns what it does not find as it was asked for, and any shape that it finds.
        if not isinstance(one, np.ndarray) or one.shape != leaf.shape:
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            raise UserError(
                f"the checkpoint {folder} is of another model: no {name} of shape {leaf.shape}"
            )
    return like | found


def _reason(error: Exception) -> str:
    """Returns the first line of an error, or only the system's message for a full disk."""
    full = os.strerror(errno.ENOSPC)
    if full in str(error):
        return full
    return first_line(error)


class _NewestAndBest:
    """Preservation policy of orbax that keeps the newest checkpoints and those of given steps."""

    def __init__(self, newest: int):
        self._newest = newest
        self.best: list[int] = []

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        newest = [checkpoint.step for checkpoint in checkpoints[-self._newest :]]
        return [c.step in newest or c.step in self.best for c in checkpoints]
