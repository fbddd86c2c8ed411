"""A run as a folder: train into it, go on where it stopped, evaluate what it holds.

The folder holds ``config.json``, ``metrics.jsonl``, ``checkpoints/``, ``report/`` and, written last,
``results.json``: a run that has it is finished.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

from jaxhash import machine, report
from jaxhash.build import Parts, build, initial_state, make_batches, make_step
from jaxhash.config import Config, differences
from jaxhash.errors import UserError
from jaxhash.evaluation import Codes, draw, encode_split, measure
from jaxhash.training.checkpoint import Checkpoints
from jaxhash.training.loop import fit
from jaxhash.training.parallel import data_parallel, replicate
from jaxhash.training.state import TrainState
from jaxhash.training.writers import MetricsFile, ProgressLine, read_metrics, write_json

#: Rows encoded at a time in evaluation: a multiple of any usual number of devices.
EVALUATION_BATCH = 512


def train(config: Config, console: Console) -> dict[str, Any]:
    """Train, evaluate and report into ``config.run_dir``; return the results.

    The same call goes on after an interruption, with the same bits at the end, and does nothing
    for a finished run.

    Raises:
        UserError: if the configuration, the data or the folder do not allow it.
    """
    config.check()
    devices = jax.local_devices()
    if config.batch_size < len(devices):
        raise UserError(
            f"--batch-size {config.batch_size} is smaller than the {len(devices)} devices; each "
            "needs a row"
        )
    folder = config.run_dir
    _check_folder(folder, config)
    if (folder / "results.json").is_file():
        console.print(f"{folder} is finished, nothing is left to do")
        results = json.loads((folder / "results.json").read_text())
        report.print_table(results, console)
        return results
    parts = build(config)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", config.to_json())
    _describe(config, parts, console)
    state = _fit(config, parts, console)
    codes, results = _evaluate(config, parts, state, console)
    records = read_metrics(folder / "metrics.jsonl")
    results |= {"seconds": records[-1]["seconds"], **_circumstances()}
    before = encode_split(parts, initial_state(config, parts).variables)
    draw(folder / "report", parts, before, codes, results, records)
    write_json(folder / "results.json", results)
    report.print_table(results, console)
    console.print(f"results and plots are in {folder}")
    return results


def evaluate(folder: Path, console: Console, data_dir: Path | None = None) -> dict[str, Any]:
    """Compute the metrics of a finished run again from its checkpoint, and compare.

    Raises:
        UserError: if the folder holds no finished run, or a number differs from its results.
    """
    for name in ("config.json", "results.json"):
        if not (folder / name).is_file():
            raise UserError(f"{folder} is no finished run: it has no {name}")
    config = _read_config(folder)
    config = dataclasses.replace(config, run_dir=folder, data_dir=data_dir or config.data_dir)
    parts = build(config)
    if not (folder / "checkpoints" / str(parts.total_steps)).is_dir():
        raise UserError(f"{folder} has no checkpoint of its last step, {parts.total_steps}")
    like = replicate(initial_state(config, parts), jax.local_devices())
    with Checkpoints(folder / "checkpoints") as checkpoints:
        state, _ = checkpoints.restore(like)
    _, results = _evaluate(config, parts, state, console)
    report.print_table(results, console)
    stored = json.loads((folder / "results.json").read_text())
    different = [key for key in results if results[key] != stored.get(key)]
    if different:
        found = "; ".join(
            f"{key} {_short(stored.get(key))}, now {_short(results[key])}" for key in different
        )
        raise UserError(f"not what {folder / 'results.json'} says: {found}")
    console.print(f"every number equals that of {folder / 'results.json'}, to the last digit")
    return results


def _short(value: Any) -> str:
    """A number or a name as it is; a table of them as an ellipsis."""
    return "..." if isinstance(value, dict) else str(value)


def _check_folder(folder: Path, config: Config) -> None:
    """Raise unless the folder is new, empty, or holds a run of this configuration."""
    if (folder / "config.json").is_file():
        found = differences(_read_config(folder), config)
        if found:
            raise UserError(
                f"{folder} holds another run: {'; '.join(found)}; choose another --run-dir"
            )
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"--run-dir {folder} exists and is not the folder of a run; choose another")


def _read_config(folder: Path) -> Config:
    path = folder / "config.json"
    try:
        return Config.from_json(json.loads(path.read_text()))
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path} is not the configuration of a run: {error}") from error


def _describe(config: Config, parts: Parts, console: Console) -> None:
    split, devices = parts.split, jax.local_devices()
    console.print(
        f"{config.dataset}: {len(split.train):,} training items, {len(split.query):,} queries, "
        f"{len(split.database):,} in the database; split {split.sha256[:12]}\n"
        f"{config.objective_name}, {config.bits} bits, {config.epochs} epochs of "
        f"{parts.steps_per_epoch} steps on {len(devices)} x {devices[0].device_kind}",
        highlight=False,
    )


def _fit(config: Config, parts: Parts, console: Console) -> TrainState:
    """Bring the state to the last step, from the newest checkpoint if there is one."""
    devices = jax.local_devices()
    batches = make_batches(config, parts)
    state = replicate(initial_state(config, parts), devices)
    with Checkpoints(config.run_dir / "checkpoints") as checkpoints:
        start = checkpoints.latest_step or 0
        if start:
            console.print(f"going on from step {start} of {parts.total_steps}")
            state, position = checkpoints.restore(state)
            batches.set_state(position)
        with (
            MetricsFile(config.run_dir / "metrics.jsonl", step=start) as metrics_file,
            ProgressLine(
                console, total=parts.total_steps, start=start, batch_size=config.batch_size
            ) as progress,
        ):
            return fit(
                state,
                batches,
                data_parallel(make_step(parts), devices),
                start=start,
                total_steps=parts.total_steps,
                checkpoint_every=config.checkpoint_every,
                checkpoints=checkpoints,
                metrics_file=metrics_file,
                progress=progress,
            )


def _evaluate(
    config: Config, parts: Parts, state: TrainState, console: Console
) -> tuple[Codes, dict[str, Any]]:
    """The codes of queries and database, and all numbers that follow from them."""
    split = parts.split
    console.print(
        f"evaluating {len(split.query):,} queries on {len(split.database):,} items", highlight=False
    )
    codes = encode_split(parts, state.variables)
    facts = {
        "bits": config.bits,
        "seed": config.seed,
        "dataset": config.dataset,
        "split": split.name,
        "split_sha256": split.sha256,
        "items": {name: len(getattr(split, name)) for name in ("train", "query", "database")},
        "objective": config.objective_name,
        "epochs": config.epochs,
    }
    return codes, measure(parts, codes, seed=config.seed) | facts


def _circumstances() -> dict[str, Any]:
    packages = ("jaxhash", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")
    return {"hardware": machine.hardware(), "versions": machine.versions(packages)}
