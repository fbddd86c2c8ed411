"""``jaxhash evaluate``: a run from its checkpoint, codes made by anything, or indexes."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from jaxhash import metrics
from jaxhash.cli.distributed_flags import ONE_PROCESS, DistributedFlags
from jaxhash.cli.parsing import parse
from jaxhash.retrieval.evaluate_codes import Convention, EvaluationOptions, evaluate_codes
from jaxhash.retrieval.ground_truth import Difficulty
from jaxhash.retrieval.index.manifest import is_index
from jaxhash.utils.errors import UserError


@dataclasses.dataclass(frozen=True)
class EvaluateArguments:
    """Evaluate a run again from its checkpoint, and compare; or codes made by anything; or indexes.

    A file of codes is a .npz with query_codes, query_labels, database_codes and database_labels; or
    a .npz with codes and labels beside one for the --database; or .npy arrays with files of labels.
    Codes are packed uint8, bool, 0/1, -1/+1 or real-valued; labels class ids or multi-hot. Or an index
    of labeled queries, and by --database the index that is searched, both made by jaxhash encode.
    """

    path: Annotated[Path, tyro.conf.Positional]
    """Folder of the run, or file or index of the codes (of the queries, where the database has its own)."""
    data_dir: Path | None = None
    """Of a run: folder of the data, where it has moved since."""
    database: Path | None = None
    """File of the database's codes, or its index."""
    labels: Path | None = None
    """Labels of the codes: .npy, or a list file (a path and its labels on each line)."""
    database_labels: Path | None = None
    """Labels of the database, likewise."""
    k: int | None = None
    """Rank of mAP@k, precision@k, recall@k, hit rate@k and nDCG@k."""
    radius: int = 2
    """Hamming radius of precision, recall and the empty-bucket rate."""
    convention: Convention = next(iter(metrics.CONVENTIONS))
    """What AP divides by, and the rest of it, by the code base that does so; all: mAP by each."""
    relevance: metrics.Relevance = "shared"
    """Relevant is a label in common, the same set of labels, or by degrees (for nDCG)."""
    ground_truth: Path | None = None
    """In place of labels, JSON of each query's relevant and excluded items; or easy, hard and junk."""
    difficulty: Difficulty = "medium"
    """What of easy and hard is relevant (medium: both); the rest is excluded."""
    leave_one_out: tyro.conf.FlagCreatePairsOff[bool] = False
    """No query finds itself, by ids or where one file is both."""
    ranks: tuple[int, ...] = ()
    """Further ranks of the hit rate; by trapezoids, of mP@k too."""
    bits: int | None = None
    """Length of a code, if packed codes end within a byte."""
    zero: metrics.ZeroSign = "+1"
    """What an exact zero of real values counts as."""
    memory_bytes: int | None = None
    """Memory for compressed arrays, by default half of what is free; others go to temporary files (TMPDIR)."""
    compare: Path | None = None
    """Another file of codes of the same items: is its mAP different? Labels of a .npy are the same."""
    compare_database: Path | None = None
    """The database of the other file."""
    output: Path | None = None
    """JSON file for the results."""
    hosts: DistributedFlags = ONE_PROCESS
    """The processes that share the work of a run."""

    @property
    def names_codes(self) -> bool:
        """Returns whether the path is a file or an index of codes rather than the folder of a run."""
        is_file = self.path.suffix.lower() in (".npz", ".npy") and not self.path.is_dir()
        return is_file or is_index(self.path)

    def check_run(self) -> None:
        """Raises `UserError` if the path is no folder, or a flag is given that is for files of codes."""
        if self.path.is_file():
            raise UserError(
                f"{self.path} is neither a file of codes (.npz, .npy) nor a run's folder"
            )
        for field in dataclasses.fields(self):
            if field.name not in ("path", "data_dir", "hosts") and (
                getattr(self, field.name) != field.default
            ):
                raise UserError(
                    f"--{field.name.replace('_', '-')} is for files of codes (.npz, .npy) and indexes, "
                    f"and {self.path} is none"
                )

    def evaluate_codes(self, console: Console, command: str) -> None:
        """Evaluates the file or the index of codes."""
        if self.data_dir is not None:
            raise UserError(f"--data-dir is for the folder of a run, and {self.path} holds codes")
        if self.hosts.distributed:
            raise UserError(
                f"--distributed is for the folder of a run, and {self.path} holds codes"
            )
        names = [field.name for field in dataclasses.fields(EvaluationOptions)]
        evaluate_codes(
            self.path,
            console,
            database=self.database,
            labels=self.labels,
            database_labels=self.database_labels,
            compare=self.compare,
            compare_database=self.compare_database,
            options=EvaluationOptions(**{name: getattr(self, name) for name in names}),
            output=self.output,
            command=command,
        )

    def evaluate_run(self, console: Console) -> None:
        """Evaluates the run, or the sweep, from its checkpoint."""
        self.check_run()
        console = self.hosts.join(console)
        from jaxhash.runs.evaluate_run import evaluate

        evaluate(self.path, console, self.data_dir)


def run(arguments: list[str], console: Console, command: str) -> None:
    """Runs the verb.

    Args:
        arguments: words after ``jaxhash evaluate``.
        console: where to print.
        command: the whole command line, to be stored.
    """
    if not arguments:
        raise UserError(
            "name the folder of a run, or a file or an index of codes; jaxhash evaluate --help lists what is allowed"
        )
    parsed = parse(EvaluateArguments, arguments, prog="jaxhash evaluate")
    parsed.hosts.check()
    if parsed.names_codes:
        parsed.evaluate_codes(console, command)
    else:
        parsed.evaluate_run(console)
