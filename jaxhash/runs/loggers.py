"""Loggers beside metrics.jsonl: TensorBoard, and Weights & Biases; off unless the configuration names them.

A logger is a context manager that gives a function of a record. It takes the records that metrics.jsonl
takes, of the first process alone, after those that were written before the run goes on: it leaves out what
it has already, so that each step is there once.
"""

import contextlib
import importlib.util
import math
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from rich.console import Console

from jaxhash.runs.config import Config
from jaxhash.runs.experiment import Experiment
from jaxhash.runs.metrics_file import MetricsFile, read_metrics, record_interval
from jaxhash.training.distributed import broadcast_from_host0, is_main_process
from jaxhash.utils.console import print_line
from jaxhash.utils.errors import UserError, first_line

#: Takes a record of metrics.jsonl.
Log = Callable[[dict[str, Any]], None]


class Earlier(NamedTuple):
    """What was recorded before a run goes on."""

    step: int
    """Steps done."""
    records: list[dict[str, Any]]
    """Records of these steps; those of later ones are dropped, for they are done again."""


@contextlib.contextmanager
def tensorboard_logger(config: Config, earlier: Earlier, console: Console) -> Iterator[Log]:
    """Writes event files into ``tensorboard/`` of the run's folder; readers drop the steps that are done again."""
    from tensorboardX import SummaryWriter

    folder = config.run.run_dir / "tensorboard"
    is_new = not any(folder.glob("events.*"))
    writer = SummaryWriter(
        str(folder),
        purge_step=None if is_new else earlier.step + 1,
        filename_suffix=f".{earlier.step}",  # the rest of its name is the second
    )

    def log(record: dict[str, Any]) -> None:
        for name, value in _values(record).items():
            writer.add_scalar(name, value, record["step"])
        writer.flush()  # a kill leaves all

    print_line(console, f"records go to TensorBoard too: tensorboard --logdir {folder}")
    with writer:
        for record in earlier.records if is_new else ():
            log(record)
        yield log


@contextlib.contextmanager
def wandb_logger(config: Config, earlier: Earlier, console: Console) -> Iterator[Log]:
    """Logs to Weights & Biases by way of ``wandb/`` of the run's folder, whose name for the run is kept.

    Offline, each start has a folder there with all steps so far: a kill may take the last ones of the
    folder before. W&B's environment variables hold: WANDB_MODE, WANDB_PROJECT and others.

    Raises:
        UserError: if W&B refuses, as without an account.
    """
    import wandb

    folder = config.run.run_dir
    found = sorted((folder / "wandb").glob("*run-*-*"))
    try:
        run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "jaxhash"),
            name=folder.absolute().name,
            id=found[-1].name.rpartition("-")[2] if found else None,
            resume="allow",
            dir=folder,
            config=config.to_json(),
            settings=wandb.Settings(silent=True, console="off", symlink=False),
        )
    except wandb.Error as error:
        reason = first_line(error).rstrip(".")
        raise UserError(f"`log_to=wandb`: {reason}; WANDB_MODE=offline needs no account") from error
    place = f"wandb sync {run.settings.sync_dir}" if run.offline else run.url
    print_line(console, f"records go to W&B too: {place}")
    first = run.step  # after those that the server has; 0 offline

    def log(record: dict[str, Any]) -> None:
        if record["step"] >= first:
            run.log(_values(record), step=record["step"])

    with run:
        for record in earlier.records:
            log(record)
        yield log


def _values(record: dict[str, Any]) -> dict[str, float]:
    """Returns the numbers of a record beside its step; what was not finite is not a number."""
    return {name: math.nan if v is None else v for name, v in record.items() if name != "step"}


#: The loggers by name, each with the package that it needs; their extras have the same names.
LOGGERS = {
    "tensorboard": (tensorboard_logger, "tensorboardX"),
    "wandb": (wandb_logger, "wandb"),
}


def check_loggers(names: Sequence[str]) -> None:
    """Raises a `UserError`, in all processes, if the first one lacks the package of a logger."""

    def check() -> None:
        for name in names:
            _, package = LOGGERS[name]
            spec = importlib.util.find_spec(package)
            if spec is None or spec.origin is None:  # None: a folder of that name
                raise UserError(
                    f"`log_to={name}` needs {package}, which is not installed: "
                    f'pip install "jaxhash[{name}]"'
                )

    broadcast_from_host0(check)


@contextlib.contextmanager
def open_metrics(
    experiment: Experiment, console: Console, *, step: int, members: int
) -> Iterator[MetricsFile | None]:
    """Opens metrics.jsonl, and the loggers beside it; gives None in processes that write nothing.

    Args:
        experiment: what is trained.
        console: where the places of the loggers are printed.
        step: number of steps done.
        members: as of `read_metrics`.
    """
    if not is_main_process():
        yield None
        return
    config = experiment.config
    path = config.run.run_dir / "metrics.jsonl"
    interval = record_interval(config.run.log_every, experiment.total_steps)
    earlier = Earlier(step, [r for r in read_metrics(path, members) if r["step"] <= step])
    with contextlib.ExitStack() as opened:
        logs = [
            opened.enter_context(LOGGERS[name][0](config, earlier, console))
            for name in dict.fromkeys(config.run.log_to)
        ]
        yield opened.enter_context(
            MetricsFile(path, step=step, members=members, interval=interval, logs=logs)
        )
