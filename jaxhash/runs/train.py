"""A run as a folder: train into it, go on where it stopped, evaluate what it holds.

The folder holds ``config.json``, ``inputs.json``, ``metrics.jsonl``, ``checkpoints/``, ``cache/`` with
compiled programs, ``report/``, ``codes.npz`` and, written last, ``results.json``: a run that has it is
finished. While one training has the folder, no other gets it (``lock``). Of several processes all train
and evaluate, and the first writes.
"""

import hashlib
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float
from rich.console import Console

from jaxhash import models, report
from jaxhash.data.input_form import has_learned_from, keep_form, stored_form
from jaxhash.data.readers.image_files import keep_index
from jaxhash.ops.codes import binarize
from jaxhash.retrieval import baselines
from jaxhash.runs.config import Config, differences
from jaxhash.runs.describe import describe, left_out, tell_missing
from jaxhash.runs.evaluation import (
    Codes,
    SplitEncoder,
    candidate_score,
    draw,
    encode_drawn,
    encode_split,
    flip_rate,
    measure,
)
from jaxhash.runs.experiment import (
    Parts,
    augmentation,
    build,
    initial_state,
    make_batches,
    make_data_parallel,
    make_step,
)
from jaxhash.runs.files import (
    check_free,
    compare_results,
    print_results,
    read_config,
    read_finished,
    read_results,
)
from jaxhash.runs.fitting import fit_from_checkpoint, log_throughput, tell_memory, time_loss
from jaxhash.runs.folder import open_folder
from jaxhash.runs.metrics_file import read_metrics
from jaxhash.training.checkpoint import Checkpoints
from jaxhash.training.collapse import CollapseAlarm
from jaxhash.training.compilation_cache import compilation_cache
from jaxhash.training.devices import hardware
from jaxhash.training.distributed import broadcast_from_host0, is_main_process
from jaxhash.training.loop import Monitor, SkipCounter, check_finite
from jaxhash.training.model_selection import SELECTION_DESCRIPTIONS, select_model
from jaxhash.training.state import TrainState
from jaxhash.training.stop import defer_signals, raise_if_stop_requested
from jaxhash.utils.console import print_line, track_progress
from jaxhash.utils.errors import UserError
from jaxhash.utils.files import whole_file, write_json
from jaxhash.utils.hardware import versions


@defer_signals()
def train(config: Config, console: Console, *, profile: bool = False) -> dict[str, Any]:
    """Train, evaluate and report into ``config.run_dir``; return the results.

    The same call goes on after an interruption, with the same bits at the end, and does nothing
    for a finished run.

    Args:
        config: what is trained.
        console: where progress and table are printed.
        profile: whether to trace a few steps into ``profile/``, and to time the loss by itself.

    Raises:
        KeyboardInterrupt: if Ctrl-C was pressed, at a place where nothing is broken by it.
        Stopped: if SIGTERM was sent, likewise.
        UserError: if the configuration, the data or the folder do not allow it.
    """
    config.check()
    check_devices(config)
    config, folder = config.located(), config.run_dir
    if results := broadcast_from_host0(lambda: finished(folder, config)):
        print_line(console, f"{folder} is finished, nothing is left to do")
        if profile:
            print_line(console, "--profile: no step is left to trace")
        print_results(folder, results, console)
        return results
    parts = build(config, form=stored_form(config.run_dir, config.dataset), console=console)
    made_on = environment(parts)
    raise_if_stop_requested()
    with (
        open_folder(folder, config.to_json()),
        compilation_cache(folder / "cache" if config.compilation_cache else None),
    ):
        if is_main_process():
            keep_index(parts.source, folder)
        keep_form(folder, parts.form, parts.data_sha256)
        _describe(config, parts, console)
        encode = SplitEncoder(parts)
        _fit(config, parts, encode, console, profile=profile)
        raise_if_stop_requested()
        records = broadcast_from_host0(lambda: read_metrics(folder / "metrics.jsonl", 0))
        speed = log_throughput(records, console, rows=config.batch_size)
        track = partial(track_progress, console=console)
        before = encode_drawn(encode, parts, initial_state(config, parts).variables, track)
        results = finish(
            config, parts, encode, records, console, before=before, notes={**speed, **made_on}
        )
    report.print_run(results, console)
    print_line(console, f"results and plots are in {folder}")
    return results


def finish(
    config: Config,
    parts: Parts,
    encode: SplitEncoder,
    records: list[dict[str, Any]],
    console: Console,
    *,
    before: Float[np.ndarray, "items bits"],
    notes: dict[str, Any],
    chosen: tuple[TrainState, dict[str, Any]] | None = None,
    known: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Evaluate a training that is through, and write codes, report and, at last, results.json.

    Args:
        config: what was trained.
        parts: what it determines.
        encode: encoder of the data.
        records: the run's metrics.jsonl.
        console: where progress is printed.
        before: codes of items of the database before training, by `encode_drawn`.
        notes: what else the results hold.
        chosen: the state that its rule chooses, and why; read from the checkpoint if not given.
        known: results of another run of the same data, split and bits, whose baselines are taken.

    Returns:
        The results.

    Raises:
        NotFinite: if the model's codes are not finite.
    """
    folder = config.run_dir
    codes, results = _evaluate(config, parts, encode, records, console, chosen, known)
    tell_missing(records, parts.total_steps, console)
    results |= {"seconds": records[-1]["seconds"] if records else None, **notes}
    if is_main_process():
        draw(folder / "report", parts, before, codes, results, records)
        _write_codes(folder / "codes.npz", parts, codes)
    peak = tell_memory(console)
    if "speed" in results:
        results["speed"]["peak_bytes_with_evaluation"] = peak
    if is_main_process():
        write_json(folder / "results.json", results)
    return results


class NotFinite(UserError):
    """A model makes codes that are not finite."""


def dry_run(config: Config, console: Console) -> None:
    """Print what `train` would train: the data, and the model's stages with their cost.

    Nothing is written.

    Raises:
        UserError: if the configuration, the data or the weights do not allow it.
    """
    config.check()
    parts = build(config, console=console)
    _describe(config, parts, console)
    report.print_model_summary(models.summary(parts.model, parts.source.inputs[:1]), console)


def evaluate(folder: Path, console: Console, data_dir: Path | None = None) -> dict[str, Any]:
    """Compute the metrics of a finished run again from its checkpoint, and compare.

    What an older version did not write into ``results.json`` is named, and no difference.

    Raises:
        UserError: if the folder holds no finished run, or a number differs from its results.
    """
    config, sweep = read_finished(folder, data_dir)
    if sweep is not None:
        raise UserError(f"{folder} holds a sweep, not a single run")
    parts = build_again(config, console)
    return compare_again(config, parts, SplitEncoder(parts), console)


def build_again(config: Config, console: Console) -> Parts:
    """`build` for a run that is finished."""
    try:
        form = stored_form(config.run_dir, config.dataset)
        parts = build(config, form=form, console=console)
    except UserError as error:  # of a value that config.json has, or of data that are not there
        raise UserError(f"{config.run_dir}: {error}") from error
    if not has_learned_from(config.run_dir, parts.data_sha256):
        print_line(
            console,
            "warning: the data are not those of the training: items, labels or the split have changed "
            "since",
        )
    return parts


def compare_again(
    config: Config, parts: Parts, encode: SplitEncoder, console: Console
) -> dict[str, Any]:
    """Evaluate the finished run in ``config.run_dir`` again, and compare with its results.

    Raises:
        UserError: if its files are damaged or gone, or a number differs.
    """
    folder = config.run_dir
    stored, records = read_results(folder), read_metrics(folder / "metrics.jsonl", 0)
    if not (folder / "checkpoints" / str(parts.total_steps)).is_dir():
        raise UserError(
            f"{folder} has no checkpoint of its last step, {parts.total_steps}: put it back, or remove "
            "results.json, and the same jaxhash train makes both anew"
        )
    _, results = _evaluate(config, parts, encode, records, console)
    report.print_run(results, console)
    if tell_missing(records, parts.total_steps, console):
        del results["skipped_steps"], results["collapsed_at_step"]
    stored["objective"] = results["objective"]  # by config.json; its words may change
    different, missing = compare_results(stored, results)
    if different:
        raise UserError(f"not what {folder / 'results.json'} says: {'; '.join(different)}")
    unwritten = f" (but for {', '.join(missing)}, not in it)" if missing else ""
    print_line(
        console,
        f"every number equals that of {folder / 'results.json'}, to the last digit{unwritten}",
    )
    return results


def check_devices(config: Config) -> None:
    """Raise a `UserError` if the batch cannot be spread over the devices of all processes."""
    devices, processes = len(jax.devices()), jax.process_count()
    if config.batch_size < devices:
        raise UserError(
            f"--batch-size {config.batch_size} is smaller than the {devices} devices; each needs a "
            "row"
        )
    if config.batch_size % processes:
        raise UserError(
            f"--batch-size {config.batch_size} is no multiple of the {processes} processes"
        )


def _write_codes(path: Path, parts: Parts, codes: Codes) -> None:
    """Codes, labels and names of queries and database, as `jaxhash evaluate` reads them."""
    arrays = {}
    for name, side in codes.items():
        arrays[f"{name}_codes"] = binarize(side)
        items = getattr(parts.split, name)
        arrays[f"{name}_labels"] = parts.source.labels[items]
        names = parts.source.names_of(items)
        if names is not None:
            arrays[f"{name}_names"] = names
    with whole_file(path, "wb") as file:
        np.savez_compressed(file, **arrays)


def finished(folder: Path, config: Config) -> dict[str, Any] | None:
    """The results of a run that is finished, or None.

    Raises:
        UserError: unless the folder is free, or this run's.
    """
    if check_free(folder, "run"):
        return None
    stored, sweep = read_config(folder)
    if sweep is not None:
        raise UserError(f"{folder} holds a sweep, not a single run")
    if found := differences(stored, config):
        raise UserError(f"{folder} holds another run: {'; '.join(found)}; choose another --run-dir")
    return read_results(folder) if (folder / "results.json").is_file() else None


def _describe(config: Config, parts: Parts, console: Console) -> None:
    split = parts.split
    lines = describe(config, parts, config.objective_name)
    lines += left_out(parts)
    if config.choose != "last":
        lines.append(f"the model is {SELECTION_DESCRIPTIONS[config.choose]}")
    if len(split.validation) and config.choose != "validation":
        lines.append(f"the validation items are not looked at: --choose is {config.choose}")
    console.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)


def _fit(
    config: Config, parts: Parts, encode: SplitEncoder, console: Console, *, profile: bool
) -> None:
    """Bring the run to its last step, from the newest checkpoint if there is one."""
    parallel_step = make_data_parallel(config, parts, make_step(config, parts))
    batches = partial(make_batches, config, parts)
    state, _ = fit_from_checkpoint(
        config,
        parts,
        initial_state(config, parts),
        batches,
        parallel_step,
        make_monitor=partial(_make_monitor, config, parts),
        console=console,
        score=candidate_score(config.choose, parts, encode),
        profile=config.run_dir / "profile" if profile else None,
    )
    if profile:
        time_loss(config, parts, parallel_step, state, next(batches()), console)


def _make_monitor(config: Config, parts: Parts, records: list[dict[str, Any]]) -> Monitor:
    """Stops a training whose loss is not finite, or whose codes collapse; or warns, and counts."""
    alarm, skips = _alarm(config, parts, records), SkipCounter(records)

    def monitor(step: int, metrics: dict[str, Any]) -> str | None:
        if skipped := skips.update(step, metrics):
            return skipped
        check_finite(step, metrics)
        collapsed = alarm.update(step, metrics)
        if collapsed and config.on_collapse == "stop":
            raise UserError(
                f"training stopped at step {step}: {collapsed}; --on-collapse warn goes on, and the "
                "checkpoints from before stay"
            )
        return collapsed and f"warning: step {step}: {collapsed}"

    return monitor


def _alarm(config: Config, parts: Parts, records: list[dict[str, Any]]) -> CollapseAlarm:
    """The collapse alarm as the run's records leave it; a step that was skipped tells nothing."""
    taken = [record for record in records if not record.get("skipped")]
    return CollapseAlarm(bits=config.bits, rows=batch_rows(config, parts), records=taken)


def batch_rows(config: Config, parts: Parts) -> int:
    """Rows of a full batch that are no padding."""
    return min(config.batch_size, len(parts.split.train))


def _chosen(config: Config, parts: Parts, console: Console) -> tuple[TrainState, dict[str, Any]]:
    """The state of a trained run that its rule chooses, and why.

    Raises:
        UserError: if its checkpoint is not there.
    """
    like = make_data_parallel(config, parts, make_step(config, parts)).replicate(
        initial_state(config, parts)
    )
    with Checkpoints(
        config.run_dir / "checkpoints", print_line=partial(print_line, console)
    ) as checkpoints:
        choice = select_model(
            config.choose,
            checkpoints.candidates,
            epochs=config.epochs,
            total_steps=parts.total_steps,
        )
        if choice["step"] not in checkpoints.steps:
            raise UserError(
                f"{config.run_dir} has no checkpoint of the model chosen, of step {choice['step']}"
            )
        state = checkpoints.restore(like, choice["step"])
    return state, choice


def _evaluate(
    config: Config,
    parts: Parts,
    encode: SplitEncoder,
    records: list[dict[str, Any]],
    console: Console,
    chosen: tuple[TrainState, dict[str, Any]] | None = None,
    known: dict[str, Any] | None = None,
) -> tuple[Codes, dict[str, Any]]:
    """The codes of queries and database, and all numbers that follow from them; see `finish`."""
    split = parts.split
    state, choice = chosen or _chosen(config, parts, console)
    console.print(
        f"evaluating {len(split.query):,} queries on {len(split.database):,} items", highlight=False
    )
    track = partial(track_progress, console=console)
    codes = encode_split(encode, state.variables, track)
    if not all(np.isfinite(part).all() for part in codes.values()):
        raise NotFinite(
            f"the model of step {choice['step']} makes codes that are not finite; a lower "
            "--learning-rate or --clip-norm may help"
        )
    facts = {
        "bits": config.bits,
        "seed": config.seed,
        "dataset": config.dataset,
        "split": split.name,
        "split_sha256": split.sha256,
        "items": {
            name: len(getattr(split, name)) for name in ("train", "validation", "query", "database")
        },
        "leaks": list(parts.leaks),
        "equal_inputs": dict(parts.equal_inputs),
        "notes": list(parts.notes),
        "left_out": list(parts.source.left_out),
        "objective": config.objective_name,
        "epochs": config.epochs,
        "model_choice": choice,
        "skipped_steps": sum(record.get("skipped", 0) for record in records),
        "collapsed_at_step": next(iter(_alarm(config, parts, records).steps), None),
        "flip_rate": flip_rate(
            parts,
            encode,
            state.variables,
            codes,
            augment=augmentation(config),
            seed=config.seed,
        ),
    }
    measured = measure(
        parts,
        codes,
        seed=config.seed,
        beside=config.baselines,
        memory_bytes=config.memory_bytes,
        track=track,
        known=known,
    )
    lost = baselines.describe_stronger_baselines(measured)
    facts["warnings"] = [*parts.warnings, *measured["warnings"], *lost]
    return codes, measured | facts


def environment(parts: Parts) -> dict[str, Any]:
    """What a run was made on, and the weights it began with."""
    packages = ("jaxhash", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")
    found = {"hardware": hardware(), "versions": versions(packages)}
    if weights := parts.pretrained:
        found["weights_sha256"] = hashlib.sha256(weights.file.read_bytes()).hexdigest()
        found["weights_prefix"] = weights.prefix
    return found
