"""Speed of a training: examples a second, and the share of the loss in a step."""

import statistics
from functools import partial
from typing import Any

import jax
from rich.console import Console

from jaxhash.runs.experiment import Experiment
from jaxhash.training.distributed import is_main_process
from jaxhash.training.parallel import DataParallel
from jaxhash.training.speed import Speed
from jaxhash.training.timing import time_alternately
from jaxhash.utils.console import print_line
from jaxhash.utils.files import write_json


def time_loss(experiment: Experiment, step: DataParallel, console: Console) -> None:
    """Times the step as it is, and the loss with its gradient in the codes alone."""
    state = [step.to_local(step.replicate(experiment.initial_state()))]
    batch = step.shard_batch(next(experiment.batches()))

    def call(mapped):
        state[0], metrics = mapped(state[0], batch)
        jax.block_until_ready(metrics)

    calls = {"loss": partial(call, experiment.make_loss_step()), "step": partial(call, step)}
    seconds = time_alternately(calls, repeats=20, budget_seconds=20.0)
    loss_seconds, step_seconds = (statistics.median(seconds[name]) for name in ("loss", "step"))
    found = {"step_seconds": step_seconds, "loss_seconds": loss_seconds}
    if is_main_process():
        folder = experiment.config.run.run_dir / "profile"
        folder.mkdir(exist_ok=True)
        write_json(folder / "loss.json", found | {"loss_share": loss_seconds / step_seconds})
    print_line(
        console,
        f"the loss and its gradient in the codes take {1e3 * loss_seconds:.2f} of "
        f"{1e3 * step_seconds:.2f} ms, {loss_seconds / step_seconds:.0%} of a step",
    )


def log_throughput(
    records: list[dict[str, Any]], console: Console, *, rows: int
) -> dict[str, dict[str, float]]:
    """Prints how fast a training was, and returns it as results hold it; empty if it is unknown.

    Args:
        records: the run's metrics.jsonl.
        console: where it is printed.
        rows: examples of a step.
    """
    speed = Speed.from_records(records, rows=rows)
    if speed is None:
        return {}
    print_line(console, f"{speed}")
    return {"speed": speed._asdict()}
