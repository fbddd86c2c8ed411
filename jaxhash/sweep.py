"""Sweeps: several seeds and settings of a run, trained together in one compiled program.

The folder of a sweep holds ``config.json``, ``metrics.jsonl`` with each metric as a list over the
members, ``checkpoints/`` of all of them and, written last, ``results.json``. A member is trained and
evaluated as ``jaxhash train`` would with its seed and its numbers.
"""

import dataclasses
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from jaxhash import report, run
from jaxhash.build import (
    NUMBERS,
    Parts,
    build,
    initial_states,
    make_batches,
    make_lift,
    make_step,
    with_numbers,
)
from jaxhash.composition import objective_words
from jaxhash.config import Config, differences, word
from jaxhash.data.inputs import keep_form, stored_form
from jaxhash.data.scan import keep_index
from jaxhash.errors import UserError
from jaxhash.evaluation import (
    PartEncoder,
    conventions,
    encode_split,
    score_all,
    validation_scores,
)
from jaxhash.fitting import fit_from_checkpoint, tell_speed
from jaxhash.metrics import over_seeds
from jaxhash.retrieval.hierarchy import HIERARCHY_CONVENTIONS
from jaxhash.training.compiled import kept_programs
from jaxhash.training.folder import open_folder
from jaxhash.training.members import (
    ALL_DIVERGED,
    Member,
    SeedBatches,
    Watch,
    best_mapping,
    member_step,
    stack_states,
)
from jaxhash.training.processes import is_first
from jaxhash.training.state import TrainState
from jaxhash.training.stop import end_if_asked, noted
from jaxhash.training.writers import read_metrics, write_json

#: Names of fields of the configuration, each with the values that it takes.
Axes = Mapping[str, Sequence[float]]

#: Share of the training items that chooses among settings where nothing else is said.
VALIDATION = 0.1

#: By what the setting is chosen, the first of these that the run has, and how it is defined.
VALIDATION_CONVENTIONS = {
    "validation_mahp_at_250": "mahp_at_250_among_queries, of the validation items",
    "validation_map": "map, the validation items in search of one another, each without itself",
}

#: What is averaged over the seeds of a setting.
SCORES = (
    *VALIDATION_CONVENTIONS,
    "map",
    "map_worst_ties",
    "map_best_ties",
    "precision_at_radius_2",
    "bit_balance",
    "quantization_error",
    "distinct_codes",
    "bit_correlation",
    *HIERARCHY_CONVENTIONS,
)


@noted()
def train(config: Config, axes: Axes, console: Console, *, seeds: int = 1) -> dict[str, Any]:
    """Train every setting with every seed together, evaluate each, and name the best setting.

    The settings are all combinations of the values of the axes. The best is that of the highest
    mean mAP on the validation items, or mAHP@250 where the run knows what is similar; where none are
    asked for and there are several settings, a tenth of the training items is held out. A member
    whose loss is no longer finite has diverged: the others go on, and its setting is not chosen.

    The same call goes on after an interruption, with the same bits at the end, and does nothing
    for a finished sweep.

    Args:
        config: the run that is varied, with ``run_dir`` the folder of the sweep.
        axes: fields among `jaxhash.build.NUMBERS`, each with its values.
        console: where progress and table are printed.
        seeds: how many, ``config.seed`` the first of them.

    Returns:
        The content of results.json: ``settings`` with means over seeds, ``members``, ``best``, the
        number of a setting, and what they were made from.

    Raises:
        UserError: if the axes, the configuration, the data or the folder do not allow it, or if
            every member diverges.
    """
    config, settings = _checked(config, axes, seeds)
    config, folder = config.located(), config.run_dir
    content = config.to_json() | {"sweep": {"seeds": seeds, "axes": _lists(axes)}}
    _check_folder(folder, config, content)
    if (folder / "results.json").is_file():
        console.print(f"{folder} is finished, nothing is left to do")
        results = json.loads((folder / "results.json").read_text())
        report.print_sweep(results, console)
        return results
    # The states of members are side by side: their banks stay whole on each device.
    parts = build(
        dataclasses.replace(config, spread_banks="never"),
        form=stored_form(folder, config.dataset),
        console=console,
    )
    made_on = run.circumstances(parts)
    end_if_asked()
    members = [
        Member(seed, setting)
        for setting in settings
        for seed in range(config.seed, config.seed + seeds)
    ]
    with (
        open_folder(folder, content),
        kept_programs(folder / "cache" if config.compilation_cache else None),
    ):
        if is_first():
            keep_index(parts.source, folder)
        keep_form(folder, parts.form)
        _describe(config, axes, parts, members, console)
        state, watch = _fit(config, axes, parts, members, console)
        end_if_asked()
        records = read_metrics(folder / "metrics.jsonl")
        tell_speed(records, console, rows=config.batch_size * len(members))
        results = _evaluate(config, axes, parts, members, state, watch, console)
        results |= {"seconds": records[-1]["seconds"], **made_on}
        write_json(folder / "results.json", results)
    report.print_sweep(results, console)
    console.print(f"results are in {folder}")
    return results


def _checked(config: Config, axes: Axes, seeds: int) -> tuple[Config, list[dict[str, float]]]:
    """The configuration with validation items where it needs them, and the settings."""
    for name, values in axes.items():
        if name not in NUMBERS:
            allowed = ", ".join(map(word, NUMBERS))
            raise UserError(f"--sweep cannot vary {word(name)!r}; it can vary {allowed}")
        if not len(values):
            raise UserError(f"--sweep {word(name)} has no values")
        if repeated := [value for value in values if list(values).count(value) > 1]:
            raise UserError(f"--sweep {word(name)} has {repeated[0]:g} twice")
    if seeds < 1:
        raise UserError(f"--seeds must be at least 1, got {seeds}")
    if "quantizer_weight" in axes and config.quantizer == "none":
        raise UserError("--sweep quantizer-weight needs a quantizer, and --quantizer is none")
    if config.on_nan != "stop":
        raise UserError("--on-nan skip is not for a sweep, whose members go on without one another")
    if config.spread_banks == "always":
        raise UserError("--spread-banks always is not for a sweep, whose members share the devices")
    if config.choose != "last":
        raise UserError(f"--choose {config.choose} is not for a sweep, which takes the last epoch")
    settings = [
        dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())
    ]
    if len(settings) > 1 and not config.validation:
        config = dataclasses.replace(config, validation=VALIDATION)
    for setting in settings:
        dataclasses.replace(config, **setting).check()
    dataclasses.replace(config, seed=config.seed + seeds - 1).check()
    run.check_devices(config)
    return config, settings


def _check_folder(folder: Path, config: Config, content: dict[str, Any]) -> None:
    """Raise unless the folder is new, empty, or holds this sweep."""
    path = folder / "config.json"
    if path.is_file():
        try:
            stored = json.loads(path.read_text())
            sweep = stored.pop("sweep", None)
            found = differences(Config.from_json(stored), config)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise UserError(f"{path} is not the configuration of a sweep: {error}") from error
        if sweep is None:
            raise UserError(f"{folder} holds a single run, not a sweep; choose another --run-dir")
        for name, words in (("seeds", "--seeds"), ("axes", "--sweep")):
            there, here = (_axes_words(one[name]) for one in (sweep, content["sweep"]))
            if there != here:
                found.append(f"{words} is {there} there and {here} here")
        if found:
            raise UserError(
                f"{folder} holds another sweep: {'; '.join(found)}; choose another --run-dir"
            )
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(
            f"--run-dir {folder} exists and is not the folder of a sweep; choose another"
        )


def _describe(
    config: Config, axes: Axes, parts: Parts, members: Sequence[Member], console: Console
) -> None:
    seeds = len({member.seed for member in members})
    over = f"{len(members)} members: {seeds} seed{'s' * (seeds > 1)} from {config.seed}"
    if axes:
        over += f", {_axes_words(axes)}"
    lines = [
        *run.describe(config, parts, _objective_name(config, axes)),
        over,
        *run.left_out(parts),
    ]
    if len(members) > seeds:
        held_out = f"{config.validation:g} of the training items, which are held out"
        own = f"the {len(parts.split.validation):,} items of the part validation"
        chosen_on = held_out if "-validation" in parts.split.name else own
        lines.append(f"the setting is chosen on {chosen_on}; the queries are touched once")
    console.print("\n".join(lines), highlight=False, soft_wrap=True)


def _fit(
    config: Config, axes: Axes, parts: Parts, members: Sequence[Member], console: Console
) -> tuple[TrainState, Watch]:
    """Bring the sweep to its last step, from the newest checkpoint if there is one."""
    seeds = list(dict.fromkeys(member.seed for member in members))

    def batches(start: int) -> SeedBatches:
        of_seed = (dataclasses.replace(config, seed=seed) for seed in seeds)
        return SeedBatches([make_batches(each, parts, start=start) for each in of_seed])

    numbers = {
        name: np.array([member.setting[name] for member in members], np.float32) for name in axes
    }
    # A weight of 0 leaves a penalty out, with its state; a weight that is varied is never left out.
    varied = with_numbers(config, parts, {name: jnp.float32(numbers[name][0]) for name in axes})
    state = stack_states(initial_states(config, varied, seeds), len(members) // len(seeds))
    step = member_step(
        lambda numbers: make_step(config, with_numbers(config, parts, numbers)),
        numbers,
        mapping=best_mapping(jax.local_devices()[0].platform, state.params),
    )
    return fit_from_checkpoint(
        config,
        parts,
        state,
        batches,
        make_lift(config, parts, step),
        make_watch=partial(Watch, members, bits=config.bits, rows=run.batch_rows(config, parts)),
        console=console,
        members=len(members),
    )


def _evaluate(
    config: Config,
    axes: Axes,
    parts: Parts,
    members: Sequence[Member],
    state: TrainState,
    watch: Watch,
    console: Console,
) -> dict[str, Any]:
    """All numbers of the sweep, but for its circumstances."""
    split = parts.split
    console.print(
        f"evaluating {len(members)} members: {len(split.query):,} queries on "
        f"{len(split.database):,} items",
        highlight=False,
    )
    encode = PartEncoder(parts)
    variables = jax.device_get(state.variables)
    found = []
    for number, member in enumerate(members):
        diverged = watch.diverged[number]
        scores = None
        if diverged is None:
            mine = jax.tree.map(lambda leaf: leaf[number], variables)  # noqa: B023
            scores = _scores(parts, encode, mine)
            if scores is None:  # broken by the last update, which no metric has seen
                diverged = parts.total_steps
        found.append(
            {
                "seed": member.seed,
                "values": dict(member.setting),
                "scores": scores,
                "diverged_at_step": diverged,
                "collapsed_at_step": next(iter(watch.alarms[number].steps), None),
            }
        )
    if all(member["scores"] is None for member in found):
        raise UserError(ALL_DIVERGED.format(parts.total_steps))
    settings = summarize(found)
    return {
        "bits": config.bits,
        "dataset": config.dataset,
        "split": split.name,
        "split_sha256": split.sha256,
        "items": {
            name: len(getattr(split, name)) for name in ("train", "validation", "query", "database")
        },
        "leaks": list(parts.leaks),
        "equal_inputs": dict(parts.equal_inputs),
        "notes": list(parts.notes),
        "warnings": list(parts.warnings),
        "left_out": list(parts.source.left_out),
        "objective": _objective_name(config, axes),
        "epochs": config.epochs,
        "axes": _lists(axes),
        "seeds": list(dict.fromkeys(member.seed for member in members)),
        "settings": settings,
        "best": best(settings),
        "members": found,
        "conventions": conventions(parts) | VALIDATION_CONVENTIONS,
    }


def _scores(parts: Parts, encode: PartEncoder, variables: Any) -> dict[str, float] | None:
    """The metrics of one member; None if its codes are not finite."""
    codes = encode_split(encode, variables)
    if not all(np.isfinite(part).all() for part in codes.values()):
        return None
    scores = score_all(parts, codes) | validation_scores(parts, encode, variables)
    return {name: scores[name] for name in SCORES if name in scores}


def summarize(members: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each setting with mean and standard deviation over its seeds, by `jaxhash.metrics.over_seeds`.

    Args:
        members: as in results.json.

    Returns:
        Of each setting, in the order of the members, ``values``, ``scores`` and ``diverged``, the
        seeds that did. A setting with such a seed has no scores: a mean over the others would be
        one over the luckier ones.

    Example:
        >>> scores = [{"map": 0.5}, {"map": 0.7}]
        >>> members = [
        ...     {"seed": i, "values": {}, "scores": scores[i], "diverged_at_step": None}
        ...     for i in range(2)
        ... ]
        >>> round(summarize(members)[0]["scores"]["map"]["mean"], 4)
        0.6
    """
    settings = []
    for values, group in itertools.groupby(members, key=lambda member: member["values"]):
        group = list(group)
        diverged = [member["seed"] for member in group if member["diverged_at_step"] is not None]
        scores = None
        if not diverged:
            scores = {
                name: over_seeds([float(member["scores"][name]) for member in group])._asdict()
                for name in group[0]["scores"]
            }
        settings.append({"values": values, "scores": scores, "diverged": diverged})
    return settings


def best(settings: Sequence[dict[str, Any]]) -> int | None:
    """The number of the setting with the highest mean by validation, the first of equals.

    That is mAHP@250 where there is one, else mAP.

    Args:
        settings: as `summarize` returns them.

    Returns:
        None where there is one setting, or none that has not diverged.

    Example:
        >>> scores = [{"validation_map": {"mean": mean}} for mean in (0.5, 0.7)]
        >>> best([{"scores": scores[0]}, {"scores": None}, {"scores": scores[1]}])
        2
    """
    if len(settings) == 1:
        return None
    means = [
        -math.inf if scores is None else scores[_chosen_by(scores)]["mean"]
        for scores in (setting["scores"] for setting in settings)
    ]
    return None if max(means) == -math.inf else means.index(max(means))


def _chosen_by(scores: Mapping[str, Any]) -> str:
    """Which of the scores of a setting chooses among settings."""
    return next(name for name in VALIDATION_CONVENTIONS if name in scores)


def _objective_name(config: Config, axes: Axes) -> str:
    """The loss in words, without a weight that is varied."""
    return objective_words(config, without_weight="quantizer_weight" in axes)


def _lists(axes: Axes) -> dict[str, list[float]]:
    return {name: list(values) for name, values in axes.items()}


def _axes_words(axes: Any) -> str:
    """Axes as the command line has them; a number as it is."""
    if not isinstance(axes, Mapping):
        return str(axes)
    words = [f"{word(name)}={','.join(f'{v:g}' for v in values)}" for name, values in axes.items()]
    return " ".join(words) or "not given"
