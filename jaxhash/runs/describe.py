"""What the log says of a training: its first lines, and what is missing at the end."""

from collections.abc import Sequence
from typing import Any

import jax
from rich.console import Console

from jaxhash.runs.config import Config
from jaxhash.runs.experiment import Parts
from jaxhash.utils.console import print_line

#: Of files that cannot be read so many are named in the log.
MOST_NAMED = 10


def describe(config: Config, parts: Parts, objective: str) -> list[str]:
    """The data with the sizes of its parts, the weights if any, and the training, a line each."""
    split, devices = parts.split, jax.devices()
    held_out = f"{len(split.validation):,} validation items, " if len(split.validation) else ""
    lines = [
        f"{config.dataset}: {len(split.train):,} training items, {held_out}{len(split.query):,} "
        f"queries, {len(split.database):,} in the database; split {split.name}, {split.sha256[:12]}",
        *parts.notes,
        *(f"leak: {sentence}" for sentence in parts.leaks),  # allowed, or we were not here
        *(f"warning: {sentence}" for sentence in parts.warnings),
    ]
    if config.warmup < config.warmup_epochs:
        lines.append(f"a training of {config.epochs} epoch has no warm-up")
    if weights := parts.pretrained:
        where = f" (its {weights.prefix}*)" if weights.prefix else ""
        lines.append(f"{config.model} with the weights of {weights.file}{where}")
    processes = jax.process_count()
    over = f" in {processes} processes" if processes > 1 else ""
    lines.append(
        f"{objective}, {config.bits} bits, {config.epochs} epochs of {parts.steps_per_epoch} steps "
        f"on {len(devices)} x {devices[0].device_kind}{over}"
    )
    if config.batch_size > len(split.train):
        lines.append(
            f"warning: --batch-size {config.batch_size:,} is above the {len(split.train):,} training "
            "items: each step sees all of them, beside rows that count for nothing"
        )
    return lines


def left_out(parts: Parts) -> list[str]:
    """The files that are no items as they cannot be read, the first few by name."""
    bad = parts.source.left_out
    if not bad:
        return []
    more = f"; and {len(bad) - MOST_NAMED:,} more, in results.json" * (len(bad) > MOST_NAMED)
    return [f"warning: {len(bad):,} left out: {'; '.join(bad[:MOST_NAMED])}{more}"]


def tell_missing(records: Sequence[Any], steps: int, console: Console) -> bool:
    """Say so if steps of a training that is through have no record; return whether they have not."""
    missing = steps - len(records)
    if missing:
        print_line(
            console,
            f"warning: {missing:,} of {steps:,} steps have no record in metrics.jsonl: skipped steps, "
            "a collapse and the seconds of training are as the others tell",
        )
    return bool(missing)
