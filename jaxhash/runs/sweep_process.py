"""The processes that share a sweep, each on devices of its own: who trains what, and who joins it.

Members are trainings of their own, so the processes exchange nothing and do not wait for one another: each
trains its members in a folder inside that of the sweep, with checkpoints and metrics of them alone, and
the last to finish writes what the sweep has as a whole. A process that is lost costs its own members, and
goes on by its own command.
"""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from jaxhash.data.form_files import is_trained_on
from jaxhash.data.readers.image_files import INDEX_NAME
from jaxhash.runs.folder import process_folder
from jaxhash.runs.metrics_file import read_metrics, write_metrics
from jaxhash.training.members import Member
from jaxhash.utils.errors import UserError
from jaxhash.utils.files import is_number, read_json, write_json

T = TypeVar("T")

#: What a process leaves in its folder once its members are finished; the last to finish reads it.
_MEMBERS = "members.json"


class SweepProcess(NamedTuple):
    """One of the processes that share a sweep.

    Attributes:
        index: its number, from 0.
        count: number of processes. A single one works in the folder of the sweep itself.

    Example:
        >>> [SweepProcess(index, 3).share(["a", "b", "c", "d"]) for index in range(3)]
        [['a'], ['b'], ['c', 'd']]
    """

    index: int = 0
    count: int = 1

    def share(self, members: Sequence[T]) -> Sequence[T]:
        """Returns the members that this process trains; shares differ by one at most.

        Raises:
            UserError: if there is no such process, or a process would have no member.
        """
        if not 0 <= self.index < self.count:
            raise UserError(
                f"`process={self.index}` is none of {self.count} `processes`, numbered from 0"
            )
        if self.count > len(members):
            raise UserError(
                f"`processes={self.count}` is more than the {len(members)} members of the sweep, and "
                "each process needs one"
            )
        first, end = (len(members) * index // self.count for index in (self.index, self.index + 1))
        return members[first:end]

    def folder(self, sweep: Path) -> Path:
        """Returns the folder in which this process trains its members."""
        return sweep if self.count == 1 else process_folder(sweep, self.index)

    def publish(self, sweep: Path, name: str, write: Callable[[Path], Any]) -> None:
        """Writes a file of the sweep whole, also where processes write the same one at once."""
        if self.count == 1:
            write(sweep / name)
            return
        path = self.folder(sweep) / f"sweep-{name}"
        write(path)
        path.replace(sweep / name)

    def finish(self, sweep: Path, own: dict[str, Any]) -> list[int]:
        """Leaves the results of this process to the last one; returns which are not finished.

        Each process writes before it looks for the others, so at least the last one finds all of them.
        Two that finish at once both go on to `join`, and write the same files.

        Args:
            sweep: folder of the sweep.
            own: the results of the ``members`` of this process, and the ``seconds`` of training.
        """
        if self.count == 1:
            return []
        write_json(self.folder(sweep) / _MEMBERS, own)
        folders = enumerate(self._folders(sweep))
        return [index for index, folder in folders if not (folder / _MEMBERS).is_file()]

    def join(
        self, sweep: Path, own: dict[str, Any], members: Sequence[Member], data_sha256: str
    ) -> dict[str, Any]:
        """Returns the results of all processes, which are finished, and joins their metrics.jsonl.

        Args:
            sweep: folder of the sweep.
            own: the results of this process, as given to `finish`.
            members: the members of all processes.
            data_sha256: digest of the data of this process.

        Raises:
            UserError: if another process was trained on other data, or its files are damaged.
        """
        if self.count == 1:
            return own
        found, records = [], []
        for index, folder in enumerate(self._folders(sweep)):
            if not is_trained_on(folder, data_sha256):
                raise UserError(
                    f"the data of {folder} are not those of {self.folder(sweep)}: items, labels or the "
                    "split differ between the hosts; make them alike, and remove the one that is wrong"
                )
            share = self._replace(index=index).share(members)
            found.append(_read_results(folder / _MEMBERS, share))
            records.append(read_metrics(folder / "metrics.jsonl", len(share)))
        joined = join_records(records)
        self.publish(sweep, "metrics.jsonl", lambda path: write_metrics(path, joined))
        for name in ("inputs.json", INDEX_NAME):
            if (made := self.folder(sweep) / name).is_file():
                self.publish(sweep, name, lambda path, made=made: shutil.copyfile(made, path))
        return {name: _join([each[name] for each in found]) for name in own}

    def _folders(self, sweep: Path) -> list[Path]:
        return [process_folder(sweep, index) for index in range(self.count)]


def _read_results(path: Path, members: Sequence[Member]) -> dict[str, Any]:
    """Reads what a process has left with `SweepProcess.finish`; raises unless it is of these members."""
    content = read_json(path, _REMEDY)
    try:
        is_sound = [Member(each["seed"], each["values"]) for each in content["members"]] == members
        is_sound &= content["seconds"] is None or is_number(content["seconds"])
    except (KeyError, TypeError):
        is_sound = False
    if not is_sound:
        raise UserError(f"{path} is damaged (its members are not those of the process); {_REMEDY}")
    return content


def join_records(parts: Sequence[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Joins the records of processes to those of all members, at the steps that all of them recorded.

    Times are those of the slowest process.

    Example:
        >>> one = [{"step": 1, "seconds": 0.5, "loss": [1.0, 2.0]}]
        >>> other = [{"step": 1, "seconds": 0.7, "loss": [3.0]}, {"step": 2, "seconds": 1, "loss": [1]}]
        >>> join_records([one, other])
        [{'step': 1, 'seconds': 0.7, 'loss': [1.0, 2.0, 3.0]}]
    """
    by_step = [{record["step"]: record for record in records} for records in parts]
    joined = []
    for step, first in by_step[0].items():
        if all(step in records for records in by_step):
            together = [records[step] for records in by_step]
            names = [name for name in first if all(name in record for record in together)]
            joined.append({name: _join([record[name] for record in together]) for name in names})
    return joined


def _join(values: list[Any]) -> Any:
    """Joins lists over the members of processes; takes the greatest of one number of each process."""
    if all(isinstance(value, list) for value in values):
        return sum(values, [])
    return max((value for value in values if value is not None), default=None)


_REMEDY = "remove it, and the same jaxhash train of that process writes it anew"
