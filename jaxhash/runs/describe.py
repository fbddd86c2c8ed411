"""Lines of the log that describe a training, and the environment that it runs in."""

import hashlib
from collections.abc import Sequence
from typing import Any

import jax
from rich.console import Console

from jaxhash.objectives import METHODS
from jaxhash.runs.experiment import Experiment
from jaxhash.runs.metrics_file import missing_records, record_interval
from jaxhash.training.devices import hardware
from jaxhash.utils.console import print_line
from jaxhash.utils.hardware import versions

#: Number of unreadable files that the log names.
MOST_NAMED = 10

#: Number of pairs of a step with a bank above which the log says so: those of a batch of 128 take half
#: a second on two cores.
MANY_PAIRS = 1 << 26


def describe(experiment: Experiment, objective: str) -> list[str]:
    """Returns lines on the data with the sizes of its parts, the weights if any, and the training."""
    config, split, devices = experiment.config, experiment.split, jax.devices()
    findings = experiment.findings
    held_out = f"{len(split.validation):,} validation items, " if len(split.validation) else ""
    lines = [
        f"{experiment.source.name}: {len(split.train):,} training items, {held_out}{len(split.query):,} "
        f"queries, {len(split.database):,} in the database; split {split.name}, {split.sha256[:12]}",
        *findings.notes,
        *(f"leak: {sentence}" for sentence in findings.leaks),  # allowed, else an error
        *(f"warning: {sentence}" for sentence in findings.warnings),
    ]
    if config.optimizer.warmup < config.optimizer.warmup_epochs:
        lines.append(f"a training of {config.optimizer.epochs} epoch has no warm-up")
    if weights := experiment.pretrained:
        where = f" (its {weights.prefix}*)" if weights.prefix else ""
        size = config.model.input_size
        resized = f", of images {size} x {size}" if size != config.model.image_size else ""
        lines.append(f"{config.model.model} with the weights of {weights.file}{where}{resized}")
    processes = jax.process_count()
    over = f" in {processes} processes" if processes > 1 else ""
    lines.append(
        f"{objective}, {config.model.bits} bits, {config.optimizer.epochs} epochs of {experiment.steps_per_epoch} steps "
        f"on {len(devices)} x {devices[0].device_kind}{over}"
    )
    if "objective" not in experiment.own:
        rows = config.objective.bank_rows(len(split.train))
        lines += describe_bank(config.objective.objective, experiment.batch_rows, rows)
    if config.optimizer.batch_size > len(split.train):
        lines.append(
            f"warning: `batch_size={config.optimizer.batch_size:,}` is above the {len(split.train):,} training "
            "items: each step sees all of them, beside rows that count for nothing"
        )
    return lines


def describe_bank(method: str, batch_rows: int, bank_rows: int) -> list[str]:
    """Returns a line on the cost of a step that compares very many pairs of a batch and a bank.

    Example:
        >>> describe_bank("dsdh", 128, 10**7)
        ['a step compares a batch of 128 with 10,000,000 rows of a bank, whatever the options of dsdh']
    """
    if batch_rows * bank_rows < MANY_PAIRS:
        return []
    line = f"a step compares a batch of {batch_rows:,} with {bank_rows:,} rows of a bank"
    if METHODS[method].all_items:
        return [f"{line}, whatever the options of {method}"]
    return [
        f"{line}; `objective_options=pairs=batch`, or the last 65,536 rows alone by "
        "`objective_options=bank_size=65536`, cost the same for any number of items"
    ]


def describe_unreadable(experiment: Experiment) -> list[str]:
    """Returns a line on the files that cannot be read and are no items; the first few by name."""
    bad = experiment.source.left_out
    if not bad:
        return []
    more = f"; and {len(bad) - MOST_NAMED:,} more, in results.json" * (len(bad) > MOST_NAMED)
    return [f"warning: {len(bad):,} left out: {'; '.join(bad[:MOST_NAMED])}{more}"]


def print_missing_records(
    records: Sequence[dict[str, Any]], experiment: Experiment, console: Console
) -> bool:
    """Prints a warning if records of a finished training are missing; returns whether any is."""
    steps = experiment.total_steps
    interval = record_interval(experiment.config.run.log_every, steps)
    missing = missing_records(records, interval, steps)
    if missing:
        which = "steps" if interval == 1 else f"steps that are written, every {interval:,},"
        print_line(
            console,
            f"warning: {missing:,} of {-(-steps // interval):,} {which} have no record in metrics.jsonl: "
            "skipped steps, a collapse and the seconds of training are as the others tell",
        )
    return bool(missing)


def environment(experiment: Experiment) -> dict[str, Any]:
    """Returns the hardware and the versions of a training, and the digest of its weights."""
    packages = ("jaxhash", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")
    found = {"hardware": hardware(), "versions": versions(packages)}
    if weights := experiment.pretrained:
        found["weights_sha256"] = hashlib.sha256(weights.file.read_bytes()).hexdigest()
        found["weights_prefix"] = weights.prefix
    return found
